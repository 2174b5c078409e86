"""Images and factors from an .npz or HDF5 file, the form in which most sets of this field are published.

Nothing is ever unpickled: a member that holds pickled objects is refused. Images are read in parts, and parts with two
levels are packed to bits at once, so a 3 GB member of black and white images takes 0.4 GB.
"""

import contextlib
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from deft_jax.data import labels as data_labels
from deft_jax.data import pixels, stored
from deft_jax.data.archive_members import Member, opened
from deft_jax.data.source import Source
from deft_jax.runtime.paths import local_path

IMAGES = ("imgs", "images", "x")
# Classes before values, which are rounded numbers of some unit; the two with a slash are dSprites as HDF5.
FACTORS = ("latents_classes", "latents/classes", "factors", "labels", "latents_values", "latents/values")
NO_FACTORS = "none"  # in place of a member: the factors are left out
FACTOR_NAMES = ("factor_names", "latents_names", "label_names", "names")

# Published sets name their factors on a web page, or in a pickled object.
_KNOWN_NAMES: dict[tuple[str, int, tuple[int, ...]], tuple[str, ...]] = {
    ("imgs", 6, (64, 64, 1)): ("color", "shape", "scale", "orientation", "posX", "posY"),  # dSprites
    ("images", 6, (64, 64, 3)): ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation"),  # 3D Shapes
}


def _choose(what: str, given: str | None, usual: Iterable[str], names: Sequence[str], required: bool) -> str | None:
    """The name of the member to read; None where none has a usual name and none is required."""
    if given is not None:
        if given not in names:
            raise ValueError(f"has no member {given!r} for the {what}; it has {', '.join(sorted(names))}")
        return given
    chosen = next((name for name in usual if name in names), None)
    if chosen is None and required:
        raise ValueError(f"has no {what} under a usual name ({', '.join(usual)}); "
                         f"name one of {', '.join(sorted(names))} by data.{what}")
    return chosen


def chosen_member(
    what: str, given: str | None, usual: Iterable[str], names: Sequence[str], member_of: Callable[[str], Member]
) -> Member:
    """The member that holds the examples.

    Args:
      what: the option that names it.
      given: its name; None takes the first of the usual ones.
      usual: names to look for.
      names: of the file's members.
      member_of: name -> Member.

    Raises:
      ValueError: there is none, or it holds pickled objects.
    """
    chosen = _choose(what, given, usual, names, required=True)
    assert chosen is not None
    return member_of(chosen)


@contextlib.contextmanager
def reading(path: str | os.PathLike, advice: str) -> Iterator[tuple[list[str], Callable[[str], Member]]]:
    """Opens an archive; whatever goes wrong with it becomes a ValueError of one line that names the file.

    Args:
      path: of the file.
      advice: what to do where there is none.

    Yields:
      As `archive_members.opened`.

    Raises:
      ValueError: the file is missing, damaged, or what is done with it fails.
    """
    file = os.fspath(local_path(path, "data.path"))
    # The header of a member is read by Python's tokenizer and parser, which raise further exceptions.
    damage = (OSError, EOFError, zipfile.BadZipFile, zlib.error, ValueError, RuntimeError, KeyError, struct.error,
              TypeError, OverflowError, MemoryError, SyntaxError, tokenize.TokenError)  # fmt: skip
    try:
        with opened(file) as found:
            yield found
    except FileNotFoundError as error:
        missing = error.strerror or "No such file"
        raise ValueError(f"cannot read the archive {file!r}: {missing}; {advice}") from error
    except damage as error:
        raise ValueError(f"cannot read the archive {file!r}: {' '.join(str(error).split())[:600]}") from error


