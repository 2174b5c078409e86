"""A trained model from its workdir: encode, decode, config and source."""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from deft_jax import data
from deft_jax.data.description import SourceDescription, check_unchanged, describe, read_description
from deft_jax.data.source import Source
from deft_jax.evaluation import encoder, scores
from deft_jax.models import likelihoods
from deft_jax.models.networks import Model
from deft_jax.models.posterior import Posterior
from deft_jax.runtime.files import read_object
from deft_jax.runtime.jax_settings import pinned
from deft_jax.runtime.paths import local_path
from deft_jax.training import build
from deft_jax.training.checkpoint import Checkpoints
from deft_jax.training.config import TrainingConfig, parse_training
from deft_jax.training.experiment import Experiment
from deft_jax.training.metrics_log import read_records
from deft_jax.training.step import state_shapes

_CHUNK = 200  # images at a time


class TrainedModel:
    """A model as a checkpoint left it.

    It encodes and decodes without the data set, of which it knows what the run has kept; the data set itself is opened
    when it is first needed, for `source` and `encode_factors`.

    Attributes:
      workdir: where it comes from. config: the configuration of its run, a TrainingConfig.
      description: what the run has kept of its data set: names, sizes, shape, likelihood.
      model, params: the modules and their parameters.
      traversal_range: traversals set a latent to values from -traversal_range to traversal_range.
      step: updates done. stage: index of the stage that the checkpoint was taken in.
      records: the lines of metrics.jsonl up to that step.
    """

    def __init__(self, workdir: pathlib.Path, config: TrainingConfig, built: Experiment, state, records):
        self.workdir, self.config, self.records = workdir, config, records
        self.experiment = built
        self.description: SourceDescription = describe(built.source)
        self.model: Model = built.model
        self.traversal_range: float = built.objective.traversal_range
        self.stages, self.params = built.stages, state.params
        self.step, self.stage = int(state.step), int(state.stage)
        likelihood = self.description.likelihood
        self._encode = jax.jit(lambda params, images: built.encode(params, images, self.stage))
        self._decode = jax.jit(lambda params, z: likelihoods.to_images(likelihood, self.model.decode(params, z)))

    @functools.cached_property
    def source(self) -> Source:
        """The data set itself, opened now. Raises ValueError where it is gone, or its images are others than those of
        the run."""
        if isinstance(self.experiment.source, Source):
            return self.experiment.source
        try:
            source = data.get(self.config.data.name, only=self.config.data.only, **self.config.data.options)
        except ValueError as error:
            raise ValueError(f"the images that the run in {self.workdir} was trained on cannot be opened: {error}; "
                             "encoding and decoding images of your own needs none of them") from None
        check_unchanged(source, self.workdir)
        return source

    @functools.cached_property
    def experiment_with_source(self) -> Experiment:
        """The experiment on the data set itself. Raises ValueError as `source` does."""
        return dataclasses.replace(self.experiment, source=self.source)

    @functools.cached_property
    def _encode_factors(self) -> encoder.Encoder:
        return encoder.Encoder(self.experiment_with_source.source, self.experiment_with_source.encode)

    @pinned()
    def encode(self, images: np.ndarray) -> Posterior:
        """The representation of images, a posterior: mean and logvar, numpy [N, D].

        Args:
          images: [N, H, W, C]: floats in [0, 1], or bool, or uint8, where 255 is white; 1 is white where all pixels
            are 0 or 1, as in the archives of dSprites. N may be 0.

        Raises:
          ValueError: the shape, the type or a value does not fit; one line says which.
        """
        images = _checked_images(images, self.description.image_shape)
        if not len(images):
            return Posterior(*(np.zeros((0, self.model.num_latents), np.float32) for _ in range(2)))
        return _in_chunks(self._encode, self.params, images)

    @pinned()
    def encode_factors(self, factors_NxF: np.ndarray) -> Posterior:
        """Posterior of the data set's images of these factors: mean and logvar, numpy [N, D].

        Args:
          factors_NxF: whole numbers [N, F], factor j from 0 to factor_sizes[j] - 1. For a set that is a list of images,
            with labels or without, [N, 1]: the numbers of the images.

        Raises:
          ValueError: shape, type or a value does not fit, or the data set is gone; one line says which.
        """
        factors_NxF = scores.check_factors(factors_NxF, self.description)
        if not len(factors_NxF):
            return Posterior(*(np.zeros((0, self.model.num_latents), np.float32) for _ in range(2)))
        return self._encode_factors(self.params, factors_NxF, self.stage)

    @pinned()
    def decode(self, z: np.ndarray) -> np.ndarray:
        """Images [N, H, W, C] in [0, 1] of codes [N, D]. Raises ValueError where codes do not fit or are not finite."""
        z = np.asarray(z)
        if z.ndim != 2 or z.shape[1] != self.model.num_latents:
            raise ValueError(f"codes must be [N, {self.model.num_latents}], got {z.shape}")
        if z.dtype.kind not in "fiub" or not np.isfinite(z).all():
            raise ValueError(f"codes must be finite real numbers, got dtype {z.dtype}{scores.first_not_finite(z)}")
        if not len(z):
            return np.zeros((0, *self.description.image_shape), np.float32)
        return _in_chunks(self._decode, self.params, z.astype(np.float32))


