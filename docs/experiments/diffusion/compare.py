"""Writes summary.csv, pairs.csv, seeds.csv and the figures beside this file from runs.csv and ledger.json.

    python docs/experiments/diffusion/compare.py

summary.csv has mean and standard deviation over seeds of every run; pairs.csv the differences between two runs, seed by
seed, with the 95 % interval of Student's t: of the kind 'rotation', between a run with rotated latents and without;
seeds.csv the values of every seed.
"""

import csv
import json
import pathlib
import statistics
import sys

import numpy as np
from matplotlib.figure import Figure

from deft_jax.evaluation import plots

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import comparisons  # noqa: E402

LABELS = {
    "annealing": "one encoder, smooth fall",
    "beta_stages": "one encoder, fall in steps",
    "gamma_1": "DEFT, gamma 1",
    "gamma_0_3": "DEFT, gamma 0.3",
    "gamma_0_1": "DEFT, gamma 0.1",
    "gamma_0_03": "DEFT, gamma 0.03",
    "gamma_0": "DEFT, gamma 0",
    "gamma_0_calibrated": "DEFT, gamma 0, calibrated",
    "decoder_0_3": "DEFT, gamma 0.1, decoder x 0.3",
    "decoder_0_1": "DEFT, gamma 0.1, decoder x 0.1",
    "beta_vae": "beta-VAE, beta 4",
    "annealed_vae": "AnnealedVAE",
    "cascade_vae_c": "CascadeVAE-C",
    "dynamic_vae": "DynamicVAE",
}
GAMMAS = {"gamma_1": 1.0, "gamma_0_3": 0.3, "gamma_0_1": 0.1, "gamma_0_03": 0.03, "gamma_0": 0.0}
MARKERS = {"annealing": "s", "beta_stages": "D", "beta_vae": "^", "annealed_vae": "v", "cascade_vae_c": "<",
           "dynamic_vae": ">"}  # fmt: skip
COLUMNS = ("diffusion", "foreign", "spread", "nats", "reconstruction", "mig")
PAIRS = (
    *((name, "gamma_1") for name in ("gamma_0_3", "gamma_0_1", "gamma_0_03", "gamma_0", "gamma_0_calibrated")),
    *((name, "beta_stages") for name in ("annealing", "gamma_1", "gamma_0_1", "gamma_0")),
    ("gamma_0_1", "annealing"),
    *((name, "gamma_0_1") for name in ("decoder_0_3", "decoder_0_1")),
)
PLAIN, ROTATED, SUFFIX = "", "rotated/", ", rotated"


def label(run):
    """The words of a run for tables."""
    return LABELS[run.removeprefix(ROTATED)] + (SUFFIX if run.startswith(ROTATED) else "")


def read(path=HERE / "runs.csv"):
    """run -> column -> {seed: value}, in the order of LABELS."""
    runs = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            for column in row.keys() - {"run", "seed"}:
                runs.setdefault(row["run"], {}).setdefault(column, {})[int(row["seed"])] = float(row[column])
    order = [prefix + name for prefix in (PLAIN, ROTATED) for name in LABELS]
    return {name: runs[name] for name in order if name in runs}


def paired(first, second):
    """`comparisons.paired` of two runs {seed: value}, over the seeds that both have."""
    seeds = sorted(first.keys() & second.keys())
    return comparisons.paired([first[seed] for seed in seeds], [second[seed] for seed in seeds])


def _difference(first, second, digits):
    """The mean difference with its interval, as a text."""
    found = paired(first, second)
    mean, low, high = (f"{found[name]:+.{digits}f}" for name in ("difference", "low", "high"))
    return f"{mean} ({low} to {high})"


def _text(values, digits):
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


def _digits(column):
    return {"nats": 1, "reconstruction": 1}.get(column, 3)


