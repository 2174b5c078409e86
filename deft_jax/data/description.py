"""The part of a data set that a run stores: enough to encode, decode and draw without it, and to detect a change.

A workdir holds source.json, a SourceDescription, and sample.npz, a few images with their ground truth.
"""

import dataclasses
import io
import json
import math
import pathlib
from typing import Any

import numpy as np

from deft_jax.data.features import Features, from_json
from deft_jax.data.source import Source
from deft_jax.runtime.files import read_object, to_jsonable, write_atomically
from deft_jax.runtime.messages import short_repr

SAMPLE = 256  # most images stored with a run


@dataclasses.dataclass(frozen=True)
class SourceDescription:
    """A data set without its images. Fields are those of deft_jax.data.source.Source.

    Attributes:
      num_images: number of images of the set.
      is_grid: whether they are all combinations of the factors.
    """

    factor_names: tuple[str, ...]
    factor_sizes: tuple[int, ...]
    image_shape: tuple[int, int, int]
    likelihood: str
    num_images: int
    is_grid: bool
    ground_truth_names: tuple[str, ...]
    ground_truth_continuous: tuple[bool, ...]
    digest: str
    remarks: tuple[str, ...]
    layout: str = "image"
    features: Features | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """Images that are stored with a run.

    Attributes:
      images: float32 [N, H, W, C] in [0, 1], rounded to multiples of 1/255; vectors [N, F] or series [N, T, C] are in
        their own units.
      ground_truth: numbers [N, L].
    """

    images: np.ndarray
    ground_truth: np.ndarray


def describe(source: Source | SourceDescription) -> SourceDescription:
    """The description of a data set.

    Example:
      >>> from deft_jax import data
      >>> description = describe(data.get("translation"))
      >>> description.num_images, description.is_grid, description.ground_truth_names
      (484, True, ('posX', 'posY'))
    """
    if isinstance(source, SourceDescription):
        return source
    names = [field.name for field in dataclasses.fields(SourceDescription)]
    values: dict[str, Any] = {name: getattr(source, name) for name in names}
    return SourceDescription(**{name: _as_tuple(value) for name, value in values.items()})


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value


def read_description(workdir: pathlib.Path) -> SourceDescription | None:
    """Reads source.json of a workdir.

    Returns:
      The description; None where the file is missing.

    Raises:
      ValueError: the file is damaged.
    """
    fields = read_object(workdir / "source.json")
    if fields is None:
        return None
    try:
        fields = dict(fields) | {"features": from_json(fields.get("features"))}
        return SourceDescription(**{name: _as_tuple(value) for name, value in fields.items()})
    except (TypeError, AttributeError) as error:
        raise ValueError(f"cannot read {workdir / 'source.json'}: {error}") from None


def read_sample(workdir: pathlib.Path) -> Sample | None:
    """Reads sample.npz of a workdir.

    Returns:
      The images; None where the file is missing.

    Raises:
      ValueError: the file is damaged.
    """
    path = workdir / "sample.npz"
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images = arrays["images"]
            if images.dtype == np.uint8:
                images = images.astype(np.float32) / np.float32(255)
            return Sample(images, arrays["ground_truth"])
    except Exception as error:  # zipfile, zlib and numpy report damage in many ways
        raise ValueError(f"cannot read {path}: {short_repr(error)}") from None


def check_unchanged(source: Source, workdir: pathlib.Path) -> None:
    """Checks that a workdir has a run on the images of this data set, or none.

    Raises:
      ValueError: its run has other images.
    """
    stored = read_description(workdir)
    if stored is None:
        return
    way_out = "bring them back, or choose another workdir"
    if stored.num_images != source.num_images:
        raise ValueError(f"{workdir} holds a run on {stored.num_images} images, and data has {source.num_images} now; "
                         f"{way_out}")
    if stored.digest and source.digest and stored.digest != source.digest:
        raise ValueError(f"{workdir} holds a run on other images than those that data names now (digest "
                         f"{stored.digest} there, {source.digest} here); {way_out}")


def same_images(source: Source, workdir: pathlib.Path) -> bool:
    """Whether the images of a set read from files are those of the run in this workdir, wherever the files are now."""
    stored = read_description(workdir)
    return stored is not None and bool(stored.digest) and stored.digest == source.digest


def keep(source: Source, workdir: pathlib.Path, factors_NxF: np.ndarray) -> None:
    """Writes source.json and sample.npz into a workdir.

    Args:
      source: the data set of the run.
      workdir: of the run.
      factors_NxF: int32 [N, F], of images in a random order; at most the first SAMPLE are stored.

    Raises:
      CannotWrite: on a full disk.
    """
    import jax

    described = to_jsonable(dataclasses.asdict(describe(source)))
    if read_object(workdir / "source.json") != described:
        write_atomically(workdir / "source.json", json.dumps(described, indent=2) + "\n")
    if (workdir / "sample.npz").exists():
        return
    some = factors_NxF[: min(SAMPLE, max(1, 2**24 // math.prod(source.image_shape)))]
    images = np.asarray(jax.jit(source.render)(source.arrays, some, jax.random.key(0)))
    if source.features is not None:
        images = source.features.restore(images)
    else:
        images = np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=images, ground_truth=source.ground_truth(some))
    write_atomically(workdir / "sample.npz", buffer.getvalue())
