"""The conditions of the claims on scores: see rules.py."""

from collections.abc import Mapping, Sequence
from typing import Any

import comparisons
import numpy as np
from rules import LEAST_SEEDS, LEVEL, RIVALS, SETS, TC_METHODS, Finding, Rows, Scores, Table, interval, p_text

SHOWN = {"mig_posterior": "MIG of posteriors", "disentanglement": "DCI-D", "foreign": "foreign"}
PAIR_KINDS = {"independent_pairs": "independent pairs", "correlated_pairs": "correlated pairs"}
METHODS = ("deft", *RIVALS)


# ---- claim iv ----


def high_and_steady(scores: Scores, suffix: str = "") -> Finding:
    """Whether DEFT's MIG is higher than that of each rival and varies less, on each set.

    Args:
      scores: 'SET/METHOD' + suffix -> score -> seed -> value.
      suffix: '_rotated' for the runs with rotated latents.
    """
    values = {
        (data, method): list(scores[name]["mig"].values())
        for data in SETS
        for method in METHODS
        if len(scores.get(name := f"{data}/{method}{suffix}", {}).get("mig", {})) > 1
    }
    pairs = [(data, rival) for data in SETS for rival in RIVALS if {(data, "deft"), (data, rival)} <= set(values)]
    means = [comparisons.welch(values[data, "deft"], values[data, rival]) for data, rival in pairs]
    spreads = [comparisons.equal_variance(values[data, "deft"], values[data, rival]) for data, rival in pairs]
    means, spreads = comparisons.with_holm(means), comparisons.with_holm(spreads)
    conditions = {}
    for (data, rival), mean, spread in zip(pairs, means, spreads, strict=True):
        conditions[f"{data}: higher than {rival}"] = mean["p_holm"] < LEVEL and mean["difference"] > 0
        conditions[f"{data}: steadier than {rival}"] = spread["p_holm"] < LEVEL and spread["ratio"] < 1
    higher = Table("DEFT less each rival, MIG",
                   ["set", "rival", "difference, 95 % interval", "p, Welch, Holm", "deviation, DEFT / rival",
                    "p, Brown-Forsythe, Holm"],
                   [[data, rival, interval(mean), p_text(mean["p_holm"]), f"{spread['ratio']:.2f}",
                     p_text(spread["p_holm"])]
                    for (data, rival), mean, spread in zip(pairs, means, spreads, strict=True)])  # fmt: skip
    numbers = "; ".join(
        f"{data} {rival} {interval(mean, digits=2)}, deviations {spread['ratio']:.2f}"
        for (data, rival), mean, spread in zip(pairs, means, spreads, strict=True)
    )
    is_complete = len(pairs) == len(SETS) * len(RIVALS) and min(map(len, values.values())) >= LEAST_SEEDS
    tables = [_score_table("Scores", scores, suffix), higher]
    return Finding(conditions, f"MIG of DEFT less {numbers}", tables, is_complete)


def _score_table(heading: str, scores: Scores, suffix: str) -> Table:
    rows = []
    for data in SETS:
        for method in METHODS:
            held = scores.get(f"{data}/{method}{suffix}", {})
            if not held.get("mig"):
                continue
            mig = comparisons.mean_interval(list(held["mig"].values()))
            deviation = mig["deviation"]
            spread = ["-", "-"]
            if deviation is not None and mig["mean"]:
                spread = [f"{deviation:.3f}", f"{deviation / mig['mean']:.2f}"]
            rows.append([data, method, interval(mig, "mean"), *spread, *(_mean(held, score) for score in SHOWN),
                         str(mig["count"])])  # fmt: skip
    heads = ["set", "method", "MIG, 95 % interval", "deviation", "deviation / mean", *SHOWN.values(), "seeds"]
    return Table(heading, heads, rows)


def _mean(held: Mapping[str, Mapping[str, float]], score: str) -> str:
    return f"{np.mean(list(held[score].values())):.3f}" if held.get(score) else "-"


