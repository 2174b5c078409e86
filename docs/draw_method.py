"""Draws docs/method.png, the method in one picture, from the data of an annealing test and of a training.

    python docs/draw_method.py --annealing runs/ifp --training runs/by_hand --out docs/method.png

docs/experiments/annealing_test.md and docs/experiments/annealed_betas.md have the commands of the two workdirs.
"""

import argparse
import json
import pathlib

import numpy as np
from matplotlib.figure import Figure

from deft_jax.evaluation import plots
from deft_jax.training.metrics_log import read_records

FACTORS = ("posX", "posY", "scale", "shape", "orientation")  # in the order of the picture's legend
COLOUR = dict(zip(FACTORS, plots.PALETTE, strict=False))


def _above(axes, x, text):
    """A small word above the axes at x."""
    place = {"xycoords": ("data", "axes fraction"), "xytext": (0, 2), "textcoords": "offset points"}
    axes.annotate(text, (x, 1), ha="center", va="bottom", fontsize=plots.SMALL - 1, color=plots.FAINT, **place)


def freezing(axes, workdir, betas):
    """Median KL of the trials of each factor while beta falls, with the betas of the stages."""
    with np.load(workdir / "curves.npz", allow_pickle=False) as arrays:
        betas_E, kl_TxE, factor_T = arrays["betas"], arrays["kl"], arrays["factor"]
    for name in FACTORS:
        median = np.median(kl_TxE[factor_T == name], axis=0)
        axes.plot(betas_E, median, color=COLOUR[name], lw=plots.LINE, label=name)
    for beta in betas:
        axes.axvline(beta, color=plots.FAINT, lw=0.6, ls=(0, (3, 2)))
        _above(axes, beta, f"{beta:g}")
    axes.set_xscale("log")
    axes.set_xlim(betas_E.max(), 0.9)
    axes.set_xticks((100, 10, 1), ("100", "10", "1"))
    axes.set_ylim(0, None)
    axes.set_xlabel("pressure beta, falling", fontsize=plots.SMALL)
    axes.set_ylabel("information in the latent (KL, nats)", fontsize=plots.SMALL)
    axes.legend(fontsize=plots.SMALL, frameon=False, loc="upper left")


def training(axes, strip, workdir):
    """NMI of each factor's best latent over training, stages as bands; below, which groups of latents are open."""
    config = json.loads((workdir / "config.json").read_text())
    records = read_records(workdir / "metrics.jsonl")
    evaluated = [record for record in records if record["kind"] == "eval"]
    steps = np.array([0, *(record["step"] for record in evaluated)])
    names = ("shape", "scale", "orientation", "posX", "posY")
    best_ExF = np.array([np.max(record["nmi"], axis=0) for record in evaluated])
    for name in FACTORS:
        axes.plot(steps, [0, *best_ExF[:, names.index(name)]], color=COLOUR[name], lw=plots.LINE)
    betas, total = config["stages"]["betas"], config["total_steps"]
    ends = [total * (stage + 1) // len(betas) for stage in range(len(betas))]
    starts = [0, *ends[:-1]]
    for stage, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if stage:
            axes.axvline(start, color=plots.FAINT, lw=0.6, ls=(0, (3, 2)))
        _above(axes, (start + end) / 2, f"beta {betas[stage]:g}")
    gamma = config["optimizer"]["gamma"]
    for group, (start, end) in enumerate(zip(starts, ends, strict=True)):
        strip.barh(-group, end - start, left=start, height=0.7, color=plots.PALETTE[0])
        strip.barh(-group, total - end, left=end, height=0.7, color=plots.PALETTE[0], alpha=0.25)
        told = {"va": "center", "fontsize": plots.SMALL - 1.5}
        strip.text(start + 0.01 * total, -group, "full rate", color="white", **told)
        if end < total:
            strip.text(end + 0.01 * total, -group, f"rate x {gamma:g}", color=plots.INK, **told)
    labels = [f"group {group}" for group in range(len(betas))]
    strip.set_yticks([-group for group in range(len(betas))], labels)
    strip.set_xlim(0, total)
    strip.set_xlabel("training step", fontsize=plots.SMALL)
    strip.tick_params(axis="y", length=0)
    axes.set_ylim(0, None)
    axes.tick_params(labelbottom=False)
    axes.set_ylabel("NMI of the best latent", fontsize=plots.SMALL)


def main():
    """Writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--annealing", type=pathlib.Path, required=True)
    parser.add_argument("--training", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/method.png"))
    args = parser.parse_args()
    betas = json.loads((args.training / "config.json").read_text())["stages"]["betas"]
    figure = Figure(figsize=(7.2, 2.9), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.25))
    curves = left.subplots()
    freezing(curves, args.annealing, betas)
    above, below = right.subplots(2, 1, sharex=True, height_ratios=(2.2, 1))
    training(above, below, args.training)
    for axes in (curves, above, below):
        axes.tick_params(labelsize=plots.SMALL)
        for spine in ("top", "right"):
            axes.spines[spine].set_visible(False)
    left.suptitle("1  Annealing test: what freezes at which beta", fontsize=plots.TEXT)
    right.suptitle("2  Stages: lower beta, one more group of latents", fontsize=plots.TEXT)
    plots.save(figure, args.out)
    print(args.out)


if __name__ == "__main__":
    main()
