"""Figures that only the report shows: arrays in, matplotlib Figure out."""

import itertools

import numpy as np
from matplotlib.collections import EllipseCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from deft_jax.evaluation.latent_selection import select_latents
from deft_jax.evaluation.plot_style import FAINT, INK, LINE, PALETTE, SMALL, TEXT, style_axes

_BAND = "#F0F3F6"


def _time_axis(axes, steps, stage_starts, bands=True):
    """Steps along x; every second stage on a grey ground."""
    left, right = min([steps[0], *stage_starts[:1]]), max(steps[-1], steps[0] + 1)
    edges = [start for start in stage_starts if start < right] + [right]
    for stage, (start, stop) in enumerate(itertools.pairwise(edges)):
        if bands and stage % 2:
            axes.axvspan(start, stop, color=_BAND, lw=0, zorder=0)
    axes.set_xlim(left, right)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    style_axes(axes, visible_sides=("left", "bottom") if bands else ())
    return edges


def _log_where_wide(axes, values):
    """A logarithmic axis for positive values of which the highest is more than ten times the lowest."""
    finite = values[np.isfinite(values)]
    if len(finite) and finite.min() > 0 and finite.max() > 10 * finite.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())


def training_curves(steps_E, curves, stage_starts=(), logarithmic=()):
    """What a run logged over its steps: a panel a quantity.

    Args:
      steps_E: rising. curves: label -> values [E].
      stage_starts: first steps of the stages; every second stage has a grey ground.
      logarithmic: labels whose axis is logarithmic where the values are positive and span more than a factor of ten.

    Returns:
      A Figure.

    Raises:
      ValueError: there is no step, or a curve has not one value a step.
    """
    steps_E = np.asarray(steps_E, float)
    if not len(steps_E) or any(len(values) != len(steps_E) for values in curves.values()):
        lengths = {label: len(values) for label, values in curves.items()}
        raise ValueError(f"{len(steps_E)} steps for curves of length {lengths}")
    rows = -(-len(curves) // 2)
    figure = Figure(figsize=(11, 0.3 + 2.1 * rows), layout="constrained")
    panels = figure.subplots(rows, 2, squeeze=False, sharex=True).ravel()
    for panel in panels[len(curves):]:
        panel.set_axis_off()
    for index, (label, values) in enumerate(curves.items()):
        axes, values = panels[index], np.asarray(values, float)
        axes.plot(steps_E, values, color=PALETTE[index % len(PALETTE)], linewidth=LINE)
        axes.set_ylabel(label, fontsize=TEXT, color=INK)
        if label in logarithmic:
            _log_where_wide(axes, values)
        edges = _time_axis(axes, steps_E, stage_starts)
        for stage, (start, stop) in enumerate(itertools.pairwise(edges)):
            if index < 2 and len(edges) > 2:
                axes.text(
                    (start + stop) / 2, 1.02, f"stage {stage}", transform=axes.get_xaxis_transform(), ha="center",
                    fontsize=SMALL, color=INK,
                )
    for axes in panels[max(0, len(curves) - 2) : len(curves)]:
        axes.set_xlabel("training step", fontsize=TEXT, color=INK)
    return figure


def diffusion(steps_E, nmi_ExDxF, factor_names, stage_starts=(), kl_D=None):
    """Which latent knows each factor over training: one panel per factor, one row per latent, time to the right.

    Information diffusion is a second row of one panel that turns dark. Of more than 20 latents, those of highest KL are
    shown, and the title says so.

    Args:
      steps_E: rising. nmi_ExDxF: in [0, 1]. factor_names: F names. stage_starts: drawn as vertical lines.
      kl_D: KL of each latent in nats, by which more than 20 are ranked; default: by their best NMI at any step.

    Returns:
      A Figure.

    Raises:
      ValueError: the shapes do not fit.
    """
    steps_E, nmi = np.asarray(steps_E, float), np.asarray(nmi_ExDxF, float)
    if nmi.ndim != 3 or 0 in nmi.shape or nmi.shape[0] != len(steps_E) or nmi.shape[2] != len(factor_names):
        raise ValueError(f"nmi has shape {nmi.shape} for {len(steps_E)} steps and {len(factor_names)} factors")
    latents, note = select_latents(nmi.max(axis=0), kl_D)
    nmi = nmi[:, latents]
    num_latents, num_factors = nmi.shape[1:]
    columns = min(3, num_factors)
    rows = -(-num_factors // columns)
    height = 0.45 + 0.13 * max(6, num_latents)
    figure = Figure(figsize=(11, 0.25 + height * rows), layout="constrained")
    if note:
        figure.suptitle(note, fontsize=TEXT, color=INK)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    edges = np.concatenate([[min(0.0, steps_E[0] - 1)], steps_E])  # an evaluation colours the steps before it
    for panel in panels[num_factors:]:
        panel.set_axis_off()
    for index, name in enumerate(factor_names):
        axes = panels[index]
        image = axes.pcolormesh(
            edges, np.arange(num_latents + 1) - 0.5, nmi[:, :, index].T, cmap="Blues", vmin=0, vmax=1, rasterized=True
        )
        _time_axis(axes, edges, stage_starts, bands=False)
        for start in stage_starts:
            if edges[0] < start < edges[-1]:
                axes.axvline(start, color=PALETTE[1], linewidth=0.7)
        axes.set_title(name, fontsize=TEXT + 1, color=INK, pad=3)
        axes.set_yticks(range(num_latents), [f"z{d}" for d in latents])
        axes.set_ylim(num_latents - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", labelbottom=index + columns >= num_factors)
        if index + columns >= num_factors:
            axes.set_xlabel("training step", fontsize=TEXT, color=INK)
    bar = figure.colorbar(image, ax=list(panels), aspect=28, pad=0.01, ticks=(0, 0.5, 1))
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=SMALL, labelcolor=INK)
    bar.set_label("I(z; v) / H(v)", fontsize=SMALL, color=INK)
    return figure


def stage_ends(nmi_SxDxF, factor_names, titles, kl_D=None):
    """The NMI matrix at the end of each stage, side by side.

    Of more than 20 latents, those of highest KL are shown, and the title says so.

    Args:
      nmi_SxDxF: in [0, 1]. factor_names: F names. titles: S of them.
      kl_D: KL of each latent in nats, by which more than 20 are ranked; default: by their best NMI in any stage.

    Returns:
      A Figure.

    Raises:
      ValueError: the shapes do not fit.
    """
    nmi = np.asarray(nmi_SxDxF, float)
    if nmi.ndim != 3 or 0 in nmi.shape or nmi.shape[0] != len(titles) or nmi.shape[2] != len(factor_names):
        raise ValueError(f"nmi has shape {nmi.shape} for {len(titles)} stages and {len(factor_names)} factors")
    latents, note = select_latents(nmi.max(axis=0), kl_D)
    nmi = nmi[:, latents]
    num_stages, num_latents, num_factors = nmi.shape
    columns = min(4, num_stages)
    rows = -(-num_stages // columns)
    figure = Figure(figsize=(11, rows * (0.75 + 0.19 * max(4, num_latents))), layout="constrained")
    if note:
        figure.suptitle(note, fontsize=TEXT, color=INK)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for panel in panels[num_stages:]:
        panel.set_axis_off()
    for index, title in enumerate(titles):
        axes = panels[index]
        axes.imshow(nmi[index], cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        for (d, f), value in np.ndenumerate(nmi[index]):
            colour = "white" if value > 0.55 else INK if value >= 0.05 else FAINT
            axes.text(f, d, f"{value:.2f}"[1:] if value < 0.995 else "1", ha="center", va="center_baseline",
                      fontsize=SMALL - 1, color=colour)
        axes.set_title(title, fontsize=TEXT, color=INK, pad=4)
        axes.set_xticks(range(num_factors), factor_names, rotation=30, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(num_latents), [f"z{d}" for d in latents])
        style_axes(axes, visible_sides=())
        axes.tick_params(length=0)
    return figure


def projections(mean_NxD, std_NxD, factors_NxF, factor_names, pairs, ellipses=60):
    """Posterior means on pairs of latents, coloured by factors, with ellipses of one standard deviation.

    Args:
      mean_NxD, std_NxD: posteriors of N images. factors_NxF: their factors. factor_names: F names.
      pairs: P entries ((latent across, latent up), (factor above, factor below)), a column each.
      ellipses: of how many images the ellipse is drawn.

    Returns:
      A Figure; the dashed circle is one standard deviation of the prior.

    Raises:
      ValueError: there is no pair, or the shapes do not fit.
    """
    mean, std, values = np.asarray(mean_NxD, float), np.asarray(std_NxD, float), np.asarray(factors_NxF)
    if not pairs or mean.shape != std.shape or values.shape != (len(mean), len(factor_names)):
        raise ValueError(f"{len(pairs)} pairs of means {mean.shape}, deviations {std.shape}, factors {values.shape}")
    figure = Figure(figsize=(11 * len(pairs) / 3, 6.2), layout="constrained")
    panels = figure.subplots(2, len(pairs), squeeze=False)
    turn = np.linspace(0, 2 * np.pi, 200)
    for column, ((across, up), shown) in enumerate(pairs):
        reach = max(2.2, 1.08 * np.abs(mean[:, [across, up]]).max())
        for axes, factor in zip(panels[:, column], shown, strict=True):
            levels = int(values[:, factor].max()) + 1
            few = levels <= 4  # named colours; more values have an order to show
            colours = ListedColormap(PALETTE[:levels]) if few else "viridis"
            limits = {"vmin": -0.5, "vmax": levels - 0.5} if few else {"vmin": 0, "vmax": levels - 1}
            points = axes.scatter(
                mean[:, across], mean[:, up], c=values[:, factor], cmap=colours, s=6, linewidths=0, alpha=0.55, **limits
            )
            some = slice(0, ellipses)
            outlines = EllipseCollection(
                2 * std[some, across], 2 * std[some, up], 0, units="xy", facecolors="none", linewidths=0.6,
                offsets=mean[some][:, [across, up]], offset_transform=axes.transData, edgecolors=INK,
            )
            axes.add_collection(outlines, autolim=False)
            axes.plot(np.cos(turn), np.sin(turn), color=FAINT, linewidth=0.7, linestyle=(0, (3, 2)))
            axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.set_xlabel(f"z{across}", fontsize=TEXT, color=INK, labelpad=1)
            axes.set_ylabel(f"z{up}", fontsize=TEXT, color=INK, labelpad=1)
            axes.set_title(f"coloured by {factor_names[factor]}", fontsize=TEXT, color=INK, pad=4)
            style_axes(axes, visible_sides=("left", "bottom"))
            bar = figure.colorbar(points, ax=axes, aspect=25, pad=0.01, shrink=0.9)
            bar.solids.set_alpha(1)
            bar.set_ticks(range(levels) if few else [0, (levels - 1) // 2, levels - 1])
            bar.outline.set_visible(False)
            bar.ax.tick_params(length=0, labelsize=SMALL, labelcolor=INK)
    return figure


def violins(scores, labels):
    """Scores of groups of runs side by side: a panel a score, a violin a group, a point a run.

    Args:
      scores: name -> one sequence of values a group, empty where a group has none; violins from two values on.
      labels: of the groups.

    Returns:
      A Figure.

    Raises:
      ValueError: there is no score, or one has not an entry a group.
    """
    if not scores or any(len(groups) != len(labels) for groups in scores.values()):
        raise ValueError(f"{len(labels)} labels, groups of scores: { {name: len(of) for name, of in scores.items()} }")
    columns = min(4, len(scores))
    rows = -(-len(scores) // columns)
    width = min(11.0, columns * max(2.4, 0.6 + 0.45 * len(labels)))
    figure = Figure(figsize=(width, 2.5 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[len(scores):]:
        panel.set_axis_off()
    for axes, (name, groups) in zip(panels, scores.items(), strict=False):
        for place, values in enumerate(groups):
            values = np.asarray([value for value in values if np.isfinite(value)], float)
            colour = PALETTE[place % len(PALETTE)]
            if len(values) > 1:
                for body in axes.violinplot(values, [place], widths=0.7, showextrema=False)["bodies"]:
                    body.set(facecolor=colour, edgecolor="none", alpha=0.25)
            if len(values):
                axes.hlines(values.mean(), place - 0.22, place + 0.22, color=colour, linewidth=LINE)
            aside = 0.06 * ((np.arange(len(values)) % 3) - 1) if len(values) > 3 else 0.0
            axes.plot(place + np.full(len(values), aside), values, "o", color=colour, markersize=3.5, mec="white",
                      mew=0.4)
        axes.set_title(name, fontsize=TEXT + 1, color=INK, pad=4)
        axes.set_xticks(range(len(labels)), labels)
        axes.set_xlim(-0.6, len(labels) - 0.4)
        style_axes(axes, visible_sides=("left", "bottom"))
        axes.tick_params(axis="x", length=0, labelsize=TEXT)
    return figure
