"""What each claim of the paper requires, as conditions that measured numbers meet or not.

Every function takes parsed result files and returns the conditions (text -> met or not) and the tables of one claim.
A claim holds where all its conditions are met, partly where some are, and does not hold here where none is.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import comparisons
import numpy as np
from scipy import stats

from deft_jax.annealing import freezing_points
from deft_jax.annealing.freezing_points import Point

LEVEL = 0.05  # of Holm-adjusted p values, and 1 - confidence of intervals
LEAST_DIFFUSION = 0.1  # share of the information that comes in, from which on an approach is said to diffuse
LEAST_SEEDS = 5  # of a run, or of a pair of runs, from which on there is a verdict
DEFT = "gamma_0_1"
APPROACHES = ("annealing", "beta_stages", "beta_vae", "annealed_vae", "cascade_vae_c", "dynamic_vae")
SETS = ("dsprites", "noisy_dsprites", "color_dsprites")
RIVALS = ("beta_tcvae", "dynamic_vae")
TC_METHODS = ("factor_vae", "beta_tcvae")
# The images of dSprites are the same with the two axes exchanged, so these two freeze alike.
SYMMETRIC = frozenset({"posX", "posY"})

Rows = Sequence[Mapping[str, str]]
Scores = Mapping[str, Mapping[str, Mapping[str, float]]]  # run -> score -> seed -> value


class Table(NamedTuple):
    """A table of texts under a heading."""

    heading: str
    columns: list[str]
    rows: list[list[str]]


class Finding(NamedTuple):
    """What was found of one claim."""

    conditions: dict[str, bool]
    numbers: str
    tables: list[Table]
    is_complete: bool = True
    """Whether all was measured that the conditions need."""

    @property
    def verdict(self) -> str | None:
        return grade(self.conditions.values()) if self.is_complete else None


def grade(conditions: Any) -> str:
    """'holds' where all conditions are met, 'partly' where some are, 'does not hold here' where none is."""
    met = list(conditions)
    return "holds" if all(met) and met else "partly" if any(met) else "does not hold here"


# ---- claim i ----


def freezing(trials: Rows, instruments: Rows) -> Finding:
    """Whether factors freeze at different betas.

    Args:
      trials: rows of trials.csv, with the columns factor, ifp and censored; the same number of trials of each factor,
        in the same order of draws of the other factors.
      instruments: rows with the columns factor, 'spectrum bound' and 'whole set'.
    """
    points: dict[str, list[Point]] = {}
    for row in trials:
        points.setdefault(row["factor"], []).append(Point(float(row["ifp"]), row["censored"]))
    orders = {factor: [point.order for point in factor_points] for factor, factor_points in points.items()}
    kruskal, friedman = stats.kruskal(*orders.values()), stats.friedmanchisquare(*orders.values())
    pairs = list(itertools.combinations(sorted(orders, key=lambda name: -np.median(orders[name])), 2))
    betas = {factor: [point.beta for point in of] for factor, of in points.items()}
    tests = [comparisons.superiority(orders[a], orders[b]) for a, b in pairs]
    paired = [{"p_paired": comparisons.by_draw(betas[a], betas[b])} for a, b in pairs]
    tests = [test | of for test, of in zip(comparisons.with_holm(tests), comparisons.with_holm(paired, "p_paired"),
                                           strict=True)]  # fmt: skip
    distinct = kruskal.pvalue < LEVEL
    conditions = {
        f"{a} and {b} differ": bool(distinct and test["p_holm"] < LEVEL)
        for (a, b), test in zip(pairs, tests, strict=True)
        if {a, b} != SYMMETRIC
    }
    summaries = {factor: freezing_points.summarise(of) for factor, of in points.items()}
    single = {row["factor"]: row for row in instruments}
    rows = []
    for factor in sorted(summaries, key=lambda name: -summaries[name].median.order):
        of = summaries[factor]
        between = f"{of.interval[0]} to {of.interval[1]}" if of.interval else "too few trials"
        held = single.get(factor, {"spectrum bound": "-", "whole set": "-"})
        rows.append([factor, str(of.median), between, f"{of.lower} to {of.upper}", str(of.above + of.below),
                     held["spectrum bound"], held["whole set"]])  # fmt: skip
    levels = Table("Freezing betas by three instruments",
                  ["factor", "trials: median", "95 % interval of the median", "quartiles", "censored",
                   "spectrum: bound", "whole set"], rows)  # fmt: skip
    ranks = Table("Rank tests between factors",
                  ["factors", "P(first freezes at the higher beta)", "p, Mann-Whitney", "p, Holm",
                   "p, Wilcoxon by draw, Holm"],
                  [[f"{a}, {b}", f"{test['probability']:.2f}", p_text(test["p"]), p_text(test["p_holm"]),
                    p_text(test["p_paired_holm"])]
                   for (a, b), test in zip(pairs, tests, strict=True)])  # fmt: skip
    agreement = Table("Agreement of the instruments' orders of the factors",
                      ["instruments", "Kendall's tau"], _agreement(summaries, single))  # fmt: skip
    first, last = rows[0], rows[-1]
    numbers = (
        f"median beta {first[1]} ({first[2]}) of {first[0]} to {last[1]} ({last[2]}) of {last[0]}; Kruskal-Wallis p "
        f"{p_text(kruskal.pvalue)}, Friedman p {p_text(friedman.pvalue)}; {sum(conditions.values())} of "
        f"{len(conditions)} pairs differ"
    )
    return Finding(conditions, numbers, [levels, ranks, agreement])


def _agreement(summaries: Mapping[str, Any], single: Mapping[str, Mapping[str, str]]) -> list[list[str]]:
    factors = [factor for factor in summaries if factor in single]
    orders = {
        "trials": [summaries[factor].median.order for factor in factors],
        "spectrum": [_beta(single[factor]["spectrum bound"]) for factor in factors],
        "whole set": [_beta(single[factor]["whole set"]) for factor in factors],
    }
    return [
        [f"{a}, {b}", f"{stats.kendalltau(orders[a], orders[b]).statistic:.2f}"]
        for a, b in itertools.combinations(orders, 2)
        if len(factors) > 1
    ]


def _beta(text: str) -> float:
    """A beta; 0 of one below the sweep, '<1'."""
    return 0.0 if text.startswith("<") else float(text)


# ---- claims ii and iii ----


def approaches_diffuse(rows: Rows) -> Finding:
    """Whether each approach makes foreign information of more than LEAST_DIFFUSION of what comes in.

    Args:
      rows: of docs/experiments/diffusion/runs.csv.
    """
    runs = _by_run(rows, "diffusion")
    measured = [name for name in APPROACHES if name in runs]
    tests = comparisons.with_holm([
        comparisons.mean_interval(list(runs[name].values()))
        | {"p": comparisons.above(list(runs[name].values()), LEAST_DIFFUSION)}
        for name in measured
    ])  # fmt: skip
    conditions = {f"{name} diffuses": test["p_holm"] < LEVEL for name, test in zip(measured, tests, strict=True)}
    table = Table("Diffusion of approaches without groups, latents not rotated",
                  ["run", "diffusion, 95 % interval", f"p, Holm, above {LEAST_DIFFUSION:g}", "seeds"],
                  [[name, interval(test, "mean"), p_text(test["p_holm"]), str(test["count"])]
                   for name, test in zip(measured, tests, strict=True)])  # fmt: skip
    numbers = "; ".join(f"{name} {interval(test, 'mean', 2)}" for name, test in zip(measured, tests, strict=True))
    return Finding(conditions, f"diffusion {numbers}", [table], _is_complete(measured, tests))


def deft_diffuses_less(rows: Rows) -> Finding:
    """Whether DEFT diffuses less than each approach, seed by seed."""
    columns = {name: _by_run(rows, name) for name in ("diffusion", "foreign", "reconstruction", "mig")}
    runs = columns["diffusion"]
    own = set(runs.get(DEFT, {}))
    measured = [name for name in APPROACHES if len(own & set(runs.get(name, {}))) > 1]
    tests = comparisons.with_holm([_paired(runs, DEFT, name) for name in measured])
    conditions = {
        f"less than {name}": test["p_holm"] < LEVEL and test["difference"] < 0
        for name, test in zip(measured, tests, strict=True)
    }
    others = [name for name in runs if name not in (*APPROACHES, DEFT) and not name.startswith("rotated/")]
    tables = [
        _differences("DEFT less each approach, by seed", columns, DEFT, measured),
        _differences("DEFT less other settings of its own, by seed", columns, DEFT, others if measured else []),
        _differences("The same with rotated latents in both", columns, f"rotated/{DEFT}",
                     [name for name in runs if name.startswith("rotated/") and name != f"rotated/{DEFT}"]),
    ]  # fmt: skip
    numbers = "DEFT less " + "; ".join(
        f"{name} {interval(test, 'difference', 2)}" for name, test in zip(measured, tests, strict=True)
    )
    return Finding(conditions, numbers, [table for table in tables if table.rows], _is_complete(measured, tests))


def _is_complete(measured: Sequence[str], tests: Sequence[Mapping[str, Any]]) -> bool:
    return set(measured) == set(APPROACHES) and min(test["count"] for test in tests) >= LEAST_SEEDS


def _differences(heading: str, columns: Mapping[str, Any], first: str, others: Sequence[str]) -> Table:
    """Paired differences of first - other in every column; p of the first column is adjusted over the table."""
    runs = columns["diffusion"]
    others = [name for name in others if first in runs and len(set(runs[name]) & set(runs[first])) > 1]
    tests = {column: [_paired(values, first, name) for name in others] for column, values in columns.items()}
    adjusted = comparisons.holm([test["p"] for test in tests["diffusion"]]) if others else []
    rows = [
        [name, interval(tests["diffusion"][index]), p_text(adjusted[index]),
         *(interval(tests[column][index], digits=digits)
           for column, digits in (("foreign", 3), ("reconstruction", 2), ("mig", 3)))]
        for index, name in enumerate(others)
    ]  # fmt: skip
    heads = ["less the run", "diffusion, 95 % interval", "p, Holm", "foreign", "reconstruction loss, nats", "MIG"]
    return Table(heading, heads, rows)


def _by_run(rows: Rows, column: str) -> dict[str, dict[str, float]]:
    """Run -> seed -> value."""
    runs: dict[str, dict[str, float]] = {}
    for row in rows:
        runs.setdefault(row["run"], {})[row["seed"]] = float(row[column])
    return runs


def _paired(runs: Mapping[str, Mapping[str, float]], first: str, second: str) -> dict[str, Any]:
    """The paired comparison of two runs over the seeds that both have."""
    seeds = [seed for seed in runs[first] if seed in runs[second]]
    return comparisons.paired([runs[first][seed] for seed in seeds], [runs[second][seed] for seed in seeds])


# ---- texts ----


def interval(result: Mapping[str, Any], key: str = "difference", digits: int = 3) -> str:
    """'value (low to high)'; differences with a sign."""
    sign = "+" if key == "difference" else ""
    value, low, high = (result[name] for name in (key, "low", "high"))
    if low is None or not np.isfinite([low, high]).all():
        return f"{value:{sign}.{digits}f}"
    return f"{value:{sign}.{digits}f} ({low:{sign}.{digits}f} to {high:{sign}.{digits}f})"


def p_text(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"
