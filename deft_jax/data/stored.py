"""Images that exist as an array, behind the Source interface: kept on the device, or fetched from the host.

A set whose images hold every combination of its factors is a grid, drawn like any generated set; any other is a list
of images, whose one factor is the image's number and whose labels are known image by image, or not at all.
"""

import dataclasses
import hashlib
import json
import math

import jax
import jax.numpy as jnp
import numpy as np

from deft_jax.data import factors, labels
from deft_jax.data.source import LIKELIHOODS, Source

STORAGES = ("auto", "device", "host")

# Up to this size 'auto' keeps a set on the device. 480,000 colour images of 64x64 take 5.9 GB, which leaves room to
# train on an accelerator with 16 GB.
DEVICE_BYTES = 6 * 2**30

# Up to this size every pixel goes into a digest, above it evenly spaced images of this size in all.
DIGEST_BYTES = 2**26

_CHUNK_BYTES = 2**24  # how much of a set, which may lie in a file, is looked at in one go


@dataclasses.dataclass(frozen=True, eq=False)
class Packed:
    """Images of two levels, black and one other, at one bit a pixel.

    Attributes:
      bits: uint8 [N, ceil(H * W * C / 8)]; bit i of byte j is pixel 8 j + i, and what is left over is 0.
      image_shape: (H, W, C).
      white: what a pixel whose bit is set amounts to, in (0, 1].
    """

    bits: np.ndarray
    image_shape: tuple[int, int, int]
    white: float = 1.0

    @property
    def shape(self):
        return len(self.bits), *self.image_shape

    def __len__(self):
        return len(self.bits)


def pack(images, white=1.0):
    """Images uint8 or bool [N, H, W, C] -> Packed; every pixel that is not 0 counts as `white`."""
    flat = np.asarray(images).reshape(len(images), -1)
    return Packed(np.packbits(flat, axis=1, bitorder="little"), tuple(images.shape[1:]), white)


