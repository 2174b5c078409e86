"""Results of trials as text: the rows of trials.csv and the table on the terminal."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deft_jax.annealing.freezing_points import Point
from deft_jax.annealing.instrument import Result


def csv_text(
    factor_names: Sequence[str],
    factor_of_trial: Sequence[str],
    bases_TxF: np.ndarray,
    bounds_T: np.ndarray,
    slow: Sequence[Point],
    fast: Sequence[Point],
) -> str:
    """The content of trials.csv, one row per trial.

    Args:
      factor_names: all factors of the data set.
      factor_of_trial: the factor that each trial sweeps.
      bases_TxF: values of the factors that each trial fixes; that of its swept factor is left out.
      bounds_T: freezing points from the spectra of the sweeps.
      slow: freezing points.
      fast: freezing points at twice the speed.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ["trial", "factor", *(f"fixed_{name}" for name in factor_names), "bound"]
    writer.writerow([*head, "ifp", "censored", "ifp_at_double_speed", "censored_at_double_speed"])
    trials = zip(factor_of_trial, bases_TxF.tolist(), bounds_T, slow, fast, strict=True)
    for index, (factor, base, bound, point, fast_point) in enumerate(trials):
        fixed = ["" if name == factor else value for name, value in zip(factor_names, base, strict=True)]
        points = [f"{point.beta:.6g}", point.censored, f"{fast_point.beta:.6g}", fast_point.censored]
        writer.writerow([index, factor, *fixed, f"{bound:.6g}", *points])
    return text.getvalue()


def terminal_text(result: Result, num_trials: int) -> str:
    """A table of the factors by falling freezing point, and notes on convergence in speed.

    Args:
      result: the entry 'trials' of freezing.json.
      num_trials: trials per factor.
    """
    lines = [
        f"Trials, {num_trials} per factor: beta at which the KL rises through {result['threshold']:g} nat, from "
        f"{result['beta_max']:.4g} to {result['beta_min']:g}",
        f"{'factor':<14}{'median':>8}{'quartiles':>15}{'95 % of median':>17}{'above':>7}{'below':>7}"
        f"{'bound':>8}{'lag':>6}{'half speed':>12}",
    ]
    factors = result["factors"]
    ordered = sorted(factors, key=lambda name: -Point(**factors[name]["median"]).order)
    lines += [_factor_line(name, factors[name]) for name in ordered]
    lines += _convergence_lines(factors)
    linear_lag = 1 - math.exp(-2 * result["threshold"])
    lines.append(
        "Lag: how far below the bound of its sweep a trial froze, median over trials; without any delay a linear\n"
        f"model passes the threshold {linear_lag:.0%} below it."
    )
    return "\n".join(lines)


def _factor_line(name: str, summary: Mapping[str, Any]) -> str:
    low, high = (str(Point(**point)) for point in summary["quartiles"])
    interval = "too few trials"
    if summary["interval"]:
        interval = " to ".join(str(Point(**point)) for point in summary["interval"])
    lag = "" if summary["lag"] is None else f"{summary['lag']:.0%}"
    shift = summary["shift_by_halving_the_speed"]
    return (
        f"{name:<14}{Point(**summary['median'])!s:>8}{f'{low} to {high}':>15}{interval:>17}{summary['above']:>7}"
        f"{summary['below']:>7}{summary['bound']:>8.3g}{lag:>6}{'' if shift is None else f'{shift:+.0%}':>12}"
    )


def _convergence_lines(factors: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Whether halving the speed moved the medians by more than their uncertainty."""
    within = {name: summary["shift_within_interval"] for name, summary in factors.items()}
    shifted = [name for name in within if within[name] is False]
    unknown = [name for name in within if within[name] is None]
    lines = []
    if shifted:
        names = ", ".join(shifted)
        lines.append(f"Not converged in speed: halving it moved the median of {names} by more than its interval.")
    elif not unknown:
        lines.append("Halving the speed moved every median by less than its uncertainty.")
    if unknown:
        lines.append(f"Convergence in speed unknown for {', '.join(unknown)}: too few trials, or censored.")
    return lines
