"""Comparisons of samples with confidence intervals, for pages that compare runs; the tests are those of scipy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

CONFIDENCE = 0.95

Result = dict[str, Any]


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for several tests by the rule of Holm (1979): one at most 0.05 is rejected at a level of 0.05.

    Args:
      p_values: of the single tests.

    Returns:
      Adjusted values in the same order, at most 1: the largest of (m - i) p_(i) over the values up to each, with p_(i)
      in ascending order, i from 0.
    """
    p_values = np.asarray(p_values, float)
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1.0)
    return adjusted.tolist()


def with_holm(results: Sequence[Result], field: str = "p") -> list[Result]:
    """The results with `FIELD_holm`, the adjusted value of a field over all of them."""
    adjusted = holm([result[field] for result in results])
    return [result | {f"{field}_holm": value} for result, value in zip(results, adjusted, strict=True)]


def mean_interval(values: Sequence[float]) -> Result:
    """Mean, sample deviation and t interval of the mean; None where one value does not tell."""
    values = np.asarray(values, float)
    result = {"mean": float(values.mean()), "deviation": None, "low": None, "high": None, "count": len(values)}
    if len(values) > 1:
        low, high, _ = _t_test(values)
        result |= {"deviation": float(values.std(ddof=1)), "low": low, "high": high}
    return result


def above(values: Sequence[float], bound: float) -> float:
    """P of a one-sided t-test: small where the mean is above the bound."""
    if len(values) < 2:
        return 1.0
    if np.ptp(values) == 0:
        return float(values[0] <= bound)
    return float(stats.ttest_1samp(values, bound, alternative="greater").pvalue)


def paired(first: Sequence[float], second: Sequence[float] | float = 0.0) -> Result:
    """The mean of first - second over pairs, its t interval and the p of a two-sided paired t-test."""
    differences = np.subtract(first, second)
    low, high, p = _t_test(differences)
    return {"difference": float(differences.mean()), "low": low, "high": high, "p": p, "count": len(differences)}


def welch(first: Sequence[float], second: Sequence[float]) -> Result:
    """The difference of two means, its interval and p by Welch's t-test, which allows unequal variances."""
    test = stats.ttest_ind(first, second, equal_var=False)
    interval = test.confidence_interval(CONFIDENCE)
    return {
        "difference": float(np.mean(first) - np.mean(second)),
        "low": float(interval.low),
        "high": float(interval.high),
        "p": float(test.pvalue),
    }


def equal_variance(first: Sequence[float], second: Sequence[float]) -> Result:
    """The ratio of two deviations, first / second, and p of equal variances by Brown and Forsythe (1974)."""
    ratio = float(np.std(first, ddof=1) / np.std(second, ddof=1))
    return {"ratio": ratio, "p": float(stats.levene(first, second, center="median").pvalue)}


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> Result:
    """Spearman's rank correlation, its p, and an interval by Fisher's transformation of the ranks' correlation.

    Equal values have no order to agree with: their correlation is 0. Fewer than four pairs tell no interval.
    """
    result = {"rho": 0.0, "low": -1.0, "high": 1.0, "p": 1.0, "count": len(first)}
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return result
    test = stats.spearmanr(first, second)
    if len(first) > 3:
        of_ranks = stats.pearsonr(stats.rankdata(first), stats.rankdata(second))
        interval = of_ranks.confidence_interval(CONFIDENCE)
        result |= {"low": float(interval.low), "high": float(interval.high), "p": float(test.pvalue)}
    return result | {"rho": float(test.statistic)}


def by_draw(first: Sequence[float], second: Sequence[float]) -> float:
    """P of Wilcoxon's signed-rank test of the ratios of positive numbers that belong together."""
    differences = np.log(first) - np.log(second)
    return float(stats.wilcoxon(differences).pvalue) if np.any(differences) else 1.0


def superiority(first: Sequence[float], second: Sequence[float]) -> Result:
    """The probability that a value of the first sample is above one of the second, ties half, and p of Mann-Whitney."""
    test = stats.mannwhitneyu(first, second)
    return {"probability": float(test.statistic / (len(first) * len(second))), "p": float(test.pvalue)}


def _t_test(values: np.ndarray) -> tuple[float, float, float]:
    """Interval of the mean, and p of the two-sided test that it is 0.

    One value tells nothing, so its interval is unbounded; of equal values it is the value itself, and p is 0 or 1.
    """
    if len(values) < 2:
        return -np.inf, np.inf, 1.0
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0]), float(values[0] == 0)
    test = stats.ttest_1samp(values, 0.0)
    interval = test.confidence_interval(CONFIDENCE)
    return float(interval.low), float(interval.high), float(test.pvalue)
