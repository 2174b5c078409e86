"""A CSV table of the timings that `python -m benchmarks --out FILE` has written.

    python -m benchmarks.collect benchmarks.json seeds.json --out docs/experiments/speed/speed.csv

A group of a later file takes the place of the same group of an earlier one.
"""

import argparse
import csv
import json
import pathlib

from benchmarks.suite import number

FIELDS = ("group", "case", "unit", "ours, ms", "beside it", "ms", "its ratio", "compiled, ms", "compiled ratio",
          "floor, ms", "ours / floor")  # fmt: skip
GROUPS = {
    "training.step": "training",
    "annealing.trials": "annealing",
    "metrics.scores": "metrics",
    "data.rendering": "rendering",
    "training.cores": "cores",
    "training.seeds": "seeds",
    "training.precision": "precision",
    "models.convolutions": "convolutions",
}


def _milliseconds(row, column):
    found = row.get(column) or {}
    return 1e3 * found["median"] if "median" in found else None


def _cells(row):
    """The cells of a row as suite.record has written it."""
    ours, beside, compiled = (_milliseconds(row, column) for column in ("ours", "beside", "compiled"))
    floor = None if row["floor"] is None else 1e3 * row["floor"]

    def ratio(above, below):
        return "" if above is None or below is None else number(above / below)

    names = [GROUPS[row["group"]], row["case"], row["unit"]]
    peer = [row["against"] or "", number(beside), ratio(beside, ours), number(compiled), ratio(compiled, ours)]
    return [*names, number(ours), *peer, number(floor), ratio(ours, floor)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("timings", type=pathlib.Path, nargs="+")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="a CSV file")
    args = parser.parse_args()
    groups = {group: [] for group in GROUPS}
    for path in args.timings:
        rows = json.loads(path.read_text())["rows"]
        for group in dict.fromkeys(row["group"] for row in rows):
            groups[group] = [_cells(row) for row in rows if row["group"] == group]
    with args.out.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([FIELDS, *(row for rows in groups.values() for row in rows)])


if __name__ == "__main__":
    main()