def _write(name, rows):
    with (HERE / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def tables(runs):
    """Writes the three CSV files."""
    def kind(name):
        return "rotated" if name.startswith(ROTATED) else "plain"

    _write("summary.csv", [
        {"kind": kind(name), "run": label(name)}
        | {column: _text(list(values[column].values()), _digits(column)) for column in COLUMNS}
        for name, values in runs.items()
    ])  # fmt: skip
    pairs = [(kind(prefix), prefix + first, prefix + second) for prefix in (PLAIN, ROTATED) for first, second in PAIRS]
    pairs += [("rotation", ROTATED + name, name) for name in LABELS]
    _write("pairs.csv", [
        {"kind": of, "run": label(first).removesuffix(SUFFIX), "against": label(second).removesuffix(SUFFIX)}
        | {column: _difference(runs[first][column], runs[second][column], _digits(column)) for column in COLUMNS}
        for of, first, second in pairs if {first, second} <= runs.keys()
    ])  # fmt: skip
    _write("seeds.csv", [
        {"kind": kind(name), "run": label(name), "score": column,
         "every seed": ", ".join(f"{value:.{_digits(column)}f}" for _, value in sorted(values[column].items()))}
        for name, values in runs.items() for column in ("diffusion", "foreign", "mig")
    ])  # fmt: skip


def draw_gamma(runs):
    """foreign.png: foreign against spread of every run, the runs over gamma joined by a line."""
    figure = Figure(figsize=(7.4, 3.4), layout="constrained")
    for axes, y in zip(figure.subplots(1, 2), ("foreign", "diffusion"), strict=True):
        words = {PLAIN: "DEFT over gamma", ROTATED: "the same, rotated"}
        for (prefix, word), colour in zip(words.items(), plots.PALETTE, strict=False):
            line = [
                [statistics.mean(runs[prefix + name][column].values()) for column in ("spread", y)]
                for name in GAMMAS if prefix + name in runs
            ]  # fmt: skip
            if line:
                axes.plot(*np.transpose(line), "o-", color=colour, ms=4, lw=1.2, label=word)
                for (x, height), gamma in zip(line, GAMMAS.values(), strict=False):
                    axes.annotate(f"{gamma:g}", (x, height), (4, 4), textcoords="offset points", fontsize=plots.SMALL)
        for name, marker in MARKERS.items():
            if name in runs:
                x, height = (statistics.mean(runs[name][column].values()) for column in ("spread", y))
                axes.plot(x, height, marker, color=plots.FAINT, ms=5, label=LABELS[name])
        axes.set_xlabel("spread")
        axes.set_ylabel(y)
        axes.set_ylim(bottom=0)
    axes.legend(fontsize=plots.SMALL, frameon=False, loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.savefig(HERE / "foreign.png", dpi=150)


def draw_ledger(ledgers):
    """ledger.png: home and foreign nats of early and late groups over training, for some runs."""
    names = [name for name in ("beta_stages", "gamma_1", "gamma_0_1", "gamma_0") if name in ledgers]
    figure = Figure(figsize=(7.4, 2.6), layout="constrained")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names), sharey=True)), names, strict=True):
        steps = ledgers[name]["step"]
        nats = np.mean(list(ledgers[name]["home_and_foreign"].values()), axis=0)  # [steps, groups, 2]
        floor = np.zeros(len(steps))
        for group in range(nats.shape[1]):
            for part, hatch in enumerate(("", "////")):
                top = floor + nats[:, group, part]
                colour = plots.PALETTE[group % len(plots.PALETTE)]
                style = {"facecolor": "white" if hatch else colour, "edgecolor": colour, "hatch": hatch, "lw": 0.4}
                axes.fill_between(steps, floor, top, **style)
                floor = top
        axes.set_title(label(name), fontsize=plots.SMALL)
        axes.set_xlabel("step")
    figure.axes[0].set_ylabel("nats, mean over seeds")
    figure.savefig(HERE / "ledger.png", dpi=150)


if __name__ == "__main__":
    held = read()
    tables(held)
    draw_gamma(held)
    draw_ledger(json.loads((HERE / "ledger.json").read_text()))
