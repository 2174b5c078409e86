"""Data sets whose images exist as an array: a grid where they are all combinations of their factors, else a list."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from deft_jax.data import factors, labels, pixels
from deft_jax.data.pixels import Images, Packed
from deft_jax.data.source import LIKELIHOODS, Source

# Up to this size every pixel goes into a digest, above it evenly spaced images of this size in all.
DIGEST_BYTES = 2**26


def check_choices(storage: str = "auto", likelihood: str = "auto") -> None:
    """Raises ValueError for an unknown storage or likelihood; called before a set is read, which may take long."""
    pixels.check_storage(storage)
    if likelihood not in ("auto", *LIKELIHOODS):
        raise ValueError(f"unknown likelihood {likelihood!r}; known: auto, {', '.join(LIKELIHOODS)}")


def _digest(
    images: Images,
    white: float | None,
    described: Any,
    labels_NxL: np.ndarray | None = None,
    order: np.ndarray | None = None,
) -> str:
    """Identifies images and labels, independent of where and how they are stored: 16 hexadecimal digits of a sha256.

    It covers the number and the shape of the images, their pixels as levels from 0 to 255 and the labels. Of a set
    with more than DIGEST_BYTES of pixels it covers evenly spaced images of that size in all, the first and the last
    among them.

    Args:
      images, white: as for `pixels.gather_checked`.
      described: further parts of the set, such as the names of its labels; a value that JSON can represent.
      labels_NxL: numbers [N, L], or None.
      order: the order in which images count, int [N]; None: that of the array.
    """
    count, row_bytes = len(images), math.prod(images.shape[1:])
    rows = None if order is None else np.asarray(order)  # None: all, in order
    if count * row_bytes > DIGEST_BYTES:
        spaced = np.linspace(0, count - 1, max(2, DIGEST_BYTES // row_bytes)).round().astype(np.int64)
        rows = spaced if rows is None else rows[spaced]
    kind = "float32" if not isinstance(images, Packed) and images.dtype == np.float32 else "uint8"
    digest = hashlib.sha256(json.dumps([list(images.shape), kind, described]).encode())
    for part in pixels.chunks(count if rows is None else len(rows), row_bytes):
        taken = part if rows is None else rows[part]
        if isinstance(images, Packed):
            levels = np.unpackbits(images.bits[taken], axis=1, count=row_bytes, bitorder="little")
        else:
            levels = np.asarray(images[taken])
        if white is not None:
            levels = (levels != 0) * np.uint8(np.rint(white * 255))
        digest.update(levels.tobytes())
    if labels_NxL is not None:
        digest.update(labels_NxL.astype("<f8").tobytes())
    return digest.hexdigest()[:16]


def _checked_labels(num_images: int, label_names: Sequence[str], labels_NxL: npt.ArrayLike) -> np.ndarray:
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


def _image_shape(images: Images) -> tuple[int, int, int]:
    _, height, width, channels = images.shape
    return height, width, channels


def _resolve_likelihood(likelihood: str) -> str:
    """'auto' is 'bernoulli', the convention of the field also for colours."""
    return "bernoulli" if likelihood == "auto" else likelihood


def grid_source(
    images: Images,
    names: Sequence[str],
    sizes: Sequence[int],
    *,
    likelihood: str = "auto",
    storage: str = "auto",
    repeats: int = 1,
    order: npt.NDArray[np.integer] | None = None,
) -> Source:
    """A set of every combination of its factors.

    Args:
      images: as for `deft_jax.data.pixels.gather`, in the order of deft_jax.data.factors, last
        factor fastest; image r of combination i has the number i * repeats + r.
      names, sizes: F factor names and their numbers of values.
      likelihood: 'bernoulli', 'gaussian', or 'auto', which is 'bernoulli'.
      storage: as for `deft_jax.data.pixels.gather`.
      repeats: number of images of each combination. One of them is drawn uniformly, for image i of a batch by
        fold_in(key, i).
      order: int [N], the place in `images` of the image with each number; None if they are in order.

    Returns:
      Source, its images float32 [N, H, W, C] in [0, 1], any number of channels C, and its digest, which does not depend
      on `storage`, nor on whether the images are in order or `order` is given.

    Raises:
      ValueError: an argument is unknown, or the images are not prod(sizes) * repeats.

    Example:
      >>> images = np.arange(6, dtype=np.uint8).repeat(16).reshape(6, 4, 4, 1)
      >>> source = grid_source(images, ("shape", "hue"), (2, 3))
      >>> drawn = source.render(source.arrays, np.array([[0, 0], [1, 2]]), jax.random.key(0))
      >>> (255 * drawn[:, 0, 0, 0]).tolist()
      [0.0, 5.0]
    """
    check_choices(storage, likelihood)
    names, sizes = tuple(names), tuple(int(size) for size in sizes)
    if repeats < 1 or len(images) != math.prod(sizes) * repeats:
        raise ValueError(f"{len(images)} images for factor sizes {sizes}, {repeats} images each; "
                         f"they must be {math.prod(sizes) * repeats}")
    pixels.check_images(images)
    white = pixels.white_level(images)
    arrays, look_up = pixels.gather_checked(images, storage, white)
    digest = _digest(images, white, [list(names), list(sizes), repeats], order=order)
    if order is not None:
        arrays = arrays | {"order": jnp.asarray(order, jnp.int32)}

    def render(arrays: Any, factors_NxF: jax.Array, key: jax.Array) -> jax.Array:
        index_N = factors.to_index(factors_NxF, sizes)
        if repeats > 1:
            keys_N = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(index_N)))
            index_N = index_N * repeats + jax.vmap(lambda k: jax.random.randint(k, (), 0, repeats))(keys_N)
        return look_up(arrays, arrays["order"][index_N] if "order" in arrays else index_N)

    return Source(names, sizes, _image_shape(images), _resolve_likelihood(likelihood), arrays, render, digest=digest)


def listed_source(
    images: Images,
    label_names: Sequence[str] = (),
    labels_NxL: npt.ArrayLike | None = None,
    *,
    continuous: Sequence[bool] = (),
    likelihood: str = "auto",
    storage: str = "auto",
    remarks: Sequence[str] = (),
) -> Source:
    """A set of images that are not every combination of their factors, or have no labels.

    Args:
      images, likelihood, storage: as for `grid_source`.
      label_names: L names; () for images without labels.
      labels_NxL: integers from 0 up, [N, L], and real numbers where continuous; None where L is 0.
      continuous: L booleans, whether a label is a continuous number; () if none is.
      remarks: sentences for Source.remarks.

    Returns:
      Source with the one factor 'image', the number of the image, and with labels: int32, or float64 if one of them is
      continuous. Its digest does not depend on `storage`.

    Raises:
      ValueError: an argument is unknown, the labels do not fit the images, or are not integers from 0 up where they
        are not continuous.

    Example:
      >>> source = listed_source(np.zeros((3, 4, 4, 1), np.uint8), ("digit",), [[7], [1], [7]])
      >>> source.is_grid, source.factor_names, source.ground_truth_names
      (False, ('image',), ('digit',))
      >>> source.ground_truth([[0], [1]]).tolist()
      [[7], [1]]
    """
    check_choices(storage, likelihood)
    label_names = tuple(label_names)
    if labels_NxL is None:
        labels_NxL = np.zeros((len(images), 0), np.int32)
    labels_NxL = _checked_labels(len(images), label_names, labels_NxL)
    is_continuous = tuple(bool(entry) for entry in continuous)
    if any(is_continuous):
        labels_NxL = labels_NxL.astype(np.float64)
    classes = labels_NxL[:, [not entry for entry in is_continuous]] if is_continuous else labels_NxL
    whole = np.all(classes == np.floor(classes)) if any(is_continuous) else classes.dtype.kind != "f"
    if classes.size and (not whole or np.min(classes) < 0):
        raise ValueError(f"labels must be integers from 0 up, got {classes.dtype} from {np.min(classes)}")
    if not any(is_continuous):
        labels_NxL, is_continuous = labels_NxL.astype(np.int32), ()
    pixels.check_images(images)
    white = pixels.white_level(images)
    arrays, look_up = pixels.gather_checked(images, storage, white)

    def render(arrays: Any, factors_NxF: jax.Array, key: jax.Array) -> jax.Array:
        del key
        return look_up(arrays, factors_NxF[:, 0])

    return Source(
        factor_names=("image",),
        factor_sizes=(len(images),),
        image_shape=_image_shape(images),
        likelihood=_resolve_likelihood(likelihood),
        arrays=arrays,
        render=render,
        label_names=label_names,
        labels=labels_NxL,
        label_continuous=is_continuous,
        digest=_digest(images, white, [list(label_names), list(is_continuous)], labels_NxL),
        remarks=tuple(remarks),
    )


def from_labels(
    images: Images,
    label_names: Sequence[str],
    labels_NxL: npt.ArrayLike,
    *,
    likelihood: str = "auto",
    storage: str = "auto",
    remarks: Sequence[str] = (),
) -> Source:
    """A grid if the images have every combination of two labels or more, each equally often; else a list.

    A set with one label column is a grid only where each value has exactly one image and is a class. Several images of
    a class differ in more than their class, so that a set of balanced classes is a list of labelled images, not a grid
    of one factor; a grid of two factors or more may repeat its combinations.

    Args:
      images, likelihood, storage: as for `grid_source`.
      label_names: L names.
      labels_NxL: numbers [N, L]. A column with one value is left out. The distinct values of a column become classes
        0, 1, ... in ascending order; only in a list, columns that deft_jax.data.labels.continuous_columns recognises
        remain numbers, as continuous labels.
      remarks: sentences for Source.remarks; one about the columns left out is added.

    Returns:
      Source as from `grid_source`, or as from `listed_source`.

    Raises:
      ValueError: an argument is unknown, or the labels do not fit the images or are not finite numbers.

    Example:
      >>> images, corners = np.zeros((4, 8, 8, 1), np.uint8), np.array([[0.1, -1], [0.1, 1], [0.3, -1], [0.3, 1]])
      >>> from_labels(images, ("scale", "side"), corners).factor_sizes
      (2, 2)
      >>> from_labels(images[:3], ("scale", "side"), corners[:3]).labels.tolist()
      [[0, 0], [0, 1], [1, 0]]
    """
    labels_NxL = _checked_labels(len(images), label_names, labels_NxL)
    varies = np.array([len(column) > 0 and np.any(column != column[0]) for column in labels_NxL.T], bool)
    constant = [name for name, is_used in zip(label_names, varies, strict=True) if not is_used]
    if constant:
        remarks = (*remarks, f"factors left out, as they have one value: {', '.join(constant)}")
    names = [name for name, is_used in zip(label_names, varies, strict=True) if is_used]
    labels_NxL = labels_NxL[:, varies]
    continuous = labels.continuous_columns(labels_NxL)
    sizes, classes_NxL = _classes(labels_NxL)
    grid = _grid_order(sizes, classes_NxL, has_continuous=bool(continuous.any()))
    if grid is not None:
        repeats, order = grid
        source = grid_source(images, names, sizes, likelihood=likelihood, storage=storage, repeats=repeats, order=order)
        return dataclasses.replace(source, remarks=tuple(remarks))
    return listed_source(
        images,
        names,
        np.where(continuous, labels_NxL, classes_NxL) if continuous.any() else classes_NxL,
        continuous=continuous.tolist(),
        likelihood=likelihood,
        storage=storage,
        remarks=remarks,
    )


def _classes(labels_NxL: np.ndarray) -> tuple[tuple[int, ...], npt.NDArray[np.int32]]:
    """Numbers the distinct values of each column in ascending order: (how many there are, int32 [N, L])."""
    classes_NxL, sizes = np.zeros(labels_NxL.shape, np.int32), []
    for place, column in enumerate(labels_NxL.T):
        values, classes_NxL[:, place] = np.unique(column, return_inverse=True)
        sizes.append(len(values))
    return tuple(sizes), classes_NxL


def _grid_order(
    sizes: tuple[int, ...], classes_NxL: npt.NDArray[np.int32], has_continuous: bool
) -> tuple[int, npt.NDArray[np.integer] | None] | None:
    """(repeats, order) for `grid_source` where the rows are a grid in the sense of `from_labels`, else None."""
    count = len(classes_NxL)
    repeats, left_over = divmod(count, math.prod(sizes))
    is_numbering = len(sizes) == 1 and repeats == 1 and not has_continuous
    if not (len(sizes) > 1 or is_numbering) or not repeats or left_over:
        return None
    index_N = np.ravel_multi_index(tuple(classes_NxL.T), sizes)
    order = np.argsort(index_N, kind="stable")
    if not np.array_equal(index_N[order], np.arange(count) // repeats):
        return None
    return repeats, None if np.array_equal(order, np.arange(count)) else order
