"""Figures of the annealing test: arrays in, matplotlib Figure out. beta falls to the right, as it does in time."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from deft_jax.evaluation.plots import (
    DASHES,
    FAINT,
    INK,
    LINE,
    PALETTE,
    SMALL,
    TEXT,
    quiet,
    selection_note,
    shown_latents,
)


def _plain_ticks(axis, low, high):
    """1, 2, 5, 10, ... on a logarithmic axis, written as plain numbers."""
    ticks = [step * 10.0**power for power in range(-3, 6) for step in (1, 2, 5)]
    axis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _beta_axis(axes, high, low, label=True):
    """A logarithmic axis of beta, falling to the right."""
    axes.set_xscale("log")
    axes.set_xlim(high, low)
    _plain_ticks(axes.xaxis, low, high)
    if label:
        axes.set_xlabel("β", fontsize=TEXT, color=INK)
    quiet(axes, spines=("left", "bottom"))


def _colours(names):
    return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(names)}


def _legend(figure):
    figure.legend(
        loc="outside right center", frameon=False, fontsize=SMALL, labelcolor=INK, handlelength=1.6, labelspacing=0.4
    )


def kl_over_beta(betas_E, kl_TxE, factor_of_trial_T, threshold):
    """KL of every trial over the falling beta, coloured by factor; the median of a factor's trials is bold.

    Args:
      betas_E: falling. kl_TxE: in nats. factor_of_trial_T: names. threshold: in nats, drawn dashed.

    Returns:
      A Figure.

    Raises:
      ValueError: the shapes do not fit.
    """
    betas_E, kl_TxE = np.asarray(betas_E, float), np.asarray(kl_TxE, float)
    if kl_TxE.shape != (len(factor_of_trial_T), len(betas_E)):
        raise ValueError(f"kl has shape {kl_TxE.shape} for {len(factor_of_trial_T)} trials and {len(betas_E)} betas")
    names = list(dict.fromkeys(factor_of_trial_T))
    figure = Figure(figsize=(5.5, 2.8), layout="constrained")
    axes = figure.add_subplot()
    for name, colour in _colours(names).items():
        rows = kl_TxE[[row for row, other in enumerate(factor_of_trial_T) if other == name]]
        axes.plot(betas_E, rows.T, color=colour, linewidth=0.4, alpha=0.35)
        axes.plot(betas_E, np.median(rows, axis=0), color=colour, linewidth=LINE + 0.3, label=name)
    axes.axhline(threshold, color=FAINT, linewidth=0.7, linestyle=(0, (3, 2)))
    _beta_axis(axes, betas_E[0], betas_E[-1])
    axes.set_ylim(0, 1.02 * kl_TxE.max() if kl_TxE.max() > 0 else 1)
    axes.set_ylabel("KL (nats)", fontsize=TEXT, color=INK)
    _legend(figure)
    return figure


def densities(betas_T, factor_of_trial_T, bounds_T):
    """Distribution of the freezing points of each factor: a density in log beta, a mark a trial, the median.

    An open triangle marks the median bound of the same trials, the freezing point from the spectrum.

    Args:
      betas_T: freezing points that were seen. factor_of_trial_T: names. bounds_T: the bound of each trial.

    Returns:
      A Figure; factors from the highest median down.

    Raises:
      ValueError: the lengths differ, or there is no freezing point.
    """
    betas, bounds = np.asarray(betas_T, float), np.asarray(bounds_T, float)
    if not len(betas) or not len(betas) == len(bounds) == len(factor_of_trial_T):
        raise ValueError(f"{len(betas)} freezing points, {len(bounds)} bounds and {len(factor_of_trial_T)} factors")
    names, of_trial = list(dict.fromkeys(factor_of_trial_T)), np.array(factor_of_trial_T)
    colours = _colours(names)

    def median(of_all, name):
        return np.quantile(of_all[of_trial == name], 0.5, method="inverted_cdf")  # a trial, as in freezing.summarise

    names.sort(key=lambda name: median(betas, name), reverse=True)
    high, low = 1.25 * max(betas.max(), bounds.max()), betas.min() / 1.4
    grid = np.linspace(np.log(low), np.log(high), 400)
    figure = Figure(figsize=(5.5, 0.6 + 0.55 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    for place, name in enumerate(names):
        logs = np.log(betas[of_trial == name])
        # Silverman's width; at least 4 % in beta, for factors whose trials agree
        width = max(0.04, 0.9 * min(logs.std(), np.subtract(*np.percentile(logs, [75, 25])) / 1.34) * len(logs) ** -0.2)
        density = np.exp(-0.5 * ((grid[:, None] - logs) / width) ** 2).sum(axis=1)
        base = len(names) - 1 - place
        density *= 0.8 / density.max()
        axes.fill_between(np.exp(grid), base, base + density, color=colours[name], alpha=0.3, lw=0)
        axes.plot(np.exp(logs), np.full(len(logs), base - 0.07), "|", color=colours[name], markersize=4, mew=0.8)
        found, middle = median(betas, name), median(bounds, name)
        axes.vlines(found, base, base + 0.8, color=colours[name], linewidth=LINE)
        axes.plot(middle, base + 0.12, "v", color=colours[name], markersize=4.5, markerfacecolor="white", mew=0.9)
        axes.text(middle, base + 0.3, f"{middle:.3g}", fontsize=SMALL - 1, color=FAINT, ha="center")
        axes.text(found / 1.03, base + 0.62, f"{found:.3g}", fontsize=SMALL, color=INK, ha="left")
    _beta_axis(axes, high, low)
    axes.set_ylim(-0.2, len(names) - 0.1)
    axes.set_yticks(range(len(names)), names[::-1])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("β at which the factor freezes (line: median; triangle: median bound)", fontsize=TEXT, color=INK)
    return figure


def spectrum(eigenvalues_K, total_effects_KxF, factor_names, first_modes):
    """Eigenvalues above the factors that each mode is made of.

    Args:
      eigenvalues_K: falling. total_effects_KxF: Sobol's total index of each mode and factor.
      factor_names: F names. first_modes: name -> index of the factor's first mode, or None.

    Returns:
      A Figure.

    Raises:
      ValueError: the shapes do not fit.
    """
    values, effects = np.asarray(eigenvalues_K, float), np.asarray(total_effects_KxF, float)
    if effects.shape != (len(values), len(factor_names)):
        raise ValueError(f"total effects {effects.shape} for {len(values)} modes and {len(factor_names)} factors")
    figure = Figure(figsize=(5.5, 2.2 + 0.17 * len(factor_names)), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 0.25 + 0.17 * len(factor_names)))
    above.plot(values, ".", color=INK, markersize=3.5)
    above.set_yscale("log")
    above.set_ylabel("eigenvalue = bound on β", fontsize=TEXT, color=INK)
    quiet(above, spines=("left", "bottom"))
    above.tick_params(axis="x", length=0)
    _plain_ticks(above.yaxis, values.min() / 1.5, 1.5 * values.max())
    colours = _colours(factor_names)
    for name, mode in first_modes.items():
        if mode is not None:
            above.plot(mode, values[mode], "o", color=colours[name], markersize=6, markerfacecolor="none", mew=1.3)
            above.plot([], [], "o", color=colours[name], markersize=5, markerfacecolor="none", mew=1.3,
                       label=f"{name}  {values[mode]:.3g}")
    image = below.imshow(effects.T, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    below.set_yticks(range(len(factor_names)), factor_names)
    below.set_xlabel("mode", fontsize=TEXT, color=INK)
    quiet(below, spines=())
    below.tick_params(length=0)
    bar = figure.colorbar(image, ax=below, aspect=8, pad=0.01, ticks=(0, 1))
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=SMALL, labelcolor=INK)
    bar.set_label("total effect", fontsize=SMALL, color=INK)
    if above.get_legend_handles_labels()[0]:
        above.legend(frameon=False, fontsize=SMALL, labelcolor=INK, title="first mode of", title_fontsize=SMALL)
    return figure


def whole_set(history, rate_E, peaks, factor_names):
    """What a VAE on the whole set learns as beta falls: information, its rate, KL per latent, factors.

    Of more than 20 latents, those of highest KL at the lowest beta are shown, and the title says so.

    Args:
      history: 'beta' [E], 'mutual_information' and its 'mutual_information_upper' [E], 'total_correlation' [E],
        'dimension_wise_kl' [E], 'kl_per_latent' [E, D] and 'factor_information' [E, F], all in nats.
      rate_E: -dI/d(log beta). peaks: betas, drawn as vertical lines. factor_names: F names.

    Returns:
      A Figure.
    """
    betas = np.asarray(history["beta"], float)
    figure = Figure(figsize=(5.5, 6.2), layout="constrained")
    panels = figure.subplots(4, 1, sharex=True)
    decomposed, speed, latents, told = panels
    low, high = history["mutual_information"], history["mutual_information_upper"]
    decomposed.fill_between(betas, low, high, color=PALETTE[0], alpha=0.25, lw=0)
    for name, label, colour in (
        ("mutual_information", "I(x; z), lower to upper", PALETTE[0]),
        ("total_correlation", "total correlation", PALETTE[1]),
        ("dimension_wise_kl", "dimension-wise KL", PALETTE[2]),
    ):
        decomposed.plot(betas, history[name], color=colour, linewidth=LINE, label=label)
    speed.plot(betas, rate_E, color=PALETTE[0], linewidth=LINE)
    speed.set_ylim(bottom=min(0.0, float(np.min(rate_E))))
    kl_ExD = np.asarray(history["kl_per_latent"], float)
    shown = shown_latents(kl_ExD[-1])
    for place, latent in enumerate(shown):
        latents.plot(
            betas, kl_ExD[:, latent], color=PALETTE[place % len(PALETTE)], linewidth=LINE, label=f"z{latent}",
            linestyle=DASHES[place // len(PALETTE) % len(DASHES)],
        )
    latents.set_title(selection_note(len(shown), kl_ExD.shape[1]), fontsize=TEXT, color=INK)
    for (name, colour), values in zip(
        _colours(factor_names).items(), np.asarray(history["factor_information"]).T, strict=True
    ):
        told.plot(betas, values, color=colour, linewidth=LINE, label=name)
    if not factor_names:
        told.set_visible(False)
        told = latents
        told.xaxis.set_tick_params(labelbottom=True)
    told.axhline(0.1, color=FAINT, linewidth=0.7, linestyle=(0, (3, 2)))
    labels = ("nats", "−dI / d log β", "KL (nats)", "max I(z; factor) (nats)")
    for axes, label in zip(panels, labels, strict=True):
        _beta_axis(axes, betas[0], betas[-1], label=axes is told)
        axes.set_ylabel(label, fontsize=TEXT, color=INK)
        for peak in peaks:
            axes.axvline(peak, color=FAINT, linewidth=0.6, zorder=0)
        entries = len(axes.get_legend_handles_labels()[0])
        if entries:
            # Beside the panel where it would cover the curves.
            where = {"loc": "upper left"} if entries <= 10 else {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
            axes.legend(
                frameon=False, fontsize=SMALL, labelcolor=INK, handlelength=1.4, ncols=2 if entries > 8 else 1, **where
            )
    for peak in peaks:
        speed.annotate(f"{peak:.3g}", (peak, 1.0), xycoords=speed.get_xaxis_transform(), fontsize=SMALL, color=INK,
                       ha="left", va="bottom")
    return figure
