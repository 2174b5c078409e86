"""The style that all figures share: sizes, colours, axes, legends, colour bars, and `save`.

Figures are built without pyplot, so no global state and no display are involved. Text has 7 and 8 points, which suits
a printed page. Lines have the colours of Okabe and Ito, which colour-blind readers can distinguish.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

DPI = 300
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#000000")
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)))
THIN_DASHES = (0, (3, 2))
"""Of reference lines, such as a threshold."""
TEXT, SMALL = 8, 7
"""Sizes of text in points."""
INK, FAINT = "#262626", "#808080"
LINE = 1.3
"""Width of lines in points."""


def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Writes a figure as PNG at 300 dpi.

    The file appears at once or not at all: it is written under another name, then renamed. Missing folders are created.

    Args:
      figure: what is drawn.
      path: where to write it.

    Returns:
      The path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        figure.savefig(temporary, format="png", dpi=DPI, facecolor="white")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def cycle_style(index: int) -> tuple[str, Any]:
    """(colour, dashes) of the line with this number: all colours first, then all of them with the next dashes."""
    return PALETTE[index % len(PALETTE)], DASHES[index // len(PALETTE) % len(DASHES)]


def colour_of_each(names: Sequence[str]) -> dict[str, str]:
    """A colour for each name; a factor has the same one in every figure of a data set."""
    return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(names)}


def style_axes(axes: Axes, visible_sides: Sequence[str] = ()) -> None:
    """Thin dark lines and small labels; only these sides of the frame are drawn."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in visible_sides)
        spine.set(color=INK, linewidth=0.6)
    axes.tick_params(labelsize=SMALL, labelcolor=INK, color=INK, width=0.6, length=2.5)


def label_axes(axes: Axes, xlabel: str | None = None, ylabel: str | None = None, labelpad: float | None = None) -> None:
    """Writes the labels of the axes in the size and colour of all figures. labelpad: points to the ticks."""
    if xlabel is not None:
        axes.set_xlabel(xlabel, fontsize=TEXT, color=INK, labelpad=labelpad)
    if ylabel is not None:
        axes.set_ylabel(ylabel, fontsize=TEXT, color=INK, labelpad=labelpad)


def number_steps(axes: Axes, most_ticks: int) -> None:
    """Ticks of training steps along x: whole numbers, thousands as k."""
    axes.xaxis.set_major_locator(MaxNLocator(most_ticks, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def add_legend(figure: Figure, **options: Any) -> None:
    """A legend to the right of all axes."""
    figure.legend(loc="outside right center", frameon=False, fontsize=SMALL, labelcolor=INK, **options)


def add_colorbar(
    image: ScalarMappable, axes: Axes | Sequence[Axes], ticks: Sequence[float], label: str = "", **options: Any
) -> Colorbar:
    """A colour bar beside axes.

    Args:
      image: whose colours it explains.
      axes: one or several, all of one figure.
      ticks: values that are marked.
      label: along the bar.
      **options: of matplotlib's Figure.colorbar.
    """
    figure = (axes if isinstance(axes, Axes) else axes[0]).figure
    bar = figure.colorbar(image, ax=axes, ticks=list(ticks), **options)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=SMALL, labelcolor=INK)
    if label:
        bar.set_label(label, fontsize=SMALL, color=INK)
    return bar


def draw_nmi(axes: Axes, nmi_DxF: np.ndarray, names_F: Sequence[str], latents_D: Sequence[int] | np.ndarray,
             short: bool = False) -> ScalarMappable:  # fmt: skip
    """Draws an NMI matrix: latents down, factors across, the numbers written into it.

    Args:
      axes: to draw into.
      nmi_DxF: in [0, 1], [D, F].
      names_F: of the factors.
      latents_D: numbers of the latents.
      short: whether numbers are smaller and without the zero before the point.

    Returns:
      The image, for a colour bar.
    """
    image = axes.imshow(nmi_DxF, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    for (latent, factor), value in np.ndenumerate(nmi_DxF):
        text = f"{value:.2f}" if not short else "1" if value >= 0.995 else f"{value:.2f}"[1:]
        colour = "white" if value > 0.55 else INK if value >= 0.05 else FAINT
        axes.text(factor, latent, text, ha="center", va="center_baseline", fontsize=SMALL - short, color=colour)
    axes.set_xticks(range(len(names_F)), names_F)
    axes.set_yticks(range(len(nmi_DxF)), [f"z{latent}" for latent in latents_D])
    style_axes(axes)
    axes.tick_params(length=0)
    return image