def settings_table(scores: Scores, chosen: Mapping[str, Mapping[str, str]]) -> Table:
    """The settings that were tried, and which of them were taken.

    Args:
      scores: 'SET/METHOD/SETTING' -> score -> seed -> value.
      chosen: set -> method -> setting.
    """
    rows = []
    for name, held in scores.items():
        data, method, setting = name.split("/")
        if held.get("mig"):
            mark = "yes" if chosen.get(data, {}).get(method) == setting else ""
            rows.append([data, method, setting, interval(comparisons.mean_interval(list(held["mig"].values())), "mean"),
                         mark])  # fmt: skip
    return Table("Settings tried on other seeds", ["set", "method", "setting", "MIG, 95 % interval", "taken"], rows)


def choose(scores: Scores) -> dict[str, dict[str, str]]:
    """The setting of the best mean MIG: set -> method -> setting.

    Args:
      scores: 'SET/METHOD/SETTING' -> score -> seed -> value.
    """
    best: dict[tuple[str, str], tuple[float, str]] = {}
    for name, held in scores.items():
        data, method, setting = name.split("/")
        if held.get("mig"):
            mean = float(np.mean(list(held["mig"].values())))
            if mean > best.get((data, method), (-np.inf, ""))[0]:
                best[data, method] = mean, setting
    chosen: dict[str, dict[str, str]] = {}
    for (data, method), (_, setting) in best.items():
        chosen.setdefault(data, {})[method] = setting
    return chosen


# ---- claim v ----


def total_correlation_fails(rows: Rows) -> Finding:
    """Whether DEFT separates correlated pairs of factors better than methods of total correlation, and those above all.

    Args:
      rows: of correlated.csv: run, seed, and scores by name.
    """
    runs: dict[str, dict[str, Mapping[str, str]]] = {}
    for row in rows:
        runs.setdefault(row["run"], {})[row["seed"]] = row
    own = set(runs.get("deft", {}))
    measured = [name for name, seeds in runs.items() if name != "deft" and own & set(seeds)]
    differences = {
        name: {column: _seed_differences(runs, name, column) for column in (*PAIR_KINDS, "mig", "foreign", "leak")}
        for name in measured
    }
    rivals = [name for name in TC_METHODS if name in measured]
    deficits = [comparisons.paired(differences[name]["correlated_pairs"]) for name in rivals]
    specific = [
        comparisons.paired(differences[name]["correlated_pairs"], differences[name]["independent_pairs"])
        for name in rivals
    ]
    tests = comparisons.with_holm([*deficits, *specific])
    deficits, specific = tests[: len(rivals)], tests[len(rivals) :]
    conditions = {}
    for name, deficit, more in zip(rivals, deficits, specific, strict=True):
        conditions[f"{name}: below DEFT on correlated pairs"] = _is_positive(deficit)
        conditions[f"{name}: further below than on independent pairs"] = _is_positive(more)
    heads = ["method", "correlated pairs", "independent pairs", "MIG of deviation, posX, posY", "foreign", "leak"]
    table = Table("DEFT less each method, by seed, 95 % intervals", heads, [
        [name, *(interval(comparisons.paired(differences[name][column]))
                 for column in ("correlated_pairs", "independent_pairs", "mig", "foreign", "leak"))]
        for name in measured
    ])  # fmt: skip
    against = Table("Deficit on correlated pairs beyond that on independent pairs",
                    ["method", "difference, 95 % interval", "p, Holm", "deficit on correlated pairs, p, Holm"],
                    [[name, interval(more), p_text(more["p_holm"]), p_text(deficit["p_holm"])]
                     for name, deficit, more in zip(rivals, deficits, specific, strict=True)])  # fmt: skip
    numbers = "on correlated pairs DEFT less " + "; ".join(
        f"{name} {interval(deficit)}, beyond independent pairs {interval(more)}"
        for name, deficit, more in zip(rivals, deficits, specific, strict=True)
    )
    is_complete = set(rivals) == set(TC_METHODS) and min(test["count"] for test in tests) >= LEAST_SEEDS
    return Finding(conditions, numbers, [_level_table(runs), table, against], is_complete)


