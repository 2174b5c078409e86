"""Figures of images in rows and columns: traversals, reconstructions, samples of data sets."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from numpy.typing import ArrayLike

from deft_jax.evaluation.plot_style import DPI, SMALL, TEXT, label_axes, style_axes
from deft_jax.evaluation.shape_checks import as_array, check_equal_counts


def as_rgb(images: ArrayLike) -> np.ndarray:
    """Images of any number of channels as colours for the screen.

    Args:
      images: [..., H, W, C] in [0, 1]. C = 1 is grey, 2 red and green, 3 colour, 4 colour with an opacity, composited
        over white; of more channels, the first three are shown as colour.

    Returns:
      float [..., H, W, 3] in [0, 1].

    Example:
      >>> as_rgb([[[0.5]]]).tolist()
      [[[0.5, 0.5, 0.5]]]
    """
    pixels: np.ndarray = np.clip(np.asarray(images, float), 0, 1)
    channels = pixels.shape[-1]
    if channels == 1:
        return np.repeat(pixels, 3, axis=-1)
    if channels == 2:
        return np.concatenate([pixels, np.zeros_like(pixels[..., :1])], axis=-1)
    if channels == 4:
        return pixels[..., :3] * pixels[..., 3:] + (1 - pixels[..., 3:])
    return pixels[..., :3]


def traversals(images_DxTxHxWxC: ArrayLike, labels: Sequence[str], values_T: ArrayLike, note: str = "") -> Figure:
    """Latent traversals: one row per latent, one column per value that the latent is set to.

    Args:
      images_DxTxHxWxC: decoded images in [0, 1]; for C see `as_rgb`.
      labels: D row labels, for example 'z3 (group 1)  KL 2.41'.
      values_T: the T values of the traversal.
      note: which latents are shown, written below the values; see latent_selection.selection_note.

    Returns:
      A Figure.

    Raises:
      ValueError: a shape does not fit.
    """
    images = as_array("images", images_DxTxHxWxC, "[D, T, H, W, C]")
    values_T = as_array("values", values_T, "[T]")
    check_equal_counts("labels", len(labels), "rows of images", images.shape[0])
    check_equal_counts("values", len(values_T), "columns of images", images.shape[1])
    names = [np.format_float_positional(value, precision=2, trim="-").replace("-", "−") for value in values_T]
    return _image_grid(images, labels, names, "\n".join(filter(None, ["value of the latent", note])))


def gallery(rows: Mapping[str, ArrayLike]) -> Figure:
    """Images of data sets: one row per set, or one row per factor of a set.

    Args:
      rows: label -> images [K, H, W, C] in [0, 1], K and H x W the same in all; for C see `as_rgb`.

    Returns:
      A Figure.

    Raises:
      ValueError: a shape does not fit.
    """
    images_of_row = [as_rgb(as_array(label, images, "[K, H, W, C]")) for label, images in rows.items()]
    shapes = {images.shape[:3] for images in images_of_row}
    if len(shapes) != 1:
        raise ValueError(f"rows must have images of one number and size, got {sorted(shapes)}")
    return _image_grid(np.stack(images_of_row), list(rows))


def reconstructions(originals_NxHxWxC: ArrayLike, reconstructions_NxHxWxC: ArrayLike, columns: int = 10) -> Figure:
    """Originals above their reconstructions, in pairs of rows.

    Args:
      originals_NxHxWxC: images in [0, 1]; for C see `as_rgb`.
      reconstructions_NxHxWxC: as many images of the same shape.
      columns: images per row, at least 1.

    Returns:
      A Figure.

    Raises:
      ValueError: a shape does not fit.
    """
    originals = as_array("originals", originals_NxHxWxC, "[N, H, W, C]")
    decoded = as_array("reconstructions", reconstructions_NxHxWxC, "[N, H, W, C]")
    if originals.shape != decoded.shape:
        raise ValueError(f"originals and reconstructions differ in shape: {originals.shape}, {decoded.shape}")
    if columns < 1:
        raise ValueError(f"columns must be >= 1, got {columns}")
    grid = in_pairs(originals, decoded, columns)
    return _image_grid(grid, ["original", "reconstruction"] * (len(grid) // 2), rows_per_block=2)


def in_pairs(originals_NxHxWxC: np.ndarray, reconstructions_NxHxWxC: np.ndarray, columns: int) -> np.ndarray:
    """Originals and their reconstructions in rows, of which each odd one has the reconstructions of the row above.

    Args:
      originals_NxHxWxC: images in [0, 1].
      reconstructions_NxHxWxC: as many images of the same shape.
      columns: images per row, at least 1.

    Returns:
      [R, K, H, W, C], R even and K <= columns; what is left of the last rows is white.
    """
    originals, columns = originals_NxHxWxC, min(columns, len(originals_NxHxWxC))
    pairs = -(-len(originals) // columns)
    grid = np.ones((pairs * columns, 2, *originals.shape[1:]), originals.dtype)
    grid[: len(originals), 0], grid[: len(originals), 1] = originals, reconstructions_NxHxWxC
    grid = grid.reshape(pairs, columns, *grid.shape[1:]).swapaxes(1, 2)
    return grid.reshape(2 * pairs, columns, *originals.shape[1:])


def mosaic(images_RxKxHxWxC: np.ndarray, rows_per_block: int = 1) -> tuple[np.ndarray, list[int]]:
    """Images in rows and columns as one image, on white.

    Args:
      images_RxKxHxWxC: in [0, 1]; for C see `as_rgb`.
      rows_per_block: rows between two wider gaps, if more than 1.

    Returns:
      float [height, width, 3] in [0, 1], and the first pixel row of each row of images.
    """
    images_RxKxHxWx3 = as_rgb(images_RxKxHxWxC)
    rows, columns, height, width, _ = images_RxKxHxWx3.shape
    gap = max(1, round(width / 21))
    block_gap = 2 * gap if rows_per_block > 1 else 0
    tops = [row * (height + gap) + row // rows_per_block * block_gap for row in range(rows)]
    lefts = [column * (width + gap) for column in range(columns)]
    canvas = np.ones((tops[-1] + height, lefts[-1] + width, 3))
    for row, top in enumerate(tops):
        for column, left in enumerate(lefts):
            canvas[top : top + height, left : left + width] = images_RxKxHxWx3[row, column]
    return canvas, tops


def _image_grid(
    images_RxKxHxWxC: np.ndarray,
    row_labels: Sequence[str],
    column_labels: Sequence[str] = (),
    xlabel: str = "",
    rows_per_block: int = 1,
) -> Figure:
    """All images in one axes; an image pixel is a whole number of device pixels. Blocks of rows have wider gaps."""
    canvas, tops = mosaic(images_RxKxHxWxC, rows_per_block)
    columns, height, width = images_RxKxHxWxC.shape[1:4]
    lefts = [column * (canvas.shape[1] - width) // max(1, columns - 1) for column in range(columns)]
    inch = max(1, round(136 / width)) / DPI  # of one image pixel
    label_widths = [TextPath((0, 0), label or " ", size=TEXT).get_extents().width for label in row_labels]
    left_margin, margin = max(label_widths) / 72 + 0.14, 0.06
    bottom = margin + (0.17 if column_labels else 0) + (0.05 + 0.12 * len(xlabel.splitlines()) if xlabel else 0)
    # Whole device pixels everywhere, or the rows of the images would come out of unequal height.
    left_margin, margin, bottom = (round(length * DPI) / DPI for length in (left_margin, margin, bottom))
    image_height, image_width = canvas.shape[0] * inch, canvas.shape[1] * inch
    total_width, total_height = left_margin + image_width + margin, bottom + image_height + margin
    figure = Figure(figsize=(total_width, total_height))
    axes = figure.add_axes((left_margin / total_width, bottom / total_height,
                            image_width / total_width, image_height / total_height))  # fmt: skip
    axes.imshow(canvas, interpolation="nearest", aspect="auto")
    axes.set_yticks([top + height / 2 - 0.5 for top in tops], row_labels)
    axes.set_xticks([left + width / 2 - 0.5 for left in lefts] if column_labels else [], column_labels)
    style_axes(axes)
    axes.tick_params(length=0, pad=3, labelsize=TEXT)
    axes.tick_params(axis="x", labelsize=SMALL)
    if xlabel:
        label_axes(axes, xlabel, labelpad=2)
    return figure