def _image_shape(member: Member) -> tuple[int, int, int]:
    """(H, W, C) of the images in a member; raises ValueError where it does not hold images."""
    shape, dtype = member.shape, member.dtype
    if dtype not in (np.uint8, np.bool_) and dtype.kind != "f":
        raise ValueError(f"images {member.name!r} must be uint8, bool or floats in [0, 1], got {dtype}")
    image_shape = (*shape[1:], 1) if len(shape) == 3 else shape[1:]
    if len(image_shape) != 3 or not 1 <= image_shape[2] <= 4 or min(image_shape) < 1:
        raise ValueError(f"images {member.name!r} must be [N, H, W] or [N, H, W, C] with 1 to 4 channels, "
                         f"got {list(shape)}")
    if shape[0] < 2:
        raise ValueError(f"images {member.name!r} must be at least 2, got {shape[0]}")
    height, width, channels = image_shape
    return height, width, channels


def _as_bytes(values: np.ndarray, name: str) -> npt.NDArray[np.uint8]:
    """Pixels as uint8; floats in [0, 1] are rounded to multiples of 1/255."""
    if values.dtype.kind != "f":
        return values.view(np.uint8)
    # Written so that NaN fails.
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"images {name!r} are floats from {values.min():g} to {values.max():g}; "
                         f"they must be in [0, 1], or uint8")
    return np.rint(values * np.float32(255)).astype(np.uint8)


