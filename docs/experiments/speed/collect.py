"""Writes speed.csv, the table of the page, from the timings of `python -m benchmarks --out benchmarks.json`.

python docs/experiments/speed/collect.py benchmarks.json seeds.json

A group of a later file takes the place of the same group of an earlier one.
"""

import argparse
import csv
import json
import pathlib

HERE = pathlib.Path(__file__).resolve().parent
FIELDS = ("group", "case", "unit", "ours, ms", "beside it", "ms", "its ratio", "compiled, ms", "compiled ratio",
          "floor, ms", "ours / floor")  # fmt: skip
GROUPS = {
    "training.step": "training",
    "annealing.trials": "annealing",
    "metrics.scores": "metrics",
    "data.rendering": "rendering",
    "training.seeds": "seeds",
    "training.precision": "precision",
    "models.convolutions": "convolutions",
}


def number(value: float | None) -> str:
    """Three digits, more only before the point."""
    if value is None:
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"


def milliseconds(row: dict, column: str) -> float | None:
    found = row.get(column) or {}
    return 1e3 * found["median"] if "median" in found else None


def cells(row: dict) -> list[str]:
    ours, beside, compiled = (milliseconds(row, column) for column in ("ours", "beside", "compiled"))
    floor = None if row["floor"] is None else 1e3 * row["floor"]

    def ratio(above: float | None, below: float | None) -> str:
        return "" if above is None or below is None else number(above / below)

    names = [GROUPS[row["group"]], row["case"], row["unit"]]
    peer = [row["against"] or "", number(beside), ratio(beside, ours), number(compiled), ratio(compiled, ours)]
    return [*names, number(ours), *peer, number(floor), ratio(ours, floor)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("timings", type=pathlib.Path, nargs="+")
    groups: dict[str, list[list[str]]] = {group: [] for group in GROUPS}
    for path in parser.parse_args().timings:
        rows = json.loads(path.read_text())["rows"]
        groups |= {group: [cells(row) for row in rows if row["group"] == group] for group in {r["group"] for r in rows}}
    with (HERE / "speed.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([FIELDS, *(row for rows in groups.values() for row in rows)])


if __name__ == "__main__":
    main()