def _checked_images(images, shape) -> np.ndarray:
    """Images [N, *shape] as float32 in [0, 1]."""
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[1:] != tuple(shape):
        raise ValueError(f"images must be [N, {', '.join(map(str, shape))}], got {images.shape}")
    if images.dtype == np.uint8:
        white = 1 if images.max(initial=0) <= 1 else 255
        return images.astype(np.float32) / np.float32(white)
    if images.dtype != bool and images.dtype.kind != "f":
        raise ValueError(f"images must be floats in [0, 1], uint8 or bool, got dtype {images.dtype}")
    images = images.astype(np.float32)
    # Written so that NaN fails.
    if images.size and not (images.min() >= -1e-6 and images.max() <= 1 + 1e-6):
        raise ValueError(f"images must be floats in [0, 1], or uint8, got values from {images.min():g} to "
                         f"{images.max():g}")
    return np.clip(images, 0, 1)


def _in_chunks(function, params, values):
    """function(params, values) on chunks of one shape, so that one program serves any N."""
    parts = []
    for start in range(0, len(values), _CHUNK):
        chunk = values[start : start + _CHUNK]
        padded = np.resize(chunk, (min(_CHUNK, len(values)), *chunk.shape[1:]))
        parts.append(jax.tree.map(lambda leaf: np.asarray(leaf)[: len(chunk)], function(params, jnp.asarray(padded))))  # noqa: B023
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def read_config(workdir: str | pathlib.Path) -> dict:
    """The configuration of a workdir of training; raises ValueError in one line where there is none."""
    if not str(workdir):
        raise ValueError("--workdir is empty; give the --workdir of a training")
    config = read_object(pathlib.Path(workdir) / "config.json")
    if config is None:
        raise ValueError(f"{workdir} holds no run: it has no config.json; give the --workdir of a training")
    if "stages" not in config:
        raise ValueError(f"{workdir} is not the workdir of a training: its config.json has no stages")
    return config


@pinned()
def load(workdir: str | pathlib.Path, step: int | None = None) -> TrainedModel:
    """The model of a workdir of training, finished or interrupted, at its newest checkpoint unless `step` is told.

    Raises ValueError in one line where there is no run, no checkpoint, or none of this step.
    """
    workdir = local_path(workdir, "--workdir")
    config = read_config(workdir)
    if not (workdir / "checkpoints").is_dir():
        raise ValueError(f"{workdir} has no checkpoint yet; run its training until the first is written")
    config = parse_training(config)
    built = build.build(config, source=read_description(workdir))
    checkpoints = Checkpoints(workdir / "checkpoints", keep=config.checkpoints.keep)
    try:
        if checkpoints.latest is None:
            raise ValueError(f"{workdir} has no checkpoint yet; run its training until the first is written")
        state = checkpoints.restore(state_shapes(built), step)
    finally:
        checkpoints.close()
    records = [record for record in read_records(workdir / "metrics.jsonl") if record["step"] <= int(state.step)]
    return TrainedModel(workdir, config, built, state, records)
