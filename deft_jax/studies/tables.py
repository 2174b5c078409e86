"""The summary of a study, and its tables in Markdown."""

import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from deft_jax.studies.config import StudyConfig
from deft_jax.studies.run_record import RunRecord


def summarise(study: StudyConfig, workdir: pathlib.Path) -> dict[str, Any]:
    """The scores of a study so far.

    Returns:
      {'scale': name, 'seeds': list, 'runs': name -> {'scores': score -> {seed: value}, 'seconds': {seed: s},
      'diverged': seeds, 'missing': seeds}}, with seeds as texts within 'runs'.
    """
    runs: dict[str, dict[str, Any]] = {}
    for name in study.runs:
        entry = runs[name] = _no_results()
        for seed in map(str, study.seeds):
            summary = RunRecord.read(workdir / name / f"seed_{seed}")
            if summary is None:
                entry["missing"].append(seed)
                continue
            entry["seconds"][seed] = summary.training_seconds
            if summary.diverged is not None:
                entry["diverged"].append(seed)
            elif summary.scores is None:
                entry["missing"].append(seed)
            for scores in (summary.scores or {}).values():
                for score, value in scores.items():
                    entry["scores"].setdefault(score, {})[seed] = value
    return {"scale": study.scale, "seeds": list(study.seeds), "runs": runs}


def merged(earlier: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    """A summary joined with an earlier one of the same study, which may have other runs and seeds.

    Args:
      earlier: a summary, or {}.
      summary: as of `summarise`; for its runs and seeds it replaces the earlier one.
    """
    replaced = {str(seed) for seed in summary["seeds"]}

    def without_replaced(values: Any) -> Any:
        if isinstance(values, Mapping):
            return {seed: value for seed, value in values.items() if str(seed) not in replaced}
        return [seed for seed in values if str(seed) not in replaced]

    runs = dict(earlier.get("runs", {}))
    for name, entry in summary["runs"].items():
        before = runs.get(name, _no_results())
        scores = dict.fromkeys([*before["scores"], *entry["scores"]])
        runs[name] = {
            "scores": {
                score: without_replaced(before["scores"].get(score, {})) | entry["scores"].get(score, {})
                for score in scores
            },
            "seconds": without_replaced(before["seconds"]) | entry["seconds"],
            "diverged": without_replaced(before["diverged"]) + entry["diverged"],
            "missing": without_replaced(before["missing"]) + entry["missing"],
        }
    seeds = list(dict.fromkeys([*earlier.get("seeds", []), *summary["seeds"]]))
    return {**earlier, "scale": summary["scale"], "seeds": seeds, "runs": runs}


def markdown_tables(summary: Mapping[str, Any]) -> str:
    """Means and standard deviations over seeds, and the value of every seed where there are several.

    Runs called SET/OBJECTIVE of several sets have one table of objectives by sets per score.
    """
    runs, seeds = summary["runs"], summary["seeds"]
    scores = list(dict.fromkeys(score for entry in runs.values() for score in entry["scores"]))
    scores = [score for score in scores if not score.endswith(("_train", "num_active"))]
    sets = list(dict.fromkeys(name.partition("/")[0] for name in runs if "/" in name))
    if len(sets) > 1 and all(name.count("/") == 1 for name in runs):
        parts = [_objectives_by_sets(runs, score, sets) for score in [*scores, "seconds"]]
    else:
        rows = [[name, *(_mean(entry, score) for score in [*scores, "seconds"])] for name, entry in runs.items()]
        parts = [_markdown(["run", *scores, "seconds"], rows)]
    if len(seeds) > 1:
        parts.append(_values_by_seed(runs, scores, seeds))
    return "\n\n".join(parts)


def text_table(columns: Mapping[str, Mapping[str, float]]) -> str:
    """A table for the terminal.

    Args:
      columns: name -> {row: value}.
    """
    rows = list(dict.fromkeys(row for values in columns.values() for row in values))
    cells = [[row, *(f"{values[row]:.3f}" if row in values else "" for values in columns.values())] for row in rows]
    return tabulate(cells, ["", *columns], "plain", disable_numparse=True, colalign=_alignment(len(columns) + 1))


def _no_results() -> dict[str, Any]:
    return {"scores": {}, "seconds": {}, "diverged": [], "missing": []}


def _objectives_by_sets(runs: Mapping[str, Mapping[str, Any]], score: str, sets: Sequence[str]) -> str:
    objectives = dict.fromkeys(name.partition("/")[2] for name in runs)
    rows = [
        [objective, *(_mean(runs[name], score) if (name := f"{data}/{objective}") in runs else "" for data in sets)]
        for objective in objectives
    ]
    return _markdown([score, *sets], rows)


def _values_by_seed(runs: Mapping[str, Mapping[str, Any]], scores: Sequence[str], seeds: Sequence[int]) -> str:
    rows = []
    for name, entry in runs.items():
        for score in scores:
            values = entry["scores"].get(score, {})
            rows.append([name, score, *(f"{values[str(s)]:.3f}" if str(s) in values else "-" for s in seeds)])
    return _markdown(["run", "score", *(f"seed {seed}" for seed in seeds)], rows)


def _mean(entry: Mapping[str, Any], score: str) -> str:
    """'mean ± standard deviation' over the seeds of a run; 'seconds' is a score too."""
    if score == "seconds":
        return f"{statistics.mean(entry['seconds'].values()):.0f}" if entry["seconds"] else "-"
    if entry["diverged"]:
        return f"{len(entry['diverged'])} diverged"
    values = list(entry["scores"].get(score, {}).values())
    if not values:
        return "-"
    text = f"{statistics.mean(values):.3f}"
    return text + (f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else "")


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return tabulate(rows, header, "pipe", disable_numparse=True, colalign=_alignment(len(header)))


def _alignment(num_columns: int) -> list[str]:
    return ["left", *["right"] * (num_columns - 1)]
