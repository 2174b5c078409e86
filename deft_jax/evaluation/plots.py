"""Figures of representations, all of them under one name: arrays in, matplotlib Figure out, `save` writes a PNG.

Here are the NMI heat map and the curves over training; grids of images are in image_grids.py, the ledger is in
ledger_plot.py, colours and sizes are in plot_style.py. In a notebook, `IPython.display.display(figure)` shows a figure.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from deft_jax.evaluation.image_grids import as_rgb, gallery, reconstructions, traversals
from deft_jax.evaluation.latent_selection import select_latents, selection_note, shown_latents
from deft_jax.evaluation.ledger_plot import ledger_over_time
from deft_jax.evaluation.plot_style import (
    DASHES,
    DPI,
    FAINT,
    INK,
    LINE,
    PALETTE,
    SMALL,
    TEXT,
    add_colorbar,
    add_legend,
    cycle_style,
    draw_nmi,
    label_axes,
    number_steps,
    save,
    style_axes,
)
from deft_jax.evaluation.shape_checks import as_array, check_equal_counts

__all__ = [
    "DPI", "FAINT", "INK", "LINE", "PALETTE", "SMALL", "TEXT", "as_rgb", "gallery", "kl_over_time",
    "ledger_over_time", "nmi_heatmap", "nmi_over_time", "reconstructions", "save", "traversals",
]  # fmt: skip


def nmi_heatmap(
    nmi_DxF: ArrayLike,
    factor_names: Sequence[str],
    group_of_latent_D: ArrayLike | None = None,
    title: str | None = None,
    kl_D: ArrayLike | None = None,
) -> Figure:
    """Normalised mutual information of every latent with every factor, with the numbers.

    Of more than 20 latents, those of highest KL are shown, as the title then states.

    Args:
      nmi_DxF: values in [0, 1], [D, F].
      factor_names: F names.
      group_of_latent_D: the group of each latent, 0, 1, ...; several are named, with lines between them.
      title: text above, or None.
      kl_D: KL of each latent in nats, by which more than 20 are ranked; default: by their best NMI.

    Returns:
      A Figure.

    Raises:
      ValueError: a shape does not fit.
    """
    nmi = as_array("nmi", nmi_DxF, "[D, F]")
    check_equal_counts("factor names", len(factor_names), "columns of nmi", nmi.shape[1])
    groups = None if group_of_latent_D is None else _check_groups(group_of_latent_D, len(nmi))
    latents, note = select_latents(nmi, kl_D)
    figure = Figure(figsize=(1.7 + 0.62 * len(factor_names), 0.75 + 0.25 * len(latents)), layout="constrained")
    axes = figure.add_subplot()
    image = draw_nmi(axes, nmi[latents], factor_names, latents)
    if groups is not None:
        _mark_groups(axes, groups[latents])
    add_colorbar(image, axes, (0, 0.5, 1), "I(z; v) / H(v)", aspect=28, pad=0.02)
    title = "\n".join(filter(None, [title, note]))
    if title:
        axes.set_title(title, fontsize=TEXT + 1, color=INK, pad=6)
    return figure


def nmi_over_time(
    steps_E: ArrayLike,
    nmi_ExF: ArrayLike,
    factor_names: Sequence[str],
    ylabel: str,
    stage_starts: Sequence[float] = (),
    betas: Sequence[float] = (),
) -> Figure:
    """One line per factor over training: NMI2 shows information diffusion, NMI1 what has been learned.

    Args:
      steps_E: the training steps of E evaluations, rising.
      nmi_ExF: a value per evaluation and factor, in [0, 1]; NaN leaves a gap.
      factor_names: F names.
      ylabel: what the values are, for example 'NMI2'.
      stage_starts: first steps of the stages, drawn as thin vertical lines.
      betas: the beta of each stage, written at its line; empty for none.

    Returns:
      A Figure.

    Raises:
      ValueError: a shape does not fit.
    """
    steps_E, nmi_ExF = _check_curves(steps_E, "nmi", nmi_ExF, "[E, F]")
    check_equal_counts("factor names", len(factor_names), "columns of nmi", nmi_ExF.shape[1])
    figure, axes = _axes_over_steps(steps_E, ylabel, stage_starts, betas)
    for index, name in enumerate(factor_names):
        colour, dashes = cycle_style(index)
        axes.plot(steps_E, nmi_ExF[:, index], color=colour, linestyle=dashes, label=name, clip_on=False)
    _fit_and_explain(figure, axes, nmi_ExF)
    return figure


def kl_over_time(
    steps_E: ArrayLike,
    kl_ExD: ArrayLike,
    group_of_latent_D: ArrayLike,
    stage_starts: Sequence[float] = (),
    betas: Sequence[float] = (),
) -> Figure:
    """KL of every latent to the prior over training, coloured by group where there are several.

    Of more than 20 latents, those of highest KL at the last evaluation are shown, as the title then states.

    Args:
      steps_E: the training steps of E evaluations, rising.
      kl_ExD: KL per latent in nats, mean over examples; NaN leaves a gap.
      group_of_latent_D: the group of each latent, 0, 1, ...
      stage_starts: first steps of the stages, drawn as thin vertical lines.
      betas: the beta of each stage, written at its line; empty for none.

    Returns:
      A Figure.

    Raises:
      ValueError: a shape does not fit.
    """
    steps_E, kl_ExD = _check_curves(steps_E, "kl", kl_ExD, "[E, D]")
    groups = _check_groups(group_of_latent_D, kl_ExD.shape[1])
    latents = shown_latents(kl_ExD[-1])
    figure, axes = _axes_over_steps(steps_E, "KL (nats)", stage_starts, betas)
    note = selection_note(len(latents), kl_ExD.shape[1])
    if note:
        figure.suptitle(note, fontsize=TEXT, color=INK)
    several_groups = len(set(groups.tolist())) > 1
    for latent in latents:
        group = groups[latent]
        place = int((groups[latents[latents < latent]] == group).sum())  # among the latents of this group
        if several_groups:  # a group has one colour; its latents differ in their dashes, then in opacity
            colour, dashes, label = _group_colour(group), DASHES[place % len(DASHES)], f"z{latent} (group {group})"
            repeats = place // len(DASHES)
        else:
            (colour, dashes), label = cycle_style(place), f"z{latent}"
            repeats = place // (len(PALETTE) * len(DASHES))
        alpha = 1 - 0.18 * min(repeats, 4)
        axes.plot(steps_E, kl_ExD[:, latent], color=colour, linestyle=dashes, alpha=alpha, clip_on=False, label=label)
    _fit_and_explain(figure, axes, kl_ExD[:, latents])
    return figure


def _mark_groups(axes: Axes, groups_D: np.ndarray) -> None:
    """Lines between the groups of a heat map's rows, and their names; nothing for a single group."""
    edges = [0, *(np.flatnonzero(np.diff(groups_D)) + 1), len(groups_D)]
    if len(edges) == 2:
        return
    for edge in edges[1:-1]:
        axes.axhline(edge - 0.5, color=INK, linewidth=0.9)
    for start, stop in itertools.pairwise(edges):
        axes.annotate(
            f"group {groups_D[start]}", (0, (start + stop - 1) / 2), xycoords=axes.get_yaxis_transform(),
            xytext=(-26, 0), textcoords="offset points", ha="right", va="center_baseline", fontsize=SMALL,
            color=_group_colour(groups_D[start]),
        )  # fmt: skip


