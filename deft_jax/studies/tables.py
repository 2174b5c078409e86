"""Tables of a study: means and deviations over seeds, as markdown."""

import json
import pathlib
import statistics
from collections.abc import Mapping, Sequence

from deft_jax.studies.study import expand_runs


def summarise(config: Mapping, workdir: pathlib.Path) -> dict:
    """{'runs': name -> {'scores': metric.number -> {seed: value}, 'seconds': {seed: s}, 'diverged': [seeds], ...}}."""
    runs: dict[str, dict] = {}
    for name in expand_runs(config):
        run, _, seed = name.rpartition("/seed_")
        entry = runs.setdefault(run, {"scores": {}, "seconds": {}, "diverged": [], "missing": []})
        try:
            cell = json.loads((workdir / name / "cell.json").read_text())
        except (OSError, ValueError):
            entry["missing"].append(seed)
            continue
        entry["seconds"][seed] = cell["seconds"]["training"]
        if "diverged" in cell:
            entry["diverged"].append(seed)
        elif "scores" not in cell:
            entry["missing"].append(seed)
        for found in cell.get("scores", {}).values():
            for number, value in found.items():
                entry["scores"].setdefault(number, {})[seed] = value
    return {"scale": config["scale"], "seeds": list(config["seeds"]), "runs": runs}


def _cell(entry: Mapping, number: str) -> str:
    values = list(entry["scores"].get(number, {}).values())
    if entry["diverged"]:
        return f"{len(entry['diverged'])} diverged"
    if not values:
        return "-"
    text = f"{statistics.mean(values):.3f}"
    return text + (f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else "")


def _headline(found: Mapping[str, Mapping]) -> list[str]:
    """The numbers that a table shows: all but counts and those of training votes."""
    names = dict.fromkeys(number for entry in found.values() for number in entry["scores"])
    return [name for name in names if not name.endswith(("_train", "num_active"))]


def table(summary: Mapping) -> str:
    """Markdown tables: means and deviations over seeds, and every seed's value where there are several."""
    runs, seeds = summary["runs"], summary["seeds"]
    numbers = _headline(runs)
    parts = []
    sets = list(dict.fromkeys(name.partition("/")[0] for name in runs if "/" in name))
    if sets and all(name.count("/") == 1 for name in runs) and len(sets) > 1:
        objectives = list(dict.fromkeys(name.partition("/")[2] for name in runs))
        for number in [*numbers, "seconds"]:
            rows = [[number, *sets]]
            for objective in objectives:
                row = [objective]
                for name in (f"{one}/{objective}" for one in sets):
                    entry = runs.get(name)
                    seconds = list(entry["seconds"].values()) if entry else []
                    if number == "seconds":
                        row.append(f"{statistics.mean(seconds):.0f}" if seconds else "-")
                    else:
                        row.append(_cell(entry, number) if entry else "")
                rows.append(row)
            parts.append(_markdown(rows))
    else:
        rows = [["run", *numbers, "seconds"]]
        for name, entry in runs.items():
            seconds = list(entry["seconds"].values())
            told = f"{statistics.mean(seconds):.0f}" if seconds else "-"
            rows.append([name, *(_cell(entry, number) for number in numbers), told])
        parts.append(_markdown(rows))
    if len(seeds) > 1:
        rows = [["run", "score", *(f"seed {seed}" for seed in seeds)]]
        for name, entry in runs.items():
            for number in numbers:
                values = entry["scores"].get(number, {})
                rows.append([name, number, *(f"{values[str(s)]:.3f}" if str(s) in values else "-" for s in seeds)])
        parts.append(_markdown(rows))
    return "\n\n".join(parts)


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for index, row in enumerate(rows):
        cells_ = [text.ljust(width) if not place else text.rjust(width) for place, (text, width) in
                  enumerate(zip(row, widths, strict=True))]  # fmt: skip
        lines.append("| " + " | ".join(cells_) + " |")
        if not index:
            lines.append("|" + "|".join("-" * (width + 2) if not place else "-" * (width + 1) + ":"
                                        for place, width in enumerate(widths)) + "|")  # fmt: skip
    return "\n".join(lines)
