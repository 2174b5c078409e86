"""Figures of vectors and series as lines: traversals and reconstructions."""

from collections.abc import Sequence

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from deft_jax.evaluation.plot_style import FAINT, INK, LINE, PALETTE, SMALL, TEXT, add_colorbar, label_axes, style_axes
from deft_jax.evaluation.shape_checks import as_array, check_equal_counts

MOST_CHANNELS = 4
"""Channels of a series that a figure shows."""
_NAMED = 32  # features whose names fit below an axis
_COLOURS = colormaps["viridis"]


def traversal_lines(
    values_DxTxSxC: ArrayLike, labels_D: Sequence[str], latent_values_T: ArrayLike, names: Sequence[str], note: str = ""
) -> Figure:
    """Latent traversals of vectors or series: one row per latent, one line for each value that it is set to.

    Args:
      values_DxTxSxC: decoded series of S steps and C channels; of vectors, S features and one channel.
      labels_D: of the rows, for example 'z3 (group 1)  KL 2.41'.
      latent_values_T: the T values of the traversal, which colour the lines.
      names: of the S features of vectors, or of the C channels of series.
      note: which latents are shown, written below.

    Returns:
      A Figure; of more than 4 channels, the first 4 are shown.

    Raises:
      ValueError: a shape does not fit.

    Example:
      >>> import numpy
      >>> figure = traversal_lines(numpy.zeros((2, 3, 5, 1)), ["z0", "z1"], [-1, 0, 1], list("abcde"))
      >>> [len(axes.lines) for axes in figure.axes[:2]]
      [3, 3]
    """
    values = as_array("values", values_DxTxSxC, "[D, T, S, C]")
    latent_values = as_array("latent values", latent_values_T, "[T]")
    check_equal_counts("labels", len(labels_D), "rows of lines", len(values))
    check_equal_counts("latent values", len(latent_values), "lines of a row", values.shape[1])
    figure, panels = _panels(len(values), values.shape[2:], names)
    norm = Normalize(latent_values.min(), latent_values.max())
    for row, label in enumerate(labels_D):
        for channel, axes in enumerate(panels[row]):
            for value, line in zip(latent_values, values[row, :, :, channel], strict=True):
                axes.plot(line, color=_COLOURS(norm(value)), linewidth=0.8)
        _label_row(panels[row][0], label)
    colours = ScalarMappable(norm, _COLOURS)
    add_colorbar(colours, [axes for row in panels for axes in row], [latent_values.min(), 0, latent_values.max()],
                 "value of the latent", fraction=0.03, aspect=30)  # fmt: skip
    if note:
        figure.supxlabel(note, fontsize=SMALL, color=FAINT)
    return figure


def reconstruction_lines(originals_NxSxC: ArrayLike, reconstructions_NxSxC: ArrayLike, names: Sequence[str]) -> Figure:
    """Vectors or series and their reconstructions: one row per example.

    Args:
      originals_NxSxC: series of S steps and C channels; of vectors, S features and one channel.
      reconstructions_NxSxC: of the same shape.
      names: as for `traversal_lines`.

    Returns:
      A Figure; of more than 4 channels, the first 4 are shown.

    Raises:
      ValueError: a shape does not fit.
    """
    originals = as_array("originals", originals_NxSxC, "[N, S, C]")
    decoded = as_array("reconstructions", reconstructions_NxSxC, "[N, S, C]")
    if originals.shape != decoded.shape:
        raise ValueError(f"originals and reconstructions differ in shape: {originals.shape}, {decoded.shape}")
    figure, panels = _panels(len(originals), originals.shape[1:], names)
    for row, (original, reconstruction) in enumerate(zip(originals, decoded, strict=True)):
        for channel, axes in enumerate(panels[row]):
            axes.plot(original[:, channel], color=INK, linewidth=LINE, label="original")
            axes.plot(reconstruction[:, channel], color=PALETTE[1], linewidth=LINE, label="reconstruction")
        _label_row(panels[row][0], str(row + 1))
    handles, texts = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside upper right", ncols=2, frameon=False, fontsize=SMALL, labelcolor=INK)
    return figure


def _label_row(axes: Axes, label: str) -> None:
    axes.set_ylabel(label, fontsize=TEXT, color=INK, rotation=0, ha="right", va="center")


def _panels(rows: int, shape: tuple[int, ...], names: Sequence[str]) -> tuple[Figure, list[list[Axes]]]:
    """A figure, and its axes by row and channel; along x are the features of vectors or the steps of series."""
    steps, channels = shape
    is_vector = channels == 1 and len(names) == steps
    columns = min(channels, MOST_CHANNELS)
    figure = Figure(figsize=(1.4 + max(4.2, 1.7 * columns), 0.55 + 0.62 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey="col", squeeze=False)
    panels = [list(row) for row in grid]
    for axes in grid.flat:
        style_axes(axes, ("left", "bottom"))
        axes.margins(x=0.01)
    if is_vector and steps <= _NAMED:
        for axes in panels[-1]:
            axes.set_xticks(range(steps), names, rotation=90)
    elif is_vector:
        label_axes(panels[-1][0], "feature")
    else:
        for channel, axes in enumerate(panels[0]):
            axes.set_title(names[channel], fontsize=TEXT, color=INK)
        for axes in panels[-1]:
            label_axes(axes, "step")
    return figure, panels
