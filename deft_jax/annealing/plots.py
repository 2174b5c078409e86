"""Figures of the annealing test: arrays in, matplotlib Figure out. beta falls to the right, as it does in time."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import ArrayLike
from scipy import stats

from deft_jax.evaluation.latent_selection import selection_note, shown_latents
from deft_jax.evaluation.plot_style import (
    FAINT,
    INK,
    LINE,
    PALETTE,
    SMALL,
    TEXT,
    THIN_DASHES,
    add_colorbar,
    add_legend,
    colour_of_each,
    cycle_style,
    label_axes,
    style_axes,
)

_LEAST_WIDTH = 0.04  # of a density in log beta, 4 % of beta: factors whose trials agree would be a needle


def kl_over_beta(
    betas_E: ArrayLike, kl_TxE: ArrayLike, factor_of_trial_T: Sequence[str], threshold: float
) -> Figure:
    """KL of every trial over the falling beta, coloured by factor; the median of a factor's trials is bold.

    Args:
      betas_E: falling.
      kl_TxE: KL of each trial in nats, [T, E].
      factor_of_trial_T: names of factors.
      threshold: in nats, drawn dashed.

    Returns:
      A Figure.

    Raises:
      ValueError: the shapes do not fit.
    """
    betas, kl = np.asarray(betas_E, float), np.asarray(kl_TxE, float)
    if kl.shape != (len(factor_of_trial_T), len(betas)):
        raise ValueError(f"kl has shape {kl.shape} for {len(factor_of_trial_T)} trials and {len(betas)} betas")
    figure = Figure(figsize=(5.5, 2.8), layout="constrained")
    axes = figure.add_subplot()
    for name, colour in colour_of_each(list(dict.fromkeys(factor_of_trial_T))).items():
        rows = kl[[row for row, other in enumerate(factor_of_trial_T) if other == name]]
        axes.plot(betas, rows.T, color=colour, linewidth=0.4, alpha=0.35)
        axes.plot(betas, np.median(rows, axis=0), color=colour, linewidth=LINE + 0.3, label=name)
    axes.axhline(threshold, color=FAINT, linewidth=0.7, linestyle=THIN_DASHES)
    _set_beta_axis(axes, betas[0], betas[-1])
    axes.set_ylim(0, 1.02 * kl.max() if kl.max() > 0 else 1)
    label_axes(axes, "β", "KL (nats)")
    add_legend(figure, handlelength=1.6, labelspacing=0.4)
    return figure


def densities(betas_T: ArrayLike, factor_of_trial_T: Sequence[str], bounds_T: ArrayLike) -> Figure:
    """Distribution of the freezing points of each factor: a density in log beta, a mark per trial, the median.

    An open triangle marks the median bound of the same trials, the freezing point from the spectrum.

    Args:
      betas_T: freezing points of the trials in which information froze.
      factor_of_trial_T: names of factors.
      bounds_T: the bound of each trial.

    Returns:
      A Figure; factors from the highest median down.

    Raises:
      ValueError: the lengths differ, or there is no freezing point.
    """
    betas, bounds = np.asarray(betas_T, float), np.asarray(bounds_T, float)
    factor_of_trial = np.array(factor_of_trial_T)
    if not len(betas) or not len(betas) == len(bounds) == len(factor_of_trial):
        raise ValueError(f"{len(betas)} freezing points, {len(bounds)} bounds and {len(factor_of_trial)} factors")
    names = list(dict.fromkeys(factor_of_trial_T))
    colours = colour_of_each(names)
    medians = {name: _median_trial(betas[factor_of_trial == name]) for name in names}
    names.sort(key=lambda name: medians[name])  # the highest has the largest y, so it is at the top
    high, low = 1.25 * max(betas.max(), bounds.max()), betas.min() / 1.4
    grid = np.geomspace(low, high, 400)
    figure = Figure(figsize=(5.5, 0.6 + 0.55 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    for base, name in enumerate(names):
        points, colour = betas[factor_of_trial == name], colours[name]
        density = _log_density(np.log(points), np.log(grid))
        axes.fill_between(grid, base, base + 0.8 * density / density.max(), color=colour, alpha=0.3, lw=0)
        axes.plot(points, np.full(len(points), base - 0.07), "|", color=colour, markersize=4, mew=0.8)
        median, bound = medians[name], _median_trial(bounds[factor_of_trial == name])
        axes.vlines(median, base, base + 0.8, color=colour, linewidth=LINE)
        axes.plot(bound, base + 0.12, "v", color=colour, markersize=4.5, markerfacecolor="white", mew=0.9)
        axes.text(bound, base + 0.3, f"{bound:.3g}", fontsize=SMALL - 1, color=FAINT, ha="center")
        axes.text(median / 1.03, base + 0.62, f"{median:.3g}", fontsize=SMALL, color=INK, ha="left")
    _set_beta_axis(axes, high, low)
    axes.set_ylim(-0.2, len(names) - 0.1)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    label_axes(axes, "β at which the factor freezes (line: median; triangle: median bound)")
    return figure


def spectrum(
    eigenvalues_K: ArrayLike,
    total_effects_KxF: ArrayLike,
    factor_names: Sequence[str],
    first_modes: Mapping[str, int | None],
) -> Figure:
    """Eigenvalues above the shares of the factors in each mode.

    Args:
      eigenvalues_K: falling.
      total_effects_KxF: Sobol's total index of each mode and factor, [K, F].
      factor_names: F names.
      first_modes: name -> index of the factor's first mode, or None.

    Returns:
      A Figure.

    Raises:
      ValueError: the shapes do not fit.
    """
    values, effects = np.asarray(eigenvalues_K, float), np.asarray(total_effects_KxF, float)
    if effects.shape != (len(values), len(factor_names)):
        raise ValueError(f"total effects {effects.shape} for {len(values)} modes and {len(factor_names)} factors")
    matrix_height = 0.17 * len(factor_names)
    figure = Figure(figsize=(5.5, 2.2 + matrix_height), layout="constrained")
    curve, matrix = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 0.25 + matrix_height))
    curve.plot(values, ".", color=INK, markersize=3.5)
    curve.set_yscale("log")
    style_axes(curve, ("left", "bottom"))
    curve.tick_params(axis="x", length=0)
    _set_plain_ticks(curve.yaxis, values.min() / 1.5, 1.5 * values.max())
    label_axes(curve, ylabel="eigenvalue = bound on β")
    ring = {"marker": "o", "linestyle": "none", "markerfacecolor": "none", "mew": 1.3}
    for name, colour in colour_of_each(factor_names).items():
        mode = first_modes.get(name)
        if mode is not None:
            curve.plot(mode, values[mode], color=colour, markersize=6, **ring)
            curve.plot([], [], color=colour, markersize=5, label=f"{name}  {values[mode]:.3g}", **ring)
    image = matrix.imshow(effects.T, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    matrix.set_yticks(range(len(factor_names)), factor_names)
    matrix.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    label_axes(matrix, "mode")
    style_axes(matrix)
    matrix.tick_params(length=0)
    add_colorbar(image, matrix, (0, 1), "total effect", aspect=8, pad=0.01)
    if curve.get_legend_handles_labels()[0]:
        curve.legend(frameon=False, fontsize=SMALL, labelcolor=INK, title="first mode of", title_fontsize=SMALL)
    return figure


def whole_set(
    history: Mapping[str, Any], rate_E: ArrayLike, peaks: Sequence[float], factor_names: Sequence[str]
) -> Figure:
    """What a VAE on the whole set learns as beta falls: information, its rate, KL per latent, factors.

    Of more than 20 latents, those of highest KL at the lowest beta are shown, as the title then states.

    Args:
      history: 'beta' [E], 'mutual_information' and its 'mutual_information_upper' [E], 'total_correlation' [E],
        'dimension_wise_kl' [E], 'kl_per_latent' [E, D] and 'factor_information' [E, F], all in nats.
      rate_E: -dI/d(log beta).
      peaks: betas, drawn as vertical lines.
      factor_names: F names.

    Returns:
      A Figure.
    """
    betas = np.asarray(history["beta"], float)
    rows = 4 if factor_names else 3  # without factors there is nothing to draw in the fourth
    figure = Figure(figsize=(5.5, 1.55 * rows), layout="constrained")
    decomposition, rate, latents, *_ = panels = figure.subplots(rows, 1, sharex=True)
    _draw_decomposition(decomposition, betas, history)
    rate.plot(betas, rate_E, color=PALETTE[0], linewidth=LINE)
    rate.set_ylim(bottom=min(0.0, float(np.asarray(rate_E, float).min())))
    _draw_latents(latents, betas, np.asarray(history["kl_per_latent"], float))
    factor_curves = np.asarray(history["factor_information"]).T
    for (name, colour), values in zip(colour_of_each(factor_names).items(), factor_curves, strict=True):
        panels[3].plot(betas, values, color=colour, linewidth=LINE, label=name)
    lowest = panels[-1]
    lowest.axhline(0.1, color=FAINT, linewidth=0.7, linestyle=THIN_DASHES)
    labels = ("nats", "−dI / d log β", "KL (nats)", "max I(z; factor) (nats)")
    for axes, label in zip(panels, labels[:rows], strict=True):
        _set_beta_axis(axes, betas[0], betas[-1])
        label_axes(axes, "β" if axes is lowest else None, label)
        for peak in peaks:
            axes.axvline(peak, color=FAINT, linewidth=0.6, zorder=0)
        _add_inner_legend(axes)
    for peak in peaks:
        rate.annotate(f"{peak:.3g}", (peak, 1.0), xycoords=rate.get_xaxis_transform(), fontsize=SMALL, color=INK,
                      ha="left", va="bottom")  # fmt: skip
    return figure


def _draw_decomposition(axes: Axes, betas: np.ndarray, history: Mapping[str, Any]) -> None:
    lower, upper = history["mutual_information"], history["mutual_information_upper"]
    axes.fill_between(betas, lower, upper, color=PALETTE[0], alpha=0.25, lw=0)
    for index, (name, label) in enumerate({
        "mutual_information": "I(x; z), lower to upper",
        "total_correlation": "total correlation",
        "dimension_wise_kl": "dimension-wise KL",
    }.items()):  # fmt: skip
        axes.plot(betas, history[name], color=PALETTE[index], linewidth=LINE, label=label)


def _draw_latents(axes: Axes, betas: np.ndarray, kl_ExD: np.ndarray) -> None:
    latents = shown_latents(kl_ExD[-1])
    for place, latent in enumerate(latents):
        colour, dashes = cycle_style(place)
        axes.plot(betas, kl_ExD[:, latent], color=colour, linestyle=dashes, linewidth=LINE, label=f"z{latent}")
    axes.set_title(selection_note(len(latents), kl_ExD.shape[1]), fontsize=TEXT, color=INK)


def _add_inner_legend(axes: Axes) -> None:
    """A legend in the corner where beta is high and curves are low; beside the panel where it would cover them."""
    entries = len(axes.get_legend_handles_labels()[0])
    if entries:
        place: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1, 0.5)} if entries > 10 else {
            "loc": "upper left"
        }
        axes.legend(
            frameon=False, fontsize=SMALL, labelcolor=INK, handlelength=1.4, ncols=2 if entries > 8 else 1, **place
        )


def _log_density(logs_T: np.ndarray, grid_G: np.ndarray) -> np.ndarray:
    """Density of freezing points in log beta at the points of a grid, [G].

    Gaussian kernels; their width is Silverman's rule of thumb (1986, eq. 3.31), but at least _LEAST_WIDTH.
    """
    width = max(_LEAST_WIDTH, 0.9 * min(np.std(logs_T), stats.iqr(logs_T) / 1.34) * len(logs_T) ** -0.2)
    deviation = np.std(logs_T, ddof=1) if len(logs_T) > 1 else 0.0
    if deviation < 1e-9:  # gaussian_kde takes its width in units of the deviation
        return stats.norm.pdf(grid_G, np.mean(logs_T), width)
    return stats.gaussian_kde(logs_T, width / deviation)(grid_G)


def _median_trial(values_T: np.ndarray) -> float:
    """The median as one of the trials, without interpolation, as in freezing_points.summarise."""
    return float(np.quantile(values_T, 0.5, method="inverted_cdf"))


def _set_plain_ticks(axis: Axis, low: float, high: float) -> None:
    """1, 2, 5, 10, ... on a logarithmic axis, written as plain numbers."""
    ticks = [step * 10.0**power for power in range(-3, 6) for step in (1, 2, 5)]
    axis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _set_beta_axis(axes: Axes, high: float, low: float) -> None:
    """A logarithmic axis of beta, falling to the right."""
    axes.set_xscale("log")
    axes.set_xlim(high, low)
    _set_plain_ticks(axes.xaxis, low, high)
    style_axes(axes, ("left", "bottom"))
