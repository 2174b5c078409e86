"""The ledger as a figure: nats of latents over training, home and foreign."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from deft_jax.evaluation.latent_selection import shown_latents
from deft_jax.evaluation.plot_style import (
    FAINT,
    INK,
    LINE,
    PALETTE,
    SMALL,
    TEXT,
    THIN_DASHES,
    add_legend,
    label_axes,
    number_steps,
    style_axes,
)
from deft_jax.evaluation.shape_checks import as_array, check_equal_counts

_MOST_BANDS = 7
_BETA_TICKS = 7


def ledger_over_time(
    steps_E: ArrayLike,
    home_ExD: ArrayLike,
    foreign_ExD: ArrayLike,
    group_of_latent_D: ArrayLike,
    betas_E: ArrayLike,
    stage_starts: Sequence[float] = (),
) -> Figure:
    """Nats of the latents over training, stacked by group: home information solid, foreign information light.

    Where there is one group, bands are latents: those that have most at the last evaluation, and all others together.

    Args:
      steps_E: the training steps of E evaluations, rising.
      home_ExD: information of each latent about its home factor, in nats.
      foreign_ExD: what it carries besides, in nats.
      group_of_latent_D: the group of each latent, 0, 1, ...
      betas_E: beta at the evaluations, on the axis above.
      stage_starts: first steps of the stages, drawn as thin dashed lines.

    Returns:
      A Figure.

    Raises:
      ValueError: a shape does not fit.
    """
    steps, betas = as_array("steps", steps_E, "[E]"), as_array("betas", betas_E, "[E]")
    home, foreign = as_array("home", home_ExD, "[E, D]"), as_array("foreign", foreign_ExD, "[E, D]")
    groups = as_array("group_of_latent", group_of_latent_D, "[D]").astype(int)
    for name, count in (("betas", len(betas)), ("rows of home", len(home)), ("rows of foreign", len(foreign))):
        check_equal_counts("steps", len(steps), name, count)
    for name, array in (("home", home), ("foreign", foreign)):
        check_equal_counts("groups of latents", len(groups), f"columns of {name}", array.shape[1])
    figure = Figure(figsize=(5.5, 2.8), layout="constrained")
    axes = figure.add_subplot()
    base = np.zeros(len(steps))
    for index, (label, latents) in enumerate(_bands(home[-1] + foreign[-1], groups)):
        colour = PALETTE[index % len(PALETTE)]
        top_of_home = base + home[:, latents].sum(axis=1)
        top = top_of_home + foreign[:, latents].sum(axis=1)
        axes.fill_between(steps, base, top_of_home, color=colour, linewidth=0, label=f"{label} home")
        with matplotlib.rc_context({"hatch.linewidth": 0.5}):
            axes.fill_between(steps, top_of_home, top, facecolor=_lighten(colour), edgecolor=colour, linewidth=0,
                              hatch="/////", label=f"{label} foreign")  # fmt: skip
        axes.plot(steps, top, color=colour, linewidth=0.6 * LINE)
        base = top
    axes.set_ylim(0, 1.05 * max(float(base.max()), 1e-3))
    _set_axes_of_steps(axes, steps, betas, stage_starts)
    label_axes(axes, "training step", "information (nats)")
    style_axes(axes, ("left", "bottom"))
    add_legend(figure, reverse=True, handlelength=1.4, handleheight=1.0, labelspacing=0.5, borderaxespad=0.2)
    share = float(foreign[-1].sum() / max(base[-1], 1e-12))
    axes.set_title(f"{base[-1]:.1f} nats at the end, {share:.0%} of them foreign", fontsize=TEXT, color=INK, pad=4)
    return figure


def _bands(nats_D: np.ndarray, groups_D: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """(label, latents) of each band, from below."""
    names = sorted(set(groups_D.tolist()))
    if len(names) > 1:
        return [(f"group {name}", np.flatnonzero(groups_D == name)) for name in names]
    most = shown_latents(nats_D, _MOST_BANDS)
    others = np.setdiff1d(np.arange(len(nats_D)), most)
    return [(f"z{latent}", np.array([latent])) for latent in most] + ([("others", others)] if len(others) else [])


def _set_axes_of_steps(
    axes: Axes, steps: np.ndarray, betas: np.ndarray, stage_starts: Sequence[float]
) -> None:
    """Steps below, beta above, and the starts of stages."""
    right = steps[-1] if steps[-1] > steps[0] else steps[0] + 1
    axes.set_xlim(steps[0], right)
    number_steps(axes, 7)
    for start in stage_starts:
        if steps[0] < start < right:
            axes.axvline(start, color=INK, linewidth=0.7, linestyle=THIN_DASHES)
    above = axes.secondary_xaxis("top")
    # Evaluations nearest to evenly spaced steps: stages end between two regular ones.
    places = np.linspace(steps[0], steps[-1], min(_BETA_TICKS, len(steps)))
    marked = np.unique(np.abs(steps - places[:, None]).argmin(axis=1)).tolist()
    texts = [f"{betas[index]:.3g}" if np.isfinite(betas[index]) else "" for index in marked]
    above.set_xticks(steps[marked], [f"β {texts[0]}", *texts[1:]])
    above.tick_params(labelsize=SMALL, labelcolor=INK, color=FAINT, width=0.6, length=2.5)
    for spine in above.spines.values():
        spine.set(color=FAINT, linewidth=0.6)


def _lighten(colour: str) -> tuple[float, float, float]:
    """The colour mixed with three parts of white."""
    red, green, blue = (0.25 * part + 0.75 for part in to_rgb(colour))
    return red, green, blue