def _read_images(member: Member, shape: tuple[int, int, int], parts: Sequence[slice]) -> pixels.Images:
    """All images of a member: Packed where they have two levels, else uint8 [N, H, W, C]."""
    count, num_pixels = member.shape[0], math.prod(shape)
    bits, white = np.empty((count, -(-num_pixels // 8)), np.uint8), 0
    images: npt.NDArray[np.uint8] | None = None  # allocated at the first part with more than two levels
    for part, rows in zip(parts, member.read(parts), strict=True):
        rows = _as_bytes(np.ascontiguousarray(rows), member.name).reshape(-1, *shape)
        if images is None:
            level = pixels.two_levels(rows)
            if level is not None and (0 in (level, white) or level == white):
                white = max(level, white)
                bits[part] = pixels.pack(rows).bits
                continue
            images = np.empty((count, *shape), np.uint8)
            for earlier in parts[: parts.index(part)]:
                lit = np.unpackbits(bits[earlier], axis=1, count=num_pixels, bitorder="little")
                images[earlier] = lit.reshape(-1, *shape) * np.uint8(white)
        images[part] = rows
    return pixels.Packed(bits, shape, pixels.brightness(white)) if images is None else images


def read_images(path: str, member: Member, storage: str) -> pixels.Images:
    """The images of a member; memory-mapped where that is possible and the set goes to the host.

    Args:
      path: of the file.
      member: of it, with images as for `archive`.
      storage: as for deft_jax.data.pixels.gather.

    Raises:
      ValueError: the member does not hold images, or ends in the middle.
    """
    shape = _image_shape(member)
    row_bytes = math.prod(shape) * member.dtype.itemsize
    many = storage == "host" or member.shape[0] * row_bytes > pixels.DEVICE_BYTES
    if many and member.offset is not None and member.dtype.kind != "f":
        if os.path.getsize(path) < member.offset + member.shape[0] * row_bytes:
            raise ValueError(f"{member.name!r} ends in the middle")
        return np.memmap(path, member.dtype, "r", member.offset, (member.shape[0], *shape))
    step = pixels.chunks(member.shape[0], row_bytes)[0].stop
    step = -(-step // member.row_multiple) * member.row_multiple
    starts = range(0, member.shape[0], step)
    return _read_images(member, shape, [slice(start, min(start + step, member.shape[0])) for start in starts])


def _read_labels(member: Member, num_images: int) -> np.ndarray:
    """Labels [N, L], numbers or text."""
    if member.dtype.kind not in "biufUS" or len(member.shape) not in (1, 2):
        raise ValueError(f"factors {member.name!r} must be numbers or text [N, F], "
                         f"got {member.dtype} {list(member.shape)}")
    if member.shape[0] != num_images:
        raise ValueError(f"has {num_images} images and {member.shape[0]} rows of factors in {member.name!r}")
    labels = member.all().reshape(num_images, -1)
    return np.char.decode(labels) if labels.dtype.kind == "S" else labels


def _check_finite(labels_NxL: np.ndarray, names: Sequence[str], member: str) -> None:
    """Raises ValueError that names the columns with values that are not finite."""
    bad_L = np.count_nonzero(~np.isfinite(labels_NxL), axis=0)
    columns = [f"{name!r} (column {column} of {member!r}) in {bad_L[column]} of {len(labels_NxL)} rows"
               for column, name in enumerate(names) if bad_L[column]]  # fmt: skip
    if columns:
        raise ValueError(f"factors are not all finite numbers: {', '.join(columns)}")


def _text_classes(
    texts_NxL: np.ndarray, names: Sequence[str], member: str
) -> tuple[tuple[str, ...], np.ndarray, list[str]]:
    """(names, classes int [N, L], remarks) of labels that are text, numbered in sorted order.

    A column whose texts are nearly all distinct, such as names of files, holds no classes and is left out.
    """
    classes: list[np.ndarray] = []
    kept: list[str] = []
    remarks: list[str] = []
    for name, text_N in zip(names, texts_NxL.T, strict=True):
        values, class_N = np.unique(text_N, return_inverse=True)
        if data_labels.continuous_columns(class_N[:, None])[0]:
            remarks.append(f"factor {name!r} of {member!r} left out: text, with {len(values)} different values")
            continue
        order = ", ".join(f"{value} {number}" for number, value in enumerate(values[:5]))
        more = f", ... ({len(values)} classes)" if len(values) > 5 else ""
        remarks.append(f"factor {name!r} of {member!r} is text, its classes are {order}{more}")
        kept.append(name)
        classes.append(class_N)
    return tuple(kept), np.stack(classes, -1) if classes else np.zeros((len(texts_NxL), 0), int), remarks


def _label_names(
    given: Sequence[str] | None,
    members: Sequence[str],
    member_of: Callable[[str], Member],
    images: str,
    num_labels: int,
    image_shape: tuple[int, ...],
) -> tuple[str, ...]:
    """Names of the factors: those given, those in the archive, those known of a published set, or numbers."""
    if given is not None:
        if len(given) != num_labels:
            raise ValueError(f"has {num_labels} factors, {len(given)} names are given: {', '.join(given)}")
        return tuple(given)
    for name in FACTOR_NAMES:
        if name in members:
            member = member_of(name)
            if member.dtype.kind in "US" and member.shape == (num_labels,):
                texts = member.all()
                return tuple(str(text) for text in (np.char.decode(texts) if texts.dtype.kind == "S" else texts))
    known = _KNOWN_NAMES.get((images, num_labels, image_shape))
    return known or tuple(f"factor_{number}" for number in range(num_labels))


def read_factors(
    members: Sequence[str],
    member_of: Callable[[str], Member],
    factors: str | None,
    names: Sequence[str] | None,
    images: Member,
    image_shape: tuple[int, ...],
) -> tuple[tuple[str, ...], np.ndarray, list[str]]:
    """The labels of the examples in a member.

    Args:
      members: names of the file's members.
      member_of: name -> Member.
      factors: as for `archive`.
      names: as for `archive`.
      images: the member with the examples.
      image_shape: of an example, by which published sets are recognised.

    Returns:
      (label names, labels [N, L], remarks).

    Raises:
      ValueError: factors do not fit the examples.
    """
    no_factors: tuple[tuple[str, ...], np.ndarray, list[str]] = (), np.zeros((images.shape[0], 0), np.int32), []
    if factors == NO_FACTORS:
        if names is not None:
            raise ValueError(f"data.names are given, and data.factors={NO_FACTORS} leaves the factors out")
        return no_factors
    chosen = _choose("factors", factors, FACTORS, members, required=names is not None)
    if chosen is None:
        return no_factors
    try:
        labels_NxL = _read_labels(member_of(chosen), images.shape[0])
        label_names = _label_names(names, members, member_of, images.name, labels_NxL.shape[1], image_shape)
        remarks: list[str] = []
        if labels_NxL.dtype.kind == "U":
            label_names, labels_NxL, remarks = _text_classes(labels_NxL, label_names, chosen)
        _check_finite(labels_NxL, label_names, chosen)
    except ValueError as error:
        raise ValueError(f"{error}; data.factors={NO_FACTORS} reads the images without factors") from error
    return label_names, labels_NxL, remarks


def _read(
    path: str | os.PathLike, images: str | None, factors: str | None, names: Sequence[str] | None, storage: str
) -> tuple[pixels.Images, tuple[str, ...], np.ndarray, list[str]]:
    """(images, label names, labels, remarks) of an archive."""
    with reading(path, "give your .npz, .h5 or .hdf5 file by data.path") as (members, member_of):
        member = chosen_member("images", images, IMAGES, members, member_of)
        shape = _image_shape(member)
        label_names, labels_NxL, remarks = read_factors(members, member_of, factors, names, member, shape)
        file = os.fspath(local_path(path, "data.path"))
        return read_images(file, member, storage), label_names, labels_NxL, remarks  # images last: they take longest


def archive(
    path: str | os.PathLike,
    images: str | None = None,
    factors: str | None = None,
    names: Sequence[str] | None = None,
    storage: str = "auto",
    likelihood: str = "auto",
    background: str | None = None,
) -> Source:
    """A set from an .npz, .h5 or .hdf5 file with images and optionally factors.

    Args:
      path: of the file. The published files of dSprites and 3D Shapes need no further argument.
      images: member with the images, [N, H, W] or [N, H, W, C] with 1 to 4 channels of any meaning (grey, RGB, RGBA):
        bool, uint8 of 0 and 1, uint8 of 0 to 255, or floats in [0, 1], which are rounded to multiples of 1/255.
        None takes the first member named as in IMAGES.
      factors: member with the factors, numbers or text [N, F]; equal values are one class, and texts are classes in
        sorted order; a column of texts that are nearly all distinct is left out. None takes the first member named as
        in FACTORS; without one the set has no labels. 'none' leaves the factors out.
      names: F names of the factors. None takes them from a member of strings named as in FACTOR_NAMES; dSprites and 3D
        Shapes are recognised by their layout; otherwise the names are factor_0, factor_1, ...
      storage: as for deft_jax.data.pixels.gather. With 'host', or above the size up to which a set goes to the device,
        a member that is not compressed is memory-mapped, and the file must not change afterwards.
      likelihood: 'bernoulli', 'gaussian', or 'auto', which is 'bernoulli'.
      background: colour that images of 4 channels are put on, the fourth being their opacity; they become colour of 3
        channels, in memory. A name such as 'white', or '#rrggbb'. None keeps all channels as they are.

    Returns:
      Source as from deft_jax.data.stored.from_labels: a grid where every combination of two factors or more has equally
      many images, in any order; otherwise a list of images with labels, of which some may be continuous. Factors with
      one value are left out. Source.remarks list what was left out.

    Raises:
      ValueError: an argument is unknown; the file cannot be read, is damaged, lacks a member, or holds other shapes,
        types, numbers of rows or values than the above.

    Example:
      >>> import tempfile
      >>> hues, shapes = np.divmod(np.arange(6), 2)
      >>> images = np.zeros((6, 16, 16, 3), np.uint8) + (40 * hues[:, None, None, None]).astype(np.uint8)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     np.savez(f"{folder}/set.npz", images=images, factors=np.stack([hues, shapes], axis=1))
      ...     source = archive(f"{folder}/set.npz", names=["hue", "shape"])
      >>> source.is_grid, source.factor_names, source.factor_sizes, source.image_shape
      (True, ('hue', 'shape'), (3, 2), (16, 16, 3))
    """
    stored.check_choices(storage, likelihood)
    pixel_values, label_names, labels_NxL, remarks = _read(path, images, factors, names, storage)
    if background is not None:
        pixel_values = pixels.composited(pixel_values, background)
        remarks = [*remarks, f"images of 4 channels are put on the background {background}"]
    try:
        return stored.from_labels(
            pixel_values, label_names, labels_NxL, likelihood=likelihood, storage=storage, remarks=remarks
        )
    except ValueError as error:
        raise ValueError(f"cannot use the archive {str(path)!r}: {error}") from error
