"""Images of a prepared set in the order of their labels, in one memory-mapped file beside the set."""

import contextlib
import math
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from deft_jax.data import pixels
from deft_jax.data.tfds_prepare import SIDE, Grid, require

FILE = "deft_jax_64x64.npy"  # the images in order, beside the prepared set


def read_images(builder: Any, grid: Grid) -> npt.NDArray[np.uint8]:
    """The images of a prepared set in order, from the file beside it, which is written where it is missing.

    Returns:
      uint8 [N, *grid.row_shape], memory-mapped where the file can be written.

    Raises:
      ValueError: the set was prepared for TensorFlow, or `fill` refuses its examples.
    """
    path = pathlib.Path(builder.data_dir) / FILE
    shape = (math.prod(grid.sizes) * grid.repeats, *grid.row_shape)
    if path.exists():
        with contextlib.suppress(ValueError, OSError):  # not a whole .npy file: written again
            rows = np.load(path, mmap_mode="r", allow_pickle=False)
            if rows.shape == shape and rows.dtype == np.uint8:
                return rows

    require(("array_record",), f"reading {grid.builder}")
    formats = {kind.value for kind in builder.info.available_file_formats()}
    if not formats & {"array_record", "parquet"}:
        raise ValueError(f"{builder.data_dir} holds {', '.join(sorted(formats))} files, which only TensorFlow reads; "
                         "give another data_dir, to prepare the set there once more")
    examples = _examples(builder, grid.builder)
    # Decoding takes some 0.3 ms per image, minutes for the large sets. A full disk would kill a process that writes to
    # a mapped file, and a folder may be read-only; each process then reads the images anew.
    has_room = shutil.disk_usage(path.parent).free > 2 * math.prod(shape)
    if not (has_room and os.access(path.parent, os.W_OK)):
        rows = np.zeros(shape, np.uint8)
        fill(rows, grid, examples)
        return rows

    handle, partial = tempfile.mkstemp(prefix=f"{FILE}.", suffix=".partial", dir=path.parent)
    os.close(handle)
    try:
        mapped = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
        fill(mapped, grid, examples)
        mapped.flush()
        os.chmod(partial, 0o644)  # mkstemp lets the owner alone read it, but a prepared set may be shared
        os.replace(partial, path)
    except BaseException:
        pathlib.Path(partial).unlink(missing_ok=True)
        raise
    return np.load(path, mmap_mode="r", allow_pickle=False)


def fill(rows: npt.NDArray[np.uint8], grid: Grid, examples: Iterable[Mapping[str, Any]]) -> None:
    """Writes the image of every example to its place in the order of the labels, last factor fastest.

    Args:
      rows: uint8 [prod(grid.sizes) * grid.repeats, *grid.row_shape], written to.
      grid: of the set.
      examples: mappings with 'image', numpy uint8 [H, W, C], and the labels.

    Raises:
      ValueError: labels are out of range, or a combination of labels is repeated or missing.
    """
    names = (*grid.labels, grid.instance) if grid.instance else grid.labels
    sizes = (*grid.sizes, grid.repeats) if grid.instance else grid.sizes
    is_filled = np.zeros(len(rows), bool)
    for example in examples:
        labels = tuple(int(example[name]) for name in names)
        described = ", ".join(f"{name} {label}" for name, label in zip(names, labels, strict=True))
        if not all(0 <= label < size for label, size in zip(labels, sizes, strict=True)):
            raise ValueError(f"{grid.builder} has an image of {described}, but the sizes are {sizes}")
        number = np.ravel_multi_index(labels, sizes)
        if is_filled[number]:
            raise ValueError(f"{grid.builder} has two images of {described}")
        rows[number] = _row(example["image"], grid)
        is_filled[number] = True
    if not is_filled.all():
        raise ValueError(f"{grid.builder} has images of {is_filled.sum()} combinations of its labels; "
                         f"they must be all {len(is_filled)}")


def _row(image: npt.NDArray[np.uint8], grid: Grid) -> npt.NDArray[np.uint8]:
    """An image of a prepared set, uint8 [H, W, C], as it is stored."""
    if image.shape[:2] != (SIDE, SIDE):
        from PIL import Image

        # LANCZOS as in disentanglement_lib; like there, the result is rounded to whole levels.
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        image = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)).reshape(SIDE, SIDE, -1)
    return pixels.pack(image[None]).bits[0] if grid.binary else image


def _examples(builder: Any, name: str) -> Iterator[Mapping[str, Any]]:
    """Every example of every split, with a progress bar."""
    import tqdm

    sources = [builder.as_data_source(split) for split in sorted(builder.info.splits)]
    total = sum(len(source) for source in sources)
    with tqdm.tqdm(total=total, desc=f"reading {name}", unit="images", mininterval=1, leave=False) as bar:
        for source in sources:
            for example in source:
                yield example
                bar.update()
