"""Images and factors from an .npz or HDF5 file, the form in which most sets of this field are published.

Nothing is ever unpickled: members are read one by one, those that hold pickled objects not at all. Images are read
part by part and go to bits on the way where they have two levels, so a 3 GB member of black and white takes 0.4 GB.
"""

import contextlib
import dataclasses
import math
import os
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence

import numpy as np

from deft_jax.data import labels as data_labels
from deft_jax.data import stored
from deft_jax.data.folder import PACKED, UNPACK
from deft_jax.data.source import Source
from deft_jax.runtime.paths import local_path

IMAGES = ("imgs", "images", "x")
# Classes before values, which are rounded numbers of some unit; the two with a slash are dSprites as HDF5.
FACTORS = ("latents_classes", "latents/classes", "factors", "labels", "latents_values", "latents/values")
NO_FACTORS = "none"  # in place of a member: the factors are left out
FACTOR_NAMES = ("factor_names", "latents_names", "label_names", "names")

# Published sets say what their factors are on a web page, or in a pickled object.
_KNOWN_NAMES = {
    ("imgs", 6, (64, 64, 1)): ("color", "shape", "scale", "orientation", "posX", "posY"),  # dSprites
    ("images", 6, (64, 64, 3)): ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation"),  # 3D Shapes
}


@dataclasses.dataclass(frozen=True)
class _Member:
    """One array of a file.

    read: slices of rows, in order and without gaps -> iterator of numpy arrays.
    row_multiple: how many rows are read in one go at no extra cost.
    offset: where in the file the array lies as plain bytes; None if it is compressed, or laid out otherwise.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable
    row_multiple: int = 1
    offset: int | None = None

    def all(self):
        return next(self.read([slice(0, self.shape[0])]))


def _npz_member(archive, name):
    """The header of one member of an .npz, and how to read the rest."""
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name!r} is compressed in a way that numpy does not write")
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{name!r} has the .npy version {version}, which is for structured arrays")
        read_header = getattr(np.lib.format, f"read_array_header_{version[0]}_{version[1]}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that Python 2 wrote the file
            shape, by_columns, dtype = read_header(file)
        header = file.tell()
    if dtype.hasobject:
        raise ValueError(f"{name!r} holds pickled objects, which are never loaded")
    expected = math.prod(shape) * dtype.itemsize
    if info.file_size - header != expected:
        raise ValueError(f"{name!r} should hold {expected} bytes by its header {list(shape)} {dtype}, "
                         f"and holds {info.file_size - header}")
    by_columns = by_columns and len(shape) > 1
    row_bytes = expected // max(1, shape[0]) if shape else expected

    def read(parts):
        with archive.open(info) as file:
            file.read(header)
            for part in parts:
                rows = part.stop - part.start
                data = file.read(rows * row_bytes)
                if len(data) != rows * row_bytes:
                    raise ValueError(f"{name!r} ends in the middle")
                yield np.frombuffer(data, dtype).reshape((rows, *shape[1:]), order="F" if by_columns else "C")
            file.read(1)  # the checksum is compared at the very end

    offset = None
    if info.compress_type == zipfile.ZIP_STORED and not by_columns:
        archive.fp.seek(info.header_offset)
        # The lengths of name and extra field in front of the data may differ from those in the directory.
        offset = info.header_offset + 30 + sum(struct.unpack("<26x2H", archive.fp.read(30))) + header
    row_multiple = shape[0] if by_columns else 1
    return _Member(name, shape, dtype, read, row_multiple, offset)


def _hdf5_member(file, name):
    """One dataset of an HDF5 file."""
    import h5py

    data = file[name]
    dtype, plain = data.dtype, data.chunks is None and data.external is None and not data.is_virtual
    if h5py.check_string_dtype(dtype):
        texts = np.asarray(data.asstr()[()], dtype=str)
        return _Member(name, texts.shape, texts.dtype, lambda parts: (texts[part] for part in parts))
    if dtype.hasobject:
        raise ValueError(f"{name!r} holds objects, which are never loaded")
    offset = data.id.get_offset() if plain else None
    # A chunk that straddles two parts would be decompressed twice.
    row_multiple = data.chunks[0] if data.chunks else 1
    return _Member(name, data.shape or (), dtype, lambda parts: (data[part] for part in parts), row_multiple, offset)


@contextlib.contextmanager
def _opened(path):
    """(names of all members, function from a name to its _Member) of an archive."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".npz":
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            if not names:
                raise ValueError(f"holds no arrays, no member ends in .npy; if it holds pictures, {UNPACK}")
            yield names, lambda name: _npz_member(archive, name)
    elif suffix in (".h5", ".hdf5"):
        try:
            import h5py
        except ImportError as error:
            raise ValueError("HDF5 files need h5py: pip install h5py, or this package's extra 'data'") from error
        with h5py.File(path, "r") as file:
            names = []
            file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
            yield names, lambda name: _hdf5_member(file, name)
    else:
        advice = f"; if it holds pictures, {UNPACK}" if suffix in PACKED else ""
        if os.path.isdir(path):
            advice = "; read a folder of pictures by data.name=folder"
        raise ValueError(f"is no archive by its name: {suffix!r} is none of .npz, .h5, .hdf5{advice}")