def chunks(length, row_bytes):
    """Slices that cover 0 .. length in order, each of some 16 MB of rows with `row_bytes` bytes."""
    step = max(1, _CHUNK_BYTES // max(1, row_bytes))
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def two_levels(pixels):
    """The largest value of uint8 pixels if every pixel is either that or 0, else None."""
    largest = pixels.max()
    return int(largest) if np.all((pixels == 0) | (pixels == largest)) else None


def unit(level):
    """What the largest value of a set with two levels amounts to: 0 and 1 are black and white, else 255 is white."""
    return 1.0 if level <= 1 else level / 255


def _white(images):
    """What the brighter level of a set with two levels amounts to, else None.

    Reads a set of two levels once, and of any other no more than shows that it is one.
    """
    if isinstance(images, Packed):
        return images.white
    if images.dtype == bool:
        return 1.0
    levels = set()
    for part in chunks(len(images), math.prod(images.shape[1:])):
        level = two_levels(np.asarray(images[part]))
        levels |= {level} - {0}
        if level is None or len(levels) > 1:
            return None
    return unit(max(levels, default=1))


def check_choices(storage="auto", likelihood="auto"):
    """Raises ValueError for a storage or a likelihood that is unknown: before a set is read, rather than after."""
    for what, chosen, known in (("storage", storage, STORAGES), ("likelihood", likelihood, ("auto", *LIKELIHOODS))):
        if chosen not in known:
            raise ValueError(f"unknown {what} {chosen!r}; known: {', '.join(known)}")


def _checked(images):
    """Raises ValueError unless the images are as `gather` takes them."""
    if len(images.shape) != 4 or min(images.shape) < 1:
        raise ValueError(f"images must be [N, H, W, C], each positive, got {list(images.shape)}")
    if not isinstance(images, Packed) and images.dtype not in (np.uint8, np.bool_):
        raise ValueError(f"images must be uint8 or bool, got {images.dtype}")
    if images.shape[0] > np.iinfo(np.int32).max:
        raise ValueError(f"{images.shape[0]} images are more than int32 can number")


def gather(images, storage="auto"):
    """Images by number.

    Args:
      images: uint8 or bool [N, H, W, C], in memory or memory-mapped, or Packed. 255 is white, unless all pixels are 0
        or 1. The array is not copied where that can be avoided, so it must not be written to afterwards.
      storage: 'device' keeps the images on the device, as bits where they have two levels, else as uint8. 'host' leaves
        them where they are and fetches each batch through a callback, for a set larger than the device's memory; it
        costs a round trip a batch. 'auto' is 'device' up to DEVICE_BYTES there.

    Returns:
      (arrays, look_up): a pytree for Source.arrays, and look_up(arrays, index int32 [N]) -> float32 [N, H, W, C] in
      [0, 1], pure and jittable; under vmap one callback serves the whole batch. An index out of range gives another
      image on the device and fails on the host.

    Raises:
      ValueError: the storage is unknown, or the images are of another shape or type.
    """
    check_choices(storage)
    _checked(images)
    return _gathered(images, storage, _white(images))


def _gathered(images, storage, white):
    """`gather` of checked images, of which it is known whether they have two levels."""
    row_bytes = math.prod(images.shape[1:])
    if white is not None:
        row_bytes = math.ceil(row_bytes / 8)
    if storage == "auto":
        storage = "device" if len(images) * row_bytes <= DEVICE_BYTES else "host"

    if storage == "device" and white is not None and not isinstance(images, Packed):
        images = _pack_in_parts(images, white)
    rows = images.bits if isinstance(images, Packed) else images
    decode = _decoder(images, white)
    if storage == "device":
        return {"images": jnp.asarray(rows)}, lambda arrays, index_N: decode(arrays["images"][index_N])

    def fetch(index):
        return rows[np.asarray(index)].view(np.uint8)

    def look_up(arrays, index_N):
        del arrays
        found = jax.ShapeDtypeStruct((*index_N.shape, *rows.shape[1:]), jnp.uint8)
        # Under vmap the callback sees the batch as one more axis of the index, which is all that `fetch` needs.
        return decode(jax.pure_callback(fetch, found, index_N, vmap_method="expand_dims"))

    return {}, look_up


def _pack_in_parts(images, white):
    """`pack`, part by part, for a set that lies in a file."""
    parts = [pack(images[part], white).bits for part in chunks(len(images), math.prod(images.shape[1:]))]
    return Packed(np.concatenate(parts), tuple(images.shape[1:]), white)


def _decoder(images, white):
    """The function from stored rows, uint8 [N, ...], to images float32 [N, H, W, C]."""
    shape = tuple(images.shape[1:])

    def unpack(rows_NxM):
        bits = rows_NxM[..., None] >> np.arange(8, dtype=np.uint8) & 1
        pixels = bits.reshape(len(rows_NxM), -1)[:, : math.prod(shape)]
        return pixels.reshape(-1, *shape).astype(jnp.float32) * np.float32(white)

    if isinstance(images, Packed):
        return unpack
    if white is not None:
        return lambda rows: (rows != 0).astype(jnp.float32) * np.float32(white)
    return lambda rows: rows.astype(jnp.float32) / np.float32(255)


def _digest(images, white, described, labels_NxL=None, order=None):
    """Identifies images and labels, wherever and however they are kept: 16 hexadecimal digits of a sha256.

    It covers the number and the shape of the images, their pixels as levels from 0 to 255 and the labels. Of a set
    with more than DIGEST_BYTES of pixels it covers evenly spaced images of that size in all, the first and the last
    among them.

    Args:
      images, white: as for `_gathered`.
      described: what else belongs to the set, such as the names of its labels; anything that JSON holds.
      labels_NxL: numbers [N, L], or None.
      order: the order in which images count, int [N]; None: that of the array.
    """
    count, row_bytes = len(images), math.prod(images.shape[1:])
    rows = None if order is None else np.asarray(order)  # None: all, in order
    if count * row_bytes > DIGEST_BYTES:
        spaced = np.linspace(0, count - 1, max(2, DIGEST_BYTES // row_bytes)).round().astype(np.int64)
        rows = spaced if rows is None else rows[spaced]
    found = hashlib.sha256(json.dumps([list(images.shape), "uint8", described]).encode())
    for part in chunks(count if rows is None else len(rows), row_bytes):
        taken = part if rows is None else rows[part]
        if isinstance(images, Packed):
            pixels = np.unpackbits(images.bits[taken], axis=1, count=row_bytes, bitorder="little")
        else:
            pixels = np.asarray(images[taken])
        if white is not None:
            pixels = (pixels != 0) * np.uint8(np.rint(white * 255))
        found.update(pixels.tobytes())
    if labels_NxL is not None:
        found.update(labels_NxL.astype("<f8").tobytes())
    return found.hexdigest()[:16]


def _checked_labels(num_images, label_names, labels_NxL):
    """Labels as an array [N, L] of numbers; raises ValueError."""
    labels_NxL = np.asarray(labels_NxL)
    if labels_NxL.shape != (num_images, len(label_names)):
        raise ValueError(f"labels must be [{num_images}, {len(label_names)}], images by label names, "
                         f"got {list(labels_NxL.shape)}")
    if labels_NxL.dtype.kind not in "biuf":
        raise ValueError(f"labels must be numbers, got {labels_NxL.dtype}")
    if not np.all(np.isfinite(labels_NxL)):
        raise ValueError(f"labels of {tuple(label_names)} are not all finite")
    if len(set(label_names)) < len(label_names):
        raise ValueError(f"label names {tuple(label_names)} repeat")
    return labels_NxL


def _scored_by(likelihood):
    """'auto' by the field's convention: pixels are probabilities, those of colours as well."""
    return "bernoulli" if likelihood == "auto" else likelihood


def grid_source(images, names, sizes, *, likelihood="auto", storage="auto", repeats=1, order=None):
    """A set that holds every combination of its factors.

    Args:
      images: as for `gather`, in the order of deft_jax.data.factors, last factor fastest; image r of combination i has
        the number i * repeats + r.
      names, sizes: F factor names and their numbers of values.
      likelihood: 'bernoulli', 'gaussian', or 'auto', which is 'bernoulli'.
      storage: as for `gather`.
      repeats: images of each combination. Which one is drawn comes from the key, for image i of a batch from
        fold_in(key, i) alone.
      order: int [N], where in `images` the image with each number is; None if they are in order.

    Returns:
      Source, its images float32 [N, H, W, C] in [0, 1], any number of channels C, and its digest, which does not depend
      on `storage`, nor on how the array and `order` share the order out.

    Raises:
      ValueError: an argument is unknown, or the images are not prod(sizes) * repeats.
    """
    check_choices(storage, likelihood)
    names, sizes = tuple(names), tuple(int(size) for size in sizes)
    if repeats < 1 or len(images) != math.prod(sizes) * repeats:
        raise ValueError(f"{len(images)} images for factor sizes {sizes}, {repeats} images each; "
                         f"they must be {math.prod(sizes) * repeats}")
    _checked(images)
    white = _white(images)
    arrays, look_up = _gathered(images, storage, white)
    digest = _digest(images, white, [list(names), list(sizes), repeats], order=order)
    if order is not None:
        arrays = arrays | {"order": jnp.asarray(order, jnp.int32)}

    def render(arrays, factors_NxF, key):
        index_N = factors.to_index(factors_NxF, sizes)
        if repeats > 1:
            keys_N = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(index_N)))
            index_N = index_N * repeats + jax.vmap(lambda k: jax.random.randint(k, (), 0, repeats))(keys_N)
        return look_up(arrays, arrays["order"][index_N] if "order" in arrays else index_N)

    return Source(names, sizes, tuple(images.shape[1:]), _scored_by(likelihood), arrays, render, digest=digest)


def listed_source(
    images, label_names=(), labels_NxL=None, *, continuous=(), likelihood="auto", storage="auto", remarks=()
):
    """A set that does not hold every combination of its factors, or of which nothing is known.

    Args:
      images, likelihood, storage: as for `grid_source`.
      label_names: L names; none where nothing is known of the images.
      labels_NxL: integers from 0 up, [N, L], and real numbers where continuous; None where L is 0.
      continuous: L booleans, which labels are numbers of a continuum; (): none.
      remarks: sentences for Source.remarks.

    Returns:
      Source with the one factor 'image', the number of the image, and with labels: int32, or float64 if one of them is
      continuous. Its digest does not depend on `storage`.

    Raises:
      ValueError: an argument is unknown, the labels do not fit the images, or are not integers from 0 up where they
        are not continuous.
    """
    check_choices(storage, likelihood)
    label_names = tuple(label_names)
    if labels_NxL is None:
        labels_NxL = np.zeros((len(images), 0), np.int32)
    labels_NxL = _checked_labels(len(images), label_names, labels_NxL)
    continuous = tuple(bool(is_one) for is_one in continuous)
    if any(continuous):
        labels_NxL = labels_NxL.astype(np.float64)
    classes = labels_NxL[:, [not is_one for is_one in continuous]] if continuous else labels_NxL
    whole = np.all(classes == np.floor(classes)) if any(continuous) else classes.dtype.kind != "f"
    if classes.size and (not whole or np.min(classes) < 0):
        raise ValueError(f"labels must be integers from 0 up, got {classes.dtype} from {np.min(classes)}")
    if not any(continuous):
        labels_NxL, continuous = labels_NxL.astype(np.int32), ()
    _checked(images)
    white = _white(images)
    arrays, look_up = _gathered(images, storage, white)

    def render(arrays, factors_NxF, key):
        del key
        return look_up(arrays, factors_NxF[:, 0])

    return Source(
        factor_names=("image",),
        factor_sizes=(len(images),),
        image_shape=tuple(images.shape[1:]),
        likelihood=_scored_by(likelihood),
        arrays=arrays,
        render=render,
        label_names=label_names,
        labels=labels_NxL,
        label_continuous=continuous,
        digest=_digest(images, white, [list(label_names), list(continuous)], labels_NxL),
        remarks=tuple(remarks),
    )


def from_labels(images, label_names, labels_NxL, *, likelihood="auto", storage="auto", remarks=()):
    """A grid if the images hold every combination of two labels or more, each equally often; else a list.

    A set with one label column is a grid only where each value has exactly one image and is a class. Several images of
    a class differ in more than their class, so that a set of balanced classes is a list of labelled images, not a grid
    of one factor; a grid of two factors or more may repeat its combinations.

    Args:
      images, likelihood, storage: as for `grid_source`.
      label_names: L names.
      labels_NxL: numbers [N, L]. A column with one value is left out. In a grid the distinct values of a column become
        0, 1, ... in ascending order; in a list so do those of classes, and columns for which
        deft_jax.data.labels.continuous_columns holds stay numbers, continuous labels.
      remarks: sentences for Source.remarks, to which one about columns left out is added.

    Returns:
      Source as from `grid_source`, or as from `listed_source`.

    Raises:
      ValueError: an argument is unknown, or the labels do not fit the images or are not finite numbers.
    """
    label_names = tuple(label_names)
    labels_NxL = _checked_labels(len(images), label_names, labels_NxL)
    varies = [len(column) > 0 and np.any(column != column[0]) for column in labels_NxL.T]
    constant = [name for name, is_used in zip(label_names, varies, strict=True) if not is_used]
    if constant:
        remarks = (*remarks, f"factors left out, as they have one value: {', '.join(constant)}")
    names = [name for name, is_used in zip(label_names, varies, strict=True) if is_used]
    labels_NxL = labels_NxL[:, np.array(varies, bool)]
    continuous = labels.continuous_columns(labels_NxL)
    found = [np.unique(column, return_inverse=True) for column in labels_NxL.T]
    sizes = [len(values) for values, _ in found]
    classes_NxL = np.zeros(labels_NxL.shape, np.int32)
    for place, (_, class_N) in enumerate(found):
        classes_NxL[:, place] = class_N

    repeats, left_over = divmod(len(images), math.prod(sizes))
    one_each = len(names) == 1 and repeats == 1 and not continuous[0]
    if (len(names) > 1 or one_each) and repeats and not left_over:
        index_N = np.ravel_multi_index(tuple(classes_NxL.T), sizes)
        order = np.argsort(index_N, kind="stable")
        if np.array_equal(index_N[order], np.arange(len(images)) // repeats):
            in_order = np.array_equal(order, np.arange(len(images)))
            source = grid_source(images, names, sizes, likelihood=likelihood, storage=storage, repeats=repeats,
                                 order=None if in_order else order)
            return dataclasses.replace(source, remarks=tuple(remarks))
    if continuous.any():
        classes_NxL = np.where(continuous, labels_NxL, classes_NxL)
    return listed_source(images, names, classes_NxL, continuous=continuous, likelihood=likelihood, storage=storage,
                         remarks=remarks)
