"""Vectors and time series from an .npz or HDF5 file, and the sets of them that scikit-learn ships."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from deft_jax.data import archive, features, stored
from deft_jax.data.source import Source

VALUES = ("values", "vectors", "series", "features", "data", "x", "arr_0")
FEATURE_NAMES = ("feature_names", "channel_names")

Rule = Literal["standard", "common", "none"]
Constant = Literal["refuse", "keep"]


def vectors(
    path: str | os.PathLike,
    member: str | None = None,
    factors: str | None = None,
    names: Sequence[str] | None = None,
    normalise: Rule = "standard",
    constant: Constant = "refuse",
    storage: str = "auto",
) -> Source:
    """A set of vectors [N, F] or time series [N, T, C] from an .npz, .h5 or .hdf5 file, optionally with factors.

    Args:
      path: of the file. Nothing in it is unpickled.
      member: of the file, with the numbers: [N, F], one row per vector, or [N, T, C], T steps of C channels; [N, T, 1]
        of a series of one channel. Integers or finite floats. None takes the first member named as in VALUES. Names of
        features or channels are read from a member of strings `feature_names` or `channel_names`, if there is one.
      factors: member with the factors, as for deft_jax.data.archive; they are used for scores only. 'none' leaves them
        out.
      names: of the factors, as for deft_jax.data.archive.
      normalise: 'standard' subtracts the mean of each feature (of each channel over all steps) and divides by its
        standard deviation; 'common' divides all by one number, for features of one unit; 'none' changes nothing.
      constant: 'refuse' names features that have one value in all examples; 'keep' keeps them, as zeros.
      storage: as for deft_jax.data.pixels.gather.

    Returns:
      Source as from deft_jax.data.stored.from_labels, with the likelihood 'gaussian'; Source.features has the names and
      the normalisation, which the workdir of a run records in source.json.

    Raises:
      ValueError: the file cannot be read or lacks a member; the numbers are not [N, F] or [N, T, C], or not finite; a
        feature is constant; factors do not fit.

    Example:
      >>> import tempfile
      >>> rng = np.random.default_rng(0)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     np.savez(f"{folder}/set.npz", values=rng.normal(5, 2, (40, 3)), feature_names=["a", "b", "c"])
      ...     source = vectors(f"{folder}/set.npz")
      >>> source.layout, source.image_shape, source.likelihood, source.features.names
      ('vector', (1, 3, 1), 'gaussian', ('a', 'b', 'c'))
    """
    stored.check_choices(storage)
    with archive.reading(path, "give your .npz, .h5 or .hdf5 file of vectors by data.path") as (members, member_of):
        chosen = archive.chosen_member("member", member, VALUES, members, member_of)
        numbers = _numbers(chosen)
        feature_names = _feature_names(members, member_of, numbers.shape[-1])
        label_names, labels_NxL, remarks = archive.read_factors(members, member_of, factors, names, chosen, ())
    try:
        return from_values(
            numbers, label_names, labels_NxL, feature_names=feature_names, normalise=normalise, constant=constant,
            storage=storage, remarks=remarks,
        )  # fmt: skip
    except ValueError as error:
        raise ValueError(f"cannot use the vectors in {str(path)!r}: {error}") from error


def read_values(path: str | os.PathLike, shape: Sequence[int], like: features.Features) -> np.ndarray:
    """Vectors or series from a file, in their own units, that fit a data set.

    Args:
      path: of the file, as for `vectors`.
      shape: of one example of the set, (1, F, 1) or (1, T, C).
      like: of the set.

    Raises:
      ValueError: the file cannot be read, or what it has does not fit.
    """
    with archive.reading(path, "give an .npz, .h5 or .hdf5 file") as (members, member_of):
        chosen = archive.chosen_member("member", None, VALUES, members, member_of)
        return like.check(chosen.all(), shape, repr(chosen.name))


def from_values(
    values: np.ndarray,
    label_names: Sequence[str],
    labels_NxL: np.ndarray,
    *,
    feature_names: Sequence[str],
    normalise: Rule = "standard",
    constant: Constant = "refuse",
    storage: str = "auto",
    remarks: Sequence[str] = (),
) -> Source:
    """A set of vectors or series in memory.

    Args:
      values: numbers [N, F] or [N, T, C], N at least 2.
      label_names, labels_NxL: as for deft_jax.data.stored.from_labels.
      feature_names: F or C names.
      normalise, constant, storage: as for `vectors`.
      remarks: sentences for Source.remarks; one about the normalisation is added.

    Returns:
      Source as for `vectors`.

    Raises:
      ValueError: values are not finite, a feature is constant, or labels do not fit.
    """
    features.check_finite(values, feature_names, "values")
    fitted = features.fit(values, normalise, feature_names, keep_constant=constant == "keep")
    images = fitted.normalise(values)
    count = f"{len(feature_names)} {'features' if fitted.layout == 'vector' else 'channels'}"
    remarks = (*remarks, f"{fitted.plural} of {count}, {_RULES[normalise]}")
    source = stored.from_labels(
        images, label_names, labels_NxL, likelihood="gaussian", storage=storage, remarks=remarks
    )
    return dataclasses.replace(source, features=fitted, digest=_digest(values, normalise, label_names, labels_NxL))


def _digest(values: np.ndarray, rule: str, label_names: Sequence[str], labels_NxL: np.ndarray) -> str:
    """Identifies a set by its numbers before they are normalised: the mean of a set may differ in the last bit."""
    digest = hashlib.sha256(json.dumps([list(values.shape), rule, list(label_names)]).encode())
    for part in (values, labels_NxL):
        digest.update(np.ascontiguousarray(part, "<f8").tobytes())
    return digest.hexdigest()[:16]


_RULES = {
    "standard": "normalised to mean 0 and standard deviation 1 each",
    "common": "less the mean of each, divided by one common standard deviation",
    "none": "as they are, not normalised",
}


def _numbers(member: Any) -> np.ndarray:
    """The numbers of a member; raises ValueError where they are not [N, F] or [N, T, C]."""
    shape, dtype = member.shape, member.dtype
    if dtype.kind not in "biuf":
        raise ValueError(f"values {member.name!r} must be real numbers, got {dtype}")
    if len(shape) not in (2, 3) or min(shape) < 1 or shape[0] < 2:
        hint = ""
        if len(shape) == 4:
            hint = "; images are read by data.name=archive"
        elif len(shape) == 1:
            hint = "; a single feature is [N, 1]"
        raise ValueError(f"values {member.name!r} must be vectors [N, F] or series [N, T, C], at least 2 of them, got "
                         f"{list(shape)}{hint}")
    return member.all()


def _feature_names(members: Sequence[str], member_of: Any, count: int) -> tuple[str, ...]:
    """Names of features or channels: those in the file, or numbers."""
    for name in FEATURE_NAMES:
        if name in members:
            texts = member_of(name)
            if texts.dtype.kind not in "US" or texts.shape != (count,):
                raise ValueError(f"{name!r} must be {count} texts, one for each feature, got {texts.dtype} "
                                 f"{list(texts.shape)}")
            read = texts.all()
            return tuple(str(text) for text in (np.char.decode(read) if read.dtype.kind == "S" else read))
    return tuple(f"x{number}" for number in range(count))


def digits(
    layout: Literal["vector", "series", "image"] = "vector",
    normalise: Rule = "common",
    storage: str = "auto",
    likelihood: str = "auto",
) -> Source:
    """Handwritten digits as scikit-learn ships them (Alpaydin and Kaynak 1998): 1,797 images of 8 x 8, label 'digit'.

    Args:
      layout: 'vector', the 64 pixels; 'series', 8 rows from the top as steps of 8 channels; 'image', 8 x 8.
      normalise: of vectors and series, as for `vectors`; three pixels that are always 0 stay 0. Not for images.
      storage: as for deft_jax.data.pixels.gather.
      likelihood: of images, 'bernoulli', 'gaussian', or 'auto', which is 'bernoulli'; of the others 'gaussian'.

    Returns:
      Source, a list with the label 'digit'.

    Raises:
      ValueError: a choice is unknown, or the likelihood is not that of vectors.

    Example:
      >>> source = digits()
      >>> source.num_images, source.image_shape, source.ground_truth_names
      (1797, (1, 64, 1), ('digit',))
      >>> digits(layout="series").image_shape, digits(layout="image").image_shape
      ((1, 8, 8), (8, 8, 1))
    """
    from sklearn.datasets import load_digits

    stored.check_choices(storage, likelihood)
    if layout != "image" and likelihood == "bernoulli":
        raise ValueError(f"data.likelihood of data.layout={layout} must be 'gaussian' or 'auto', got 'bernoulli'")
    loaded = load_digits()
    levels_Nx8x8, digit_Nx1 = loaded.images, loaded.target[:, None]  # levels from 0 to 16
    if layout == "image":
        images = np.rint(levels_Nx8x8 * (255 / 16)).astype(np.uint8)[..., None]
        return stored.from_labels(images, ("digit",), digit_Nx1, likelihood=likelihood, storage=storage)
    if layout == "series":
        values, names = levels_Nx8x8, [f"column {column}" for column in range(8)]
    else:
        values = levels_Nx8x8.reshape(len(levels_Nx8x8), -1)
        names = [f"pixel {row},{column}" for row in range(8) for column in range(8)]
    return from_values(
        values, ("digit",), digit_Nx1, feature_names=names, normalise=normalise, constant="keep", storage=storage
    )


def breast_cancer(normalise: Rule = "standard", storage: str = "auto") -> Source:
    """Cell nuclei of 569 breast tumours as scikit-learn ships them (Street, Wolberg and Mangasarian 1993).

    Ten measurements (radius, texture, concavity, ...), each as mean, standard error and worst: vectors of 30, with the
    label 'diagnosis', 0 malignant and 1 benign.

    Args:
      normalise: as for `vectors`.
      storage: as for deft_jax.data.pixels.gather.

    Returns:
      Source, a list with the label 'diagnosis'.

    Raises:
      ValueError: a choice is unknown.

    Example:
      >>> source = breast_cancer()
      >>> source.num_images, source.image_shape, source.features.names[:2]
      (569, (1, 30, 1), ('mean radius', 'mean texture'))
    """
    from sklearn.datasets import load_breast_cancer

    stored.check_choices(storage)
    loaded = load_breast_cancer()
    names = [str(name) for name in loaded.feature_names]
    return from_values(
        loaded.data, ("diagnosis",), loaded.target[:, None], feature_names=names, normalise=normalise, storage=storage
    )
