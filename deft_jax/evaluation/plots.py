"""Figures of representations: arrays in, matplotlib Figure out, `save` writes a PNG.

Figures are built without pyplot, so no global state and no display are involved; in a notebook,
`IPython.display.display(figure)` shows one. Sizes suit a page (text of 7 and 8 points), lines have the
colours of Okabe and Ito, which colour-blind readers tell apart.
"""

import itertools
import os
from pathlib import Path

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from matplotlib.ticker import EngFormatter, MaxNLocator

DPI = 300
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#000000")
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)))
TEXT, SMALL = 8, 7
INK, FAINT = "#262626", "#808080"
LINE = 1.3
MOST_LATENTS = 20  # that a figure shows: more would be unreadable, and slow to draw


def shown_latents(kl_D: np.ndarray, most: int = MOST_LATENTS) -> np.ndarray:
    """The latents that a figure shows where there are more than it can hold: those of highest KL.

    Args:
      kl_D: KL of each latent to the prior, in nats, or what else ranks them; NaN ranks lowest.
      most: how many to show.

    Returns:
      int [min(D, most)], rising; of equal latents, those of lower number.
    """
    kl_D = np.nan_to_num(np.asarray(kl_D, float), nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    return np.sort(np.argsort(-kl_D, kind="stable")[:most])


def selection_note(num_shown: int, num_latents: int, measure: str = "KL") -> str:
    """'20 of 128 latents, those of highest KL' for a title or a caption; empty where all latents are shown."""
    return "" if num_shown == num_latents else f"{num_shown} of {num_latents} latents, those of highest {measure}"


def select_latents(nmi_DxF: np.ndarray, kl_D: np.ndarray | None) -> tuple[np.ndarray, str]:
    """The rows of an NMI matrix that a figure shows, and the note that says so.

    Args:
      nmi_DxF: in [0, 1]; ranks the latents by their best factor where there is no KL.
      kl_D: KL of each latent in nats, or None.

    Returns:
      (shown_latents, selection_note).

    Raises:
      ValueError: there is not one KL per latent.
    """
    if kl_D is not None:
        _same("KLs", len(kl_D), "latents", len(nmi_DxF))
    latents = shown_latents(np.max(nmi_DxF, axis=1) if kl_D is None else kl_D)
    return latents, selection_note(len(latents), len(nmi_DxF), "NMI" if kl_D is None else "KL")


def as_rgb(images: np.ndarray) -> np.ndarray:
    """Images of any number of channels as colours for the screen.

    Args:
      images: [..., H, W, C] in [0, 1]. C = 1 is grey, 2 red and green, 3 colour, 4 colour with an opacity, composited
        over white; of more channels, the first three are shown as colour.

    Returns:
      float [..., H, W, 3] in [0, 1].
    """
    images = np.clip(np.asarray(images, float), 0, 1)
    channels = images.shape[-1]
    if channels == 1:
        return np.repeat(images, 3, axis=-1)
    if channels == 2:
        return np.concatenate([images, np.zeros_like(images[..., :1])], axis=-1)
    if channels == 4:
        return images[..., :3] * images[..., 3:] + (1 - images[..., 3:])
    return images[..., :3]


def save(figure, path):
    """Writes the figure as PNG at 300 dpi.

    The file appears at once or not at all: it is written under another name, then renamed. Missing folders
    are made.

    Args:
      figure: a matplotlib Figure.
      path: where to write it.

    Returns:
      The path, a pathlib.Path.
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


def traversals(images_DxTxHxWxC, labels, values_T, note=""):
    """Latent traversals: one row per latent, one column per value that the latent is set to.

    Args:
      images_DxTxHxWxC: decoded images in [0, 1]; for C see `as_rgb`.
      labels: D row labels, for example 'z3 (group 1)  KL 2.41'.
      values_T: the T values of the traversal.
      note: which latents these are, written below the values; see `selection_note`.

    Returns:
      A Figure.

    Raises:
      ValueError: a shape does not fit.
    """
    images = _array("images", images_DxTxHxWxC, "[D, T, H, W, C]")
    values_T = _array("values", values_T, "[T]")
    _same("labels", len(labels), "rows of images", images.shape[0])
    _same("values", len(values_T), "columns of images", images.shape[1])
    names = [np.format_float_positional(value, precision=2, trim="-").replace("-", "−") for value in values_T]
    return _mosaic(images, labels, names, "\n".join(filter(None, ["value of the latent", note])))


def gallery(rows):
    """Images of data sets: a row a set, or a row a factor of one.

    Args:
      rows: label -> images [K, H, W, C] in [0, 1], K and H x W the same in all; for C see `as_rgb`.

    Returns:
      A Figure.

    Raises:
      ValueError: a shape does not fit.
    """
    checked = [as_rgb(_array(label, images, "[K, H, W, C]")) for label, images in rows.items()]
    shapes = {images.shape[:3] for images in checked}
    if len(shapes) != 1:
        raise ValueError(f"rows must have images of one number and size, got {sorted(shapes)}")
    return _mosaic(np.stack(checked), list(rows))


def reconstructions(originals_NxHxWxC, reconstructions_NxHxWxC, columns=10):
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
    originals = _array("originals", originals_NxHxWxC, "[N, H, W, C]")
    decoded = _array("reconstructions", reconstructions_NxHxWxC, "[N, H, W, C]")
    if originals.shape != decoded.shape:
        raise ValueError(f"originals and reconstructions differ in shape: {originals.shape}, {decoded.shape}")
    if columns < 1:
        raise ValueError(f"columns must be >= 1, got {columns}")
    columns = min(columns, len(originals))
    pairs = -(-len(originals) // columns)
    grid = np.ones((pairs * columns, 2, *originals.shape[1:]), originals.dtype)  # cells left over stay white
    grid[: len(originals), 0], grid[: len(originals), 1] = originals, decoded
    grid = grid.reshape(pairs, columns, *grid.shape[1:]).swapaxes(1, 2)
    grid = grid.reshape(2 * pairs, columns, *originals.shape[1:])
    return _mosaic(grid, ["original", "reconstruction"] * pairs, block=2)


def nmi_heatmap(nmi_DxF, factor_names, group_of_latent_D=None, title=None, kl_D=None):
    """Normalised mutual information of every latent with every factor, the numbers written into the cells.

    Of more than 20 latents, those of highest KL are shown, and the title says so.

    Args:
      nmi_DxF: values in [0, 1].
      factor_names: F names.
      group_of_latent_D: the group of each latent, 0, 1, ...; several are named, with lines between them.
      title: text above, or None.
      kl_D: KL of each latent in nats, by which more than 20 are ranked; default: by their best NMI.

    Returns:
      A Figure.

    Raises:
      ValueError: a shape does not fit.
    """
    nmi_DxF = _array("nmi", nmi_DxF, "[D, F]")
    _same("factor names", len(factor_names), "columns of nmi", nmi_DxF.shape[1])
    groups = None if group_of_latent_D is None else _groups(group_of_latent_D, len(nmi_DxF))
    latents, note = select_latents(nmi_DxF, kl_D)
    title = "\n".join(filter(None, [title, note]))
    nmi_DxF = nmi_DxF[latents]
    num_latents, num_factors = nmi_DxF.shape
    figure = Figure(figsize=(1.7 + 0.62 * num_factors, 0.75 + 0.25 * num_latents), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(nmi_DxF, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    for (d, f), value in np.ndenumerate(nmi_DxF):
        colour = "white" if value > 0.55 else INK if value >= 0.05 else FAINT
        axes.text(f, d, f"{value:.2f}", ha="center", va="center", fontsize=SMALL, color=colour)
    axes.set_xticks(range(num_factors), factor_names)
    axes.set_yticks(range(num_latents), [f"z{d}" for d in latents])
    quiet(axes, spines=())
    axes.tick_params(length=0)
    if groups is not None:
        groups = groups[latents]
        starts = [0, *(np.flatnonzero(np.diff(groups)) + 1), num_latents]
        for start in starts[1:-1]:
            axes.axhline(start - 0.5, color=INK, linewidth=0.9)
        for start, stop in itertools.pairwise(starts if len(starts) > 2 else ()):
            axes.annotate(
                f"group {groups[start]}", (0, (start + stop - 1) / 2), xycoords=axes.get_yaxis_transform(),
                xytext=(-26, 0), textcoords="offset points", ha="right", va="center_baseline",
                fontsize=SMALL, color=_group_colour(groups[start]),
            )
    bar = figure.colorbar(image, ax=axes, shrink=1.0, aspect=28, pad=0.02, ticks=(0, 0.5, 1))
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=SMALL, labelcolor=INK)
    bar.set_label("I(z; v) / H(v)", fontsize=SMALL, color=INK)
    if title:
        axes.set_title(title, fontsize=TEXT + 1, color=INK, pad=6)
    return figure


def nmi_over_time(steps_E, nmi_ExF, factor_names, ylabel, stage_starts=(), betas=()):
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
    steps_E, nmi_ExF = _curves(steps_E, "nmi", nmi_ExF, "[E, F]")
    _same("factor names", len(factor_names), "columns of nmi", nmi_ExF.shape[1])
    figure, axes = _time_axes(steps_E, ylabel, stage_starts, betas)
    for f, name in enumerate(factor_names):
        dashes = DASHES[f // len(PALETTE) % len(DASHES)]
        colour = PALETTE[f % len(PALETTE)]
        axes.plot(steps_E, nmi_ExF[:, f], color=colour, linestyle=dashes, label=name, clip_on=False)
    return _finish_time(figure, axes, nmi_ExF)


def kl_over_time(steps_E, kl_ExD, group_of_latent_D, stage_starts=(), betas=()):
    """KL of every latent to the prior over training, coloured by group where there are several.

    Of more than 20 latents, those of highest KL at the last evaluation are shown, and the title says so.

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
    steps_E, kl_ExD = _curves(steps_E, "kl", kl_ExD, "[E, D]")
    groups = _groups(group_of_latent_D, kl_ExD.shape[1])
    latents = shown_latents(kl_ExD[-1])
    figure, axes = _time_axes(steps_E, "KL (nats)", stage_starts, betas)
    note = selection_note(len(latents), kl_ExD.shape[1])
    if note:
        figure.suptitle(note, fontsize=TEXT, color=INK)
    several = len(set(groups.tolist())) > 1
    for d in latents:
        group = groups[d]
        place = int((groups[latents[latents < d]] == group).sum())  # tells apart latents of one group
        if several:
            colour, dashes, label = _group_colour(group), place, f"z{d} (group {group})"
        else:
            colour, dashes, label = PALETTE[place % len(PALETTE)], place // len(PALETTE), f"z{d}"
        axes.plot(
            steps_E, kl_ExD[:, d], color=colour, linestyle=DASHES[dashes % len(DASHES)],
            alpha=1 - 0.18 * min(dashes // len(DASHES), 4), clip_on=False, label=label,
        )
    return _finish_time(figure, axes, kl_ExD[:, latents])


def _time_axes(steps, ylabel, stage_starts, betas):
    stage_starts, betas = np.asarray(stage_starts, float), np.asarray(betas, float)
    if betas.size:
        _same("betas", len(betas), "stage starts", len(stage_starts))
    figure = Figure(figsize=(5.5, 2.6), layout="constrained")
    axes = figure.add_subplot()
    left, right = min([steps[0], *stage_starts]), max([steps[-1], *stage_starts])
    axes.set_xlim(left, right if right > left else left + 1)
    axes.set_xlabel("training step", fontsize=TEXT, color=INK)
    axes.set_ylabel(ylabel, fontsize=TEXT, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_prop_cycle(linewidth=[LINE])
    quiet(axes, spines=("left", "bottom"))
    across = axes.get_xaxis_transform()  # x in steps, y in parts of the axes
    lines = [((start, 0), (start, 1.03)) for start in stage_starts]
    axes.add_collection(
        LineCollection(lines, colors=FAINT, linewidths=0.6, transform=across, clip_on=False, zorder=1),
        autolim=False,
    )
    for start, beta in zip(stage_starts, betas, strict=False):
        axes.annotate(
            f"β = {beta:.3g}", (start, 1.03), xycoords=across, xytext=(2, 0), textcoords="offset points",
            va="center", fontsize=SMALL, color=INK,
        )
    return figure, axes


def _finish_time(figure, axes, values):
    finite = values[np.isfinite(values)]
    top = float(finite.max(initial=0.0))
    axes.set_ylim(min(0.0, float(finite.min(initial=0.0))), 1.05 * top if top > 0 else 1)
    num_lines = values.shape[1]
    figure.legend(
        loc="outside right center", frameon=False, fontsize=SMALL, labelcolor=INK,
        ncols=-(-num_lines // 12), handlelength=2.2, labelspacing=0.35, columnspacing=1.0, borderaxespad=0.2,
    )
    return figure


def _mosaic(images_RxKxHxWxC, row_labels, column_labels=None, xlabel=None, block=1):
    """All images in one axes, a pixel a whole number of device pixels; wider gaps after `block` rows."""
    images_RxKxHxWxC = as_rgb(images_RxKxHxWxC)
    rows, columns, height, width, _ = images_RxKxHxWxC.shape
    gap = max(1, round(width / 21))
    tops = [r * (height + gap) + (r // block if block > 1 else 0) * 2 * gap for r in range(rows)]
    lefts = [k * (width + gap) for k in range(columns)]
    canvas = np.ones((tops[-1] + height, lefts[-1] + width, 3))
    for r, top in enumerate(tops):
        for k, left in enumerate(lefts):
            canvas[top : top + height, left : left + width] = images_RxKxHxWxC[r, k]
    inch = max(1, round(136 / width)) / DPI  # of one image pixel
    widths = [TextPath((0, 0), label or " ", size=TEXT).get_extents().width for label in row_labels]
    left_margin, margin = max(widths) / 72 + 0.14, 0.06
    bottom = margin + (0.17 if column_labels else 0) + (0.05 + 0.12 * len(xlabel.splitlines()) if xlabel else 0)
    # Whole device pixels everywhere, or the rows of the images would come out of unequal height.
    left_margin, margin, bottom = (round(length * DPI) / DPI for length in (left_margin, margin, bottom))
    image_height, image_width = canvas.shape[0] * inch, canvas.shape[1] * inch
    total_width, total_height = left_margin + image_width + margin, bottom + image_height + margin
    figure = Figure(figsize=(total_width, total_height))
    place = np.array([left_margin, bottom, image_width, image_height])
    axes = figure.add_axes(tuple(place / [total_width, total_height, total_width, total_height]))
    axes.imshow(np.clip(canvas, 0, 1), interpolation="nearest", aspect="auto")
    axes.set_yticks([top + height / 2 - 0.5 for top in tops], row_labels)
    axes.set_xticks([left + width / 2 - 0.5 for left in lefts] if column_labels else [], column_labels or [])
    quiet(axes, spines=())
    axes.tick_params(length=0, pad=3, labelsize=TEXT)
    axes.tick_params(axis="x", labelsize=SMALL)
    if xlabel:
        axes.set_xlabel(xlabel, fontsize=TEXT, color=INK, labelpad=2)
    return figure


def quiet(axes, spines):
    """Thin dark lines and small labels; only the named sides of the frame."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in spines)
        spine.set(color=INK, linewidth=0.6)
    axes.tick_params(labelsize=SMALL, labelcolor=INK, color=INK, width=0.6, length=2.5)


def _group_colour(group):
    return PALETTE[int(group) % len(PALETTE)]


def _array(name, array, axes):
    array = np.asarray(array, float)
    if array.ndim != axes.count(",") + 1 or 0 in array.shape:
        raise ValueError(f"{name} must be a non-empty {axes} array, got shape {array.shape}")
    return array


def _curves(steps, name, values, axes):
    steps, values = _array("steps", steps, "[E]"), _array(name, values, axes)
    _same("steps", len(steps), f"rows of {name}", len(values))
    return steps, values


def _groups(group_of_latent, num_latents):
    groups = np.asarray(group_of_latent)
    if groups.shape != (num_latents,):
        raise ValueError(f"group_of_latent must have shape ({num_latents},), got {groups.shape}")
    return groups


def _same(name, count, other, expected):
    if count != expected:
        raise ValueError(f"{count} {name}, but {expected} {other}")