def _choose(what, given, usual, names, required):
    """The name of the member to read, or None."""
    if given is not None:
        if given not in names:
            raise ValueError(f"has no member {given!r} for the {what}; it has {', '.join(sorted(names))}")
        return given
    found = next((name for name in usual if name in names), None)
    if found is None and required:
        raise ValueError(f"has no {what} under a usual name ({', '.join(usual)}); "
                         f"name one of {', '.join(sorted(names))} by data.{what}")
    return found


def _image_shape(member):
    """(H, W, C) of the images in a member; raises ValueError where they are none."""
    shape, dtype = member.shape, member.dtype
    if dtype not in (np.uint8, np.bool_) and dtype.kind != "f":
        raise ValueError(f"images {member.name!r} must be uint8, bool or floats in [0, 1], got {dtype}")
    image_shape = (*shape[1:], 1) if len(shape) == 3 else shape[1:]
    if len(image_shape) != 3 or not 1 <= image_shape[2] <= 4 or min(image_shape) < 1:
        raise ValueError(f"images {member.name!r} must be [N, H, W] or [N, H, W, C] with 1 to 4 channels, "
                         f"got {list(shape)}")
    if shape[0] < 2:
        raise ValueError(f"images {member.name!r} must be at least 2, got {shape[0]}")
    return image_shape


def _as_bytes(pixels, name):
    """Pixels as uint8: those that are floats in [0, 1] rounded to 255 levels."""
    if pixels.dtype.kind != "f":
        return pixels.view(np.uint8)
    # Written so that NaN fails.
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError(f"images {name!r} are floats from {pixels.min():g} to {pixels.max():g}; "
                         f"they must be in [0, 1], or uint8")
    return np.rint(pixels * np.float32(255)).astype(np.uint8)


