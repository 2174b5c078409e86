"""Figures that only the report shows: arrays in, matplotlib Figure out."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike

from deft_jax.evaluation.latent_selection import select_latents
from deft_jax.evaluation.plot_style import (
    FAINT,
    INK,
    LINE,
    PALETTE,
    SMALL,
    TEXT,
    THIN_DASHES,
    add_colorbar,
    draw_nmi,
    label_axes,
    number_steps,
    style_axes,
)

_STAGE_GROUND = "#F0F3F6"
WIDTH = 11
"""Inches of a figure that fills the page."""


def training_curves(
    steps_E: ArrayLike,
    curves: Mapping[str, ArrayLike],
    stage_starts: Sequence[float] = (),
    logarithmic: Sequence[str] = (),
) -> Figure:
    """What a run logged over its steps: one panel per quantity.

    Args:
      steps_E: rising.
      curves: label -> values [E].
      stage_starts: first steps of the stages; every second stage has a grey ground.
      logarithmic: labels whose axis is logarithmic where the values are positive and span more than a factor of ten.

    Returns:
      A Figure.

    Raises:
      ValueError: there is no step, or a curve is not as long as the steps.
    """
    steps, values_of_label = np.asarray(steps_E, float), {name: np.asarray(curve) for name, curve in curves.items()}
    lengths = {label: len(values) for label, values in values_of_label.items()}
    if not len(steps) or set(lengths.values()) != {len(steps)}:
        raise ValueError(f"{len(steps)} steps for curves of length {lengths}")
    figure, panels = _panels(len(curves), 2, lambda rows: (WIDTH, 0.3 + 2.1 * rows), sharex=True)
    for index, (axes, (label, values)) in enumerate(zip(panels, values_of_label.items(), strict=True)):
        axes.plot(steps, values, color=PALETTE[index % len(PALETTE)], linewidth=LINE)
        if label in logarithmic:
            _set_log_where_wide(axes, values)
        edges = _set_step_axis(axes, steps, stage_starts)
        stages = list(enumerate(itertools.pairwise(edges)))
        for _, (start, stop) in stages[1::2]:
            axes.axvspan(start, stop, color=_STAGE_GROUND, lw=0, zorder=0)
        style_axes(axes, ("left", "bottom"))
        label_axes(axes, "training step" if index >= len(panels) - 2 else None, label)
        if index < 2 and len(stages) > 1:
            for stage, (start, stop) in stages:
                axes.text((start + stop) / 2, 1.02, f"stage {stage}", transform=axes.get_xaxis_transform(),
                          ha="center", fontsize=SMALL, color=INK)  # fmt: skip
    return figure


def diffusion(
    steps_E: ArrayLike,
    nmi_ExDxF: ArrayLike,
    factor_names: Sequence[str],
    stage_starts: Sequence[float] = (),
    kl_D: ArrayLike | None = None,
) -> Figure:
    """NMI of every latent with each factor over training: one panel per factor, one row per latent.

    Information diffusion is a second row of one panel that turns dark. Of more than 20 latents, those of highest KL are
    shown, as the title then states.

    Args:
      steps_E: rising.
      nmi_ExDxF: in [0, 1].
      factor_names: F names.
      stage_starts: drawn as vertical lines.
      kl_D: KL of each latent in nats, by which more than 20 are ranked; default: by their best NMI at any step.

    Returns:
      A Figure.

    Raises:
      ValueError: the shapes do not fit.
    """
    steps, nmi = np.asarray(steps_E, float), _check_nmi(nmi_ExDxF, np.size(steps_E), "steps", factor_names)
    latents, note = select_latents(nmi.max(axis=0), kl_D)
    height = 0.45 + 0.13 * max(6, len(latents))
    columns = min(3, len(factor_names))
    figure, panels = _panels(
        len(factor_names), columns, lambda rows: (WIDTH, 0.25 + height * rows), sharex=True, sharey=True
    )
    figure.suptitle(note, fontsize=TEXT, color=INK)
    edges = np.concatenate([[min(0.0, steps[0] - 1)], steps])  # an evaluation colours the steps before it
    for index, (axes, name) in enumerate(zip(panels, factor_names, strict=True)):
        image = axes.pcolormesh(
            edges, np.arange(len(latents) + 1) - 0.5, nmi[:, latents, index].T, cmap="Blues", vmin=0, vmax=1,
            rasterized=True,
        )  # fmt: skip
        _set_step_axis(axes, edges, stage_starts)
        style_axes(axes)
        for start in stage_starts:
            if edges[0] < start < edges[-1]:
                axes.axvline(start, color=PALETTE[1], linewidth=0.7)
        axes.set_title(name, fontsize=TEXT + 1, color=INK, pad=3)
        axes.set_yticks(range(len(latents)), [f"z{latent}" for latent in latents])
        axes.set_ylim(len(latents) - 0.5, -0.5)
        is_lowest = index + columns >= len(panels)
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", labelbottom=is_lowest, length=2.5 if is_lowest else 0)
        label_axes(axes, "training step" if is_lowest else None)
    add_colorbar(image, panels, (0, 0.5, 1), "I(z; v) / H(v)", aspect=28, pad=0.01)
    return figure


def stage_ends(
    nmi_SxDxF: ArrayLike, factor_names: Sequence[str], titles: Sequence[str], kl_D: ArrayLike | None = None
) -> Figure:
    """The NMI matrix at the end of each stage, side by side.

    Of more than 20 latents, those of highest KL are shown, as the title then states.

    Args:
      nmi_SxDxF: in [0, 1].
      factor_names: F names.
      titles: S of them.
      kl_D: KL of each latent in nats, by which more than 20 are ranked; default: by their best NMI in any stage.

    Returns:
      A Figure.

    Raises:
      ValueError: the shapes do not fit.
    """
    nmi = _check_nmi(nmi_SxDxF, len(titles), "stages", factor_names)
    latents, note = select_latents(nmi.max(axis=0), kl_D)
    height = 0.75 + 0.19 * max(4, len(latents))
    figure, panels = _panels(len(titles), min(4, len(titles)), lambda rows: (WIDTH, rows * height), sharey=True)
    figure.suptitle(note, fontsize=TEXT, color=INK)
    for axes, matrix_DxF, title in zip(panels, nmi[:, latents], titles, strict=True):
        draw_nmi(axes, matrix_DxF, factor_names, latents, short=True)
        axes.set_xticks(range(len(factor_names)), factor_names, rotation=30, ha="right", rotation_mode="anchor")
        axes.set_title(title, fontsize=TEXT, color=INK, pad=4)
    return figure


def projections(
    mean_NxD: ArrayLike,
    std_NxD: ArrayLike,
    factors_NxF: ArrayLike,
    factor_names: Sequence[str],
    pairs: Sequence[tuple[tuple[int, int], tuple[int, int]]],
    ellipses: int = 60,
) -> Figure:
    """Posterior means on pairs of latents, coloured by factors, with ellipses of one standard deviation.

    The dashed circle is one standard deviation of the prior.

    Args:
      mean_NxD, std_NxD: posteriors of N images.
      factors_NxF: their factors.
      factor_names: F names.
      pairs: P entries ((latent across, latent up), (factor above, factor below)), one column each.
      ellipses: of how many images the ellipse is drawn.

    Returns:
      A Figure.

    Raises:
      ValueError: there is no pair, or the shapes do not fit.
    """
    mean, std, factors = np.asarray(mean_NxD, float), np.asarray(std_NxD, float), np.asarray(factors_NxF)
    if not pairs or mean.shape != std.shape or factors.shape != (len(mean), len(factor_names)):
        raise ValueError(f"{len(pairs)} pairs of means {mean.shape}, deviations {std.shape}, factors {factors.shape}")
    figure = Figure(figsize=(WIDTH * len(pairs) / 3, 6.2), layout="constrained")
    panels = figure.subplots(2, len(pairs), squeeze=False)
    for column, (latents, colouring) in enumerate(pairs):
        mean_Nx2, std_Nx2 = mean[:, latents], std[:ellipses, latents]
        for axes, factor in zip(panels[:, column], colouring, strict=True):
            _scatter(axes, mean_Nx2, factors[:, factor])
            _draw_deviations(axes, mean_Nx2[:ellipses], std_Nx2)
            limit = max(2.2, 1.08 * np.abs(mean_Nx2).max())
            axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MaxNLocator(5, integer=True))
            label_axes(axes, f"z{latents[0]}", f"z{latents[1]}", labelpad=1)
            axes.set_title(f"coloured by {factor_names[factor]}", fontsize=TEXT, color=INK, pad=4)
            style_axes(axes, ("left", "bottom"))
    return figure


def violins(scores: Mapping[str, Sequence[Sequence[float]]], labels: Sequence[str]) -> Figure:
    """Scores of groups of runs side by side: one panel per score, one violin per group, one point per run.

    Args:
      scores: name -> one sequence of values per group, empty where a group has none; violins from two values on.
      labels: of the groups.

    Returns:
      A Figure.

    Raises:
      ValueError: there is no score, or one has another number of groups than there are labels.
    """
    counts = {name: len(groups) for name, groups in scores.items()}
    if set(counts.values()) != {len(labels)}:
        raise ValueError(f"{len(labels)} labels, groups of scores: {counts}")
    columns = min(4, len(scores))
    width = min(WIDTH, columns * max(2.4, 0.6 + 0.45 * len(labels)))
    figure, panels = _panels(len(scores), columns, lambda rows: (width, 2.5 * rows))
    for axes, (name, groups) in zip(panels, scores.items(), strict=True):
        for place, scores_of_group in enumerate(groups):
            values = np.asarray([score for score in scores_of_group if np.isfinite(score)], float)
            colour = PALETTE[place % len(PALETTE)]
            if len(values) > 1:
                bodies: Any = axes.violinplot(values, [place], widths=0.7, showextrema=False)["bodies"]
                for body in bodies:
                    body.set(facecolor=colour, edgecolor="none", alpha=0.25)
            if len(values):
                axes.hlines(values.mean(), place - 0.22, place + 0.22, color=colour, linewidth=LINE)
            # Points of many runs are set off sideways, so that equal scores stay visible.
            offsets = 0.06 * ((np.arange(len(values)) % 3) - 1) if len(values) > 3 else np.zeros(len(values))
            axes.plot(place + offsets, values, "o", color=colour, markersize=3.5, mec="white", mew=0.4)
        axes.set_title(name, fontsize=TEXT + 1, color=INK, pad=4)
        axes.set_xticks(range(len(labels)), labels)
        axes.set_xlim(-0.6, len(labels) - 0.4)
        style_axes(axes, ("left", "bottom"))
        axes.tick_params(axis="x", length=0, labelsize=TEXT)
    return figure


def _panels(
    count: int, columns: int, size: Callable[[int], tuple[float, float]], sharex: bool = False, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure with `count` axes, row by row. size: number of rows -> width and height in inches."""
    rows = -(-count // columns)
    figure = Figure(figsize=size(rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey).ravel()
    for panel in panels[count:]:
        panel.set_axis_off()
    return figure, list(panels[:count])


def _set_step_axis(axes: Axes, steps: np.ndarray, stage_starts: Sequence[float]) -> list[float]:
    """Steps along x. Returns the edges of the stages within them."""
    left, right = min([steps[0], *stage_starts[:1]]), max(steps[-1], steps[0] + 1)
    axes.set_xlim(left, right)
    number_steps(axes, 6)
    return [start for start in stage_starts if start < right] + [right]


def _set_log_where_wide(axes: Axes, values: np.ndarray) -> None:
    """A logarithmic axis for positive values of which the highest is more than ten times the lowest."""
    finite = values[np.isfinite(values)]
    if len(finite) and finite.min() > 0 and finite.max() > 10 * finite.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())


def _scatter(axes: Axes, mean_Nx2: np.ndarray, factor_N: np.ndarray) -> None:
    """Means coloured by a factor, and the colour bar."""
    levels = int(factor_N.max()) + 1
    few = levels <= 4  # distinct colours; more values have an order to show
    points = axes.scatter(
        mean_Nx2[:, 0], mean_Nx2[:, 1], c=factor_N, cmap=ListedColormap(PALETTE[:levels]) if few else "viridis", s=6,
        linewidths=0, alpha=0.55, vmin=-0.5 if few else 0, vmax=levels - 0.5 if few else levels - 1,
    )  # fmt: skip
    ticks = range(levels) if few else [0, (levels - 1) // 2, levels - 1]
    bar = add_colorbar(points, axes, ticks, aspect=25, pad=0.01, shrink=0.9)
    if bar.solids is not None:
        bar.solids.set_alpha(1)


def _draw_deviations(axes: Axes, mean_Ex2: np.ndarray, std_Ex2: np.ndarray) -> None:
    """Ellipses of one standard deviation of posteriors, and the dashed circle of the prior."""
    outlines = EllipseCollection(
        2 * std_Ex2[:, 0], 2 * std_Ex2[:, 1], np.zeros(len(std_Ex2)), units="xy", facecolors="none", linewidths=0.6,
        offsets=mean_Ex2, offset_transform=axes.transData, edgecolors=INK,
    )  # fmt: skip
    axes.add_collection(outlines, autolim=False)
    angles = np.linspace(0, 2 * np.pi, 200)
    axes.plot(np.cos(angles), np.sin(angles), color=FAINT, linewidth=0.7, linestyle=THIN_DASHES)


def _check_nmi(nmi: ArrayLike, count: int, counted: str, factor_names: Sequence[str]) -> np.ndarray:
    """Matrices [count, D, F] as floats."""
    array = np.asarray(nmi, float)
    if array.ndim != 3 or 0 in array.shape or array.shape[0] != count or array.shape[2] != len(factor_names):
        raise ValueError(f"nmi has shape {array.shape} for {count} {counted} and {len(factor_names)} factors")
    return array