def _is_positive(test: Mapping[str, Any]) -> bool:
    return test["p_holm"] < LEVEL and test["difference"] > 0


def _level_table(runs: Mapping[str, Mapping[str, Mapping[str, str]]]) -> Table:
    """Means over seeds of every column of correlated.csv."""
    columns = [name for name in next(iter(next(iter(runs.values())).values())) if name not in ("run", "seed")]
    rows = [
        [name, *(f"{np.mean([float(row[column]) for row in seeds.values()]):.3f}" for column in columns)]
        for name, seeds in runs.items()
    ]
    return Table("Means over seeds", ["method", *(column.replace("_", " ") for column in columns)], rows)


def _seed_differences(runs: Mapping[str, Mapping[str, Any]], name: str, column: str) -> np.ndarray:
    """DEFT less a method, one number per seed that both have."""
    seeds = [seed for seed in runs["deft"] if seed in runs[name]]
    return np.array([float(runs["deft"][seed][column]) - float(runs[name][seed][column]) for seed in seeds])


# ---- claim vi ----


def competitive_without_labels(rows: Rows) -> Finding:
    """Whether UDR picks a model of DEFT that is no worse than the median, agrees with MIG, and beats the rivals' picks.

    Args:
      rows: of udr.csv: method, setting, seed, udr, mig, disentanglement.
    """
    methods: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        methods.setdefault(row["method"], []).append(row)
    picks, correlations, lines = {}, {}, []
    for method, models in methods.items():
        column = {name: [float(row[name]) for row in models] for name in ("udr", "udr_lasso", "mig", "disentanglement")}
        picks[method] = pick = int(np.argmax(column["udr"])), column
        correlations[method] = comparisons.rank_correlation(column["udr"], column["mig"])
        with_dci = comparisons.rank_correlation(column["udr"], column["disentanglement"])
        lasso = comparisons.rank_correlation(column["udr_lasso"], column["mig"])
        lines.append([method, *(interval(test, "rho", 2) for test in (correlations[method], with_dci, lasso)),
                      f"{models[pick[0]]['setting']}, seed {models[pick[0]]['seed']}",
                      *(text for name in ("mig", "disentanglement") for text in _pick_texts(*pick, name)),
                      str(len(models))])  # fmt: skip
    table = Table("UDR as a judge of the models of each method",
                  ["method", "rank correlation, UDR and MIG", "UDR and DCI-D", "UDR by Lasso and MIG", "pick",
                   "MIG of the pick", "median", "best", "DCI-D of the pick", "median", "best", "models"],
                  lines)  # fmt: skip
    if not set(METHODS) <= set(methods) or min(map(len, methods.values())) < LEAST_SEEDS:
        return Finding({}, "", [table], False)

    def picked(method: str, score: str) -> float:
        index, column = picks[method]
        return column[score][index]

    own, deft = picks["deft"][1], correlations["deft"]
    conditions = {
        "MIG of the pick is at least the median": picked("deft", "mig") >= np.median(own["mig"]),
        "DCI-D of the pick is at least the median":
            picked("deft", "disentanglement") >= np.median(own["disentanglement"]),
        "UDR and MIG of DEFT's models agree": deft["low"] > 0,
    } | {f"MIG of the pick is at least that of {rival}": picked("deft", "mig") >= picked(rival, "mig")
         for rival in RIVALS}  # fmt: skip
    numbers = (
        f"rank correlation with MIG {interval(deft, 'rho', 2)}; MIG of the picks "
        + ", ".join(f"{method} {picked(method, 'mig'):.3f} (median {np.median(picks[method][1]['mig']):.3f})"
                    for method in METHODS)
    )  # fmt: skip
    return Finding({text: bool(met) for text, met in conditions.items()}, numbers, [table])


def _pick_texts(index: int, column: Mapping[str, Sequence[float]], score: str) -> list[str]:
    values = column[score]
    return [f"{value:.3f}" for value in (values[index], float(np.median(values)), max(values))]