def _read_images(member, shape, parts):
    """All images of a member: Packed where they have two levels, else uint8 [N, H, W, C]."""
    count, num_pixels = member.shape[0], math.prod(shape)
    bits, pixels, white = np.empty((count, -(-num_pixels // 8)), np.uint8), None, 0
    for part, read in zip(parts, member.read(parts), strict=True):
        read = _as_bytes(np.ascontiguousarray(read), member.name).reshape(-1, *shape)
        if pixels is None:
            level = stored.two_levels(read)
            if level is not None and (0 in (level, white) or level == white):
                white = max(level, white)
                bits[part] = stored.pack(read).bits
                continue
            pixels = np.empty((count, *shape), np.uint8)
            for done in parts[: parts.index(part)]:
                lit = np.unpackbits(bits[done], axis=1, count=num_pixels, bitorder="little")
                pixels[done] = lit.reshape(-1, *shape) * np.uint8(white)
        pixels[part] = read
    return stored.Packed(bits, shape, stored.unit(white)) if pixels is None else pixels


def _images(path, member, storage):
    """The images of a member, in memory; or mapped where that is possible and asked for, or they are many."""
    shape = _image_shape(member)
    row_bytes = math.prod(shape) * member.dtype.itemsize
    many = storage == "host" or member.shape[0] * row_bytes > stored.DEVICE_BYTES
    if many and member.offset is not None and member.dtype.kind != "f":
        if os.path.getsize(path) < member.offset + member.shape[0] * row_bytes:
            raise ValueError(f"{member.name!r} ends in the middle")
        return np.memmap(path, member.dtype, "r", member.offset, (member.shape[0], *shape))
    step = stored.chunks(member.shape[0], row_bytes)[0].stop
    step = -(-step // member.row_multiple) * member.row_multiple
    starts = range(0, member.shape[0], step)
    return _read_images(member, shape, [slice(start, min(start + step, member.shape[0])) for start in starts])


def _read_labels(member, num_images):
    """Labels [N, L], numbers or text of any kind."""
    if member.dtype.kind not in "biufUS" or len(member.shape) not in (1, 2):
        raise ValueError(f"factors {member.name!r} must be numbers or text [N, F], "
                         f"got {member.dtype} {list(member.shape)}")
    if member.shape[0] != num_images:
        raise ValueError(f"has {num_images} images and {member.shape[0]} rows of factors in {member.name!r}")
    labels = member.all().reshape(num_images, -1)
    return np.char.decode(labels) if labels.dtype.kind == "S" else labels


def _check_finite(labels_NxL, names, member):
    """Raises ValueError that names the columns with values that are not finite."""
    bad_L = np.count_nonzero(~np.isfinite(labels_NxL), axis=0)
    columns = [f"{name!r} (column {column} of {member!r}) in {bad_L[column]} of {len(labels_NxL)} rows"
               for column, name in enumerate(names) if bad_L[column]]  # fmt: skip
    if columns:
        raise ValueError(f"factors are not all finite numbers: {', '.join(columns)}")


def _as_classes(texts_NxL, names, member):
    """Labels that are text -> (names, classes int [N, L], remarks): numbered in the order of the text.

    A column whose texts are nearly all distinct, such as names of files, holds no classes and is left out.
    """
    classes, kept, remarks = [], [], []
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
    return kept, np.stack(classes, -1) if classes else np.zeros((len(texts_NxL), 0), int), remarks


def _label_names(given, members, member_of, images, num_labels, image_shape):
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


def _factors(members, member_of, factors, names, pixels):
    """(label names, labels [N, L], remarks) that belong to the member with the images."""
    nothing = (), np.zeros((pixels.shape[0], 0), np.int32), []
    if factors == NO_FACTORS:
        if names is not None:
            raise ValueError(f"data.names are given, and data.factors={NO_FACTORS} leaves the factors out")
        return nothing
    chosen = _choose("factors", factors, FACTORS, members, required=names is not None)
    if chosen is None:
        return nothing
    try:
        labels_NxL, remarks = _read_labels(member_of(chosen), pixels.shape[0]), []
        shape = _image_shape(pixels)
        label_names = _label_names(names, members, member_of, pixels.name, labels_NxL.shape[1], shape)
        if labels_NxL.dtype.kind == "U":
            label_names, labels_NxL, remarks = _as_classes(labels_NxL, label_names, chosen)
        _check_finite(labels_NxL, label_names, chosen)
    except ValueError as error:
        raise ValueError(f"{error}; data.factors={NO_FACTORS} reads the images without factors") from error
    return label_names, labels_NxL, remarks


def _read(path, images, factors, names, storage):
    """(images, label names, labels, remarks) of an archive."""
    with _opened(path) as (members, member_of):
        pixels = member_of(_choose("images", images, IMAGES, members, required=True))
        _image_shape(pixels)
        found = _factors(members, member_of, factors, names, pixels)  # before the images, which take longer
        return _images(path, pixels, storage), *found


def archive(
    path: str | os.PathLike,
    images: str | None = None,
    factors: str | None = None,
    names: Sequence[str] | None = None,
    storage: str = "auto",
    likelihood: str = "auto",
) -> Source:
    """A set from an .npz, .h5 or .hdf5 file with images and, perhaps, factors.

    Args:
      path: of the file. One of dSprites or of 3D Shapes as published needs no further argument.
      images: member with the images, [N, H, W] or [N, H, W, C] with 1 to 4 channels, whatever these mean (grey, RGB,
        RGBA): bool, uint8 of 0 and 1, uint8 of 0 to 255, or floats in [0, 1], which are rounded to multiples of 1/255.
        None takes the first of IMAGES that is there.
      factors: member with the factors, numbers or text [N, F]; equal values are one class, and texts are classes in
        sorted order, but for a column of texts that are nearly all distinct, which is left out. None takes the first of
        FACTORS, and where there is none the set has no labels; 'none' leaves the factors out.
      names: F names of the factors. None takes them from a member of strings called as in FACTOR_NAMES, knows those of
        dSprites and 3D Shapes by their layout, or counts factor_0, factor_1, ...
      storage: as for deft_jax.data.stored.gather. With 'host', or above the size up to which a set goes to the device,
        a member that is not compressed is memory-mapped, and the file must then stay as it is.
      likelihood: 'bernoulli', 'gaussian', or 'auto', which is 'bernoulli'.

    Returns:
      Source as deft_jax.data.stored.from_labels makes it: a grid where every combination of two factors or more has
      equally many images, whatever their order, and otherwise a list of images with labels, of which some may be
      continuous. Factors with one value are left out. What was left out is in Source.remarks.

    Raises:
      ValueError: an argument is unknown; the file cannot be read, is damaged, lacks a member, or holds other shapes,
        types, numbers of rows or values than the above.
    """
    stored.check_choices(storage, likelihood)
    path = os.fspath(local_path(path, "data.path"))
    # The header of a member is read by Python's tokenizer and parser, which have faults of their own.
    damage = (OSError, EOFError, zipfile.BadZipFile, zlib.error, ValueError, RuntimeError, KeyError, struct.error,
              TypeError, OverflowError, MemoryError, SyntaxError, tokenize.TokenError)  # fmt: skip
    try:
        pixels, label_names, labels_NxL, remarks = _read(path, images, factors, names, storage)
    except FileNotFoundError as error:
        raise ValueError(f"cannot read the archive {path!r}: {error.strerror or 'No such file'}; "
                         "give your .npz, .h5 or .hdf5 file by data.path") from error
    except damage as error:
        raise ValueError(f"cannot read the archive {path!r}: {' '.join(str(error).split())[:600]}") from error
    try:
        return stored.from_labels(pixels, label_names, labels_NxL, likelihood=likelihood, storage=storage,
                                  remarks=remarks)
    except ValueError as error:
        raise ValueError(f"cannot use the archive {path!r}: {error}") from error
