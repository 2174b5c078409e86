"""Codes of images that need not be those of the data set."""

import io
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

from deft_jax.data import archive, folder, vectors
from deft_jax.evaluation.encoder import Encoder
from deft_jax.models.posterior import Posterior
from deft_jax.runtime.files import write_atomically
from deft_jax.training.restore import TrainedModel

_ARCHIVES = (".npz", ".h5", ".hdf5")


class Codes(NamedTuple):
    """Codes of N images.

    Attributes:
      posterior: mean and logvar, numpy [N, D].
      files: paths of the pictures within their folder, N; () of an archive.
      stage: of the checkpoint; groups after it are closed.
      group_sizes: latents of each group.
    """

    posterior: Posterior
    files: tuple[str, ...]
    stage: int
    group_sizes: tuple[int, ...]


def encode_images(model: TrainedModel, path: str | os.PathLike[str], crop: int | None = None) -> Codes:
    """Encodes pictures in a folder, or images, vectors or series in a file.

    Args:
      model: a trained model.
      path: a folder, which is read as deft_jax.data.folder reads it, or a file as for deft_jax.data.archive; of vectors
        and series, a file as for deft_jax.data.vectors, in the units of the data.
      crop: of pictures; see deft_jax.data.folder. Default: None, what the model was trained with, if it was trained on
        a folder.

    Raises:
      ValueError: the images cannot be read, or do not fit the model.
    """
    height, width, channels = model.description.image_shape
    is_archive = pathlib.Path(path).suffix.lower() in _ARCHIVES
    if is_archive and crop is not None:
        raise ValueError("--crop is for pictures in a folder; images in a file are taken as they are")
    files: tuple[str, ...] = ()
    if model.description.features is not None:
        values = vectors.read_values(path, model.description.image_shape, model.description.features)
        return Codes(model.encode(values), files, model.stage, tuple(model.model.sizes))
    if is_archive:
        source = archive.archive(path, factors=archive.NO_FACTORS)
        if source.image_shape != (height, width, channels):
            raise ValueError(f"the model takes images of {height} x {width} x {channels}, and those in {str(path)!r} "
                             f"are {' x '.join(map(str, source.image_shape))}")
    else:
        trained = model.config.data.options if model.config.data.name == "folder" else {}
        options = {name: trained[name] for name in ("crop", "fit", "background") if trained.get(name) is not None}
        if crop is not None:
            options["crop"] = crop
        source = folder.folder(path, size=height, width=width, channels=channels, **options)
        files = folder.names(path)
    index_Nx1 = np.arange(source.num_images)[:, None]
    posterior = Encoder(source, model.experiment.encode)(model.params, index_Nx1, model.stage)
    return Codes(posterior, files, model.stage, tuple(model.model.sizes))


def write_codes(path: pathlib.Path, codes: Codes) -> None:
    """Writes codes as an .npz without pickled objects, atomically.

    Raises:
      CannotWrite: the file could not be written.
    """
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {
        "mean": codes.posterior.mean,
        "logvar": codes.posterior.logvar,
        "stage": np.int32(codes.stage),
        "latents_per_group": np.array(codes.group_sizes, np.int32),
    }
    if codes.files:
        arrays["files"] = np.array(codes.files)
    np.savez(buffer, **arrays)
    write_atomically(path, buffer.getvalue(), several_writers=True)