def _axes_over_steps(
    steps: np.ndarray, ylabel: str, stage_starts: Sequence[float], betas: Sequence[float]
) -> tuple[Figure, Axes]:
    """Empty axes over training steps, with the starts of stages and their betas."""
    if len(betas):
        check_equal_counts("betas", len(betas), "stage starts", len(stage_starts))
    figure = Figure(figsize=(5.5, 2.6), layout="constrained")
    axes = figure.add_subplot()
    left, right = min([steps[0], *stage_starts]), max([steps[-1], *stage_starts])
    axes.set_xlim(left, right if right > left else left + 1)
    label_axes(axes, "training step", ylabel)
    number_steps(axes, 7)
    axes.set_prop_cycle(linewidth=[LINE])
    style_axes(axes, ("left", "bottom"))
    x_in_steps = axes.get_xaxis_transform()  # y in parts of the axes
    lines = [((start, 0), (start, 1.03)) for start in stage_starts]
    axes.add_collection(
        LineCollection(lines, colors=FAINT, linewidths=0.6, transform=x_in_steps, clip_on=False, zorder=1),
        autolim=False,
    )
    for start, beta in zip(stage_starts, betas, strict=False):
        axes.annotate(
            f"β = {beta:.3g}", (start, 1.03), xycoords=x_in_steps, xytext=(2, 0), textcoords="offset points",
            va="center", fontsize=SMALL, color=INK,
        )  # fmt: skip
    return figure, axes


def _fit_and_explain(figure: Figure, axes: Axes, values_ExL: np.ndarray) -> None:
    """Limits of y that show 0 and all values, and a legend."""
    finite = values_ExL[np.isfinite(values_ExL)]
    top = float(finite.max(initial=0.0))
    axes.set_ylim(min(0.0, float(finite.min(initial=0.0))), 1.05 * top if top > 0 else 1)
    columns = -(-values_ExL.shape[1] // 12)
    add_legend(figure, ncols=columns, handlelength=2.2, labelspacing=0.35, columnspacing=1.0, borderaxespad=0.2)


def _group_colour(group: int) -> str:
    return PALETTE[int(group) % len(PALETTE)]


def _check_curves(steps: ArrayLike, name: str, values: ArrayLike, axes: str) -> tuple[np.ndarray, np.ndarray]:
    steps, values = as_array("steps", steps, "[E]"), as_array(name, values, axes)
    check_equal_counts("steps", len(steps), f"rows of {name}", len(values))
    return steps, values


def _check_groups(group_of_latent: ArrayLike, num_latents: int) -> np.ndarray:
    groups = np.asarray(group_of_latent)
    if groups.shape != (num_latents,):
        raise ValueError(f"group_of_latent must have shape ({num_latents},), got {groups.shape}")
    return groups
