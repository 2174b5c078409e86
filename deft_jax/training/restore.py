"""A trained model from its workdir: encode, decode, config and source."""

import contextlib
import dataclasses
import functools
import pathlib
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

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
from deft_jax.runtime import pretrained
from deft_jax.runtime.files import read_object
from deft_jax.runtime.jax_settings import pinned
from deft_jax.training import build
from deft_jax.training.checkpoint import Checkpoints
from deft_jax.training.config import TrainingConfig, parse_training
from deft_jax.training.experiment import Experiment
from deft_jax.training.metrics_log import read_records
from deft_jax.training.state import TrainState
from deft_jax.training.step import state_shapes
from deft_jax.training.weights_file import is_exported, read_weights

Output = TypeVar("Output")

_CHUNK = 200  # images per call of a compiled function


class TrainedModel:
    """A model as a checkpoint has saved it.

    It encodes and decodes without the data set, of which it uses the description in the workdir; the data set itself is
    opened at the first use of `source` or `encode_factors`.

    Attributes:
      workdir: of its run.
      config: of its run.
      records: the lines of metrics.jsonl up to its step.
      experiment: of its run; its source is the description of the data set.
      description: of the data set: names, sizes, shape, likelihood.
      model: encoders and decoder.
      params: parameters of `model` and of the objective.
      stages: the schedule of beta, and the stages.
      traversal_range: traversals set a latent to values from -traversal_range to traversal_range.
      step: updates done.
      stage: index of the stage in which the checkpoint was saved.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        config: TrainingConfig,
        experiment: Experiment,
        state: TrainState,
        records: Sequence[dict[str, Any]],
    ):
        """See the attributes; state: as restored."""
        self.workdir, self.config, self.records = workdir, config, list(records)
        self.experiment = experiment
        self.description: SourceDescription = describe(experiment.source)
        self.model: Model = experiment.model
        self.traversal_range: float = experiment.objective.traversal_range
        self.stages, self.params = experiment.stages, state.params
        self.step, self.stage = int(state.step), int(state.stage)
        likelihood, clip = self.description.likelihood, self.description.features is None
        self._encode = jax.jit(lambda params, images: experiment.encode(params, images, self.stage))
        self._decode = jax.jit(lambda params, z: likelihoods.to_images(likelihood, self.model.decode(params, z), clip))

    @functools.cached_property
    def source(self) -> Source:
        """The data set, opened at the first use.

        Raises:
          ValueError: it cannot be opened, or its images are not those of the run.
        """
        if isinstance(self.experiment.source, Source):
            return self.experiment.source
        try:
            source = data.get(self.config.data.name, only=self.config.data.only, **self.config.data.options)
        except ValueError as error:
            raise ValueError(
                f"the images that the run in {self.workdir} was trained on cannot be opened: {error}; "
                "encode and decode work without them"
            ) from None
        check_unchanged(source, self.workdir)
        return source

    @functools.cached_property
    def experiment_with_source(self) -> Experiment:
        """The experiment on the data set. Raises ValueError as `source` does."""
        return dataclasses.replace(self.experiment, source=self.source)

    @functools.cached_property
    def _encode_factors(self) -> encoder.Encoder:
        return encoder.Encoder(self.experiment_with_source.source, self.experiment_with_source.encode)

    @pinned()
    def encode(self, images: np.ndarray) -> Posterior:
        """The posterior of images.

        Args:
          images: [N, H, W, C], N >= 0: floats in [0, 1], bool, or uint8. In uint8, 255 is white; if all pixels are 0
            or 1, as in the archive of dSprites, 1 is white. Of a model of vectors or series: real numbers [N, F] or
            [N, T, C] in the units of the data, which are normalised as those of the training were.

        Returns:
          The posterior: mean and logvar, numpy [N, D].

        Raises:
          ValueError: the shape, the type or a value is invalid.
        """
        features, shape = self.description.features, self.description.image_shape
        if features is None:
            images = _checked_images(images, shape)
        else:
            images = features.normalise(features.check(images, shape, features.plural))
        if not len(images):
            return self._no_posterior()
        return _in_chunks(self._encode, self.params, images)

    @pinned()
    def encode_factors(self, factors_NxF: np.ndarray) -> Posterior:
        """The posterior of the data set's images of these factors.

        Args:
          factors_NxF: whole numbers [N, F], factor j from 0 to factor_sizes[j] - 1. For a set that is a list of images,
            with labels or without, [N, 1]: the indices of the images.

        Returns:
          The posterior: mean and logvar, numpy [N, D].

        Raises:
          ValueError: the shape, the type or a value is invalid, or the data set cannot be opened.
        """
        factors_NxF = scores.check_factors(factors_NxF, self.description)
        if not len(factors_NxF):
            return self._no_posterior()
        return self._encode_factors(self.params, factors_NxF, self.stage)

    def _no_posterior(self) -> Posterior:
        empty = np.zeros((0, self.model.num_latents), np.float32)
        return Posterior(cast(jax.Array, empty), cast(jax.Array, empty))

    @pinned()
    def decode(self, z: np.ndarray) -> np.ndarray:
        """The images of codes.

        Args:
          z: codes [N, D], N >= 0, finite real numbers.

        Returns:
          Images [N, H, W, C] in [0, 1]; vectors [N, F] or series [N, T, C] in the units of the data.

        Raises:
          ValueError: the shape is wrong, or a code is not a finite real number.
        """
        z = np.asarray(z)
        if z.ndim != 2 or z.shape[1] != self.model.num_latents:
            raise ValueError(f"codes must be [N, {self.model.num_latents}], got {z.shape}")
        if z.dtype.kind not in "fiub" or not np.isfinite(z).all():
            raise ValueError(f"codes must be finite real numbers, got dtype {z.dtype}{scores.first_not_finite(z)}")
        if len(z):
            images = _in_chunks(self._decode, self.params, z.astype(np.float32))
        else:
            images = np.zeros((0, *self.description.image_shape), np.float32)
        return images if self.description.features is None else self.description.features.restore(images)


def _checked_images(images: Any, shape: Sequence[int]) -> np.ndarray:
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


def _in_chunks(function: Callable[[Any, jax.Array], Output], params: Any, values: np.ndarray) -> Output:
    """function(params, values) on chunks of one shape, so that one program serves any N."""

    def of_chunk(chunk: np.ndarray) -> Output:
        padded = np.resize(chunk, (min(_CHUNK, len(values)), *chunk.shape[1:]))
        return jax.tree.map(lambda leaf: np.asarray(leaf)[: len(chunk)], function(params, jnp.asarray(padded)))

    parts = [of_chunk(values[start : start + _CHUNK]) for start in range(0, len(values), _CHUNK)]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def read_config(workdir: str | pathlib.Path) -> dict[str, Any]:
    """The content of config.json in the workdir of a training.

    Raises:
      ValueError: there is none, or it is not that of a training.
    """
    if not str(workdir):
        raise ValueError("--workdir is empty; give the --workdir of a training")
    values = read_object(pathlib.Path(workdir) / "config.json")
    if values is None:
        raise ValueError(f"{workdir} holds no run: it has no config.json; give the --workdir of a training"
                         f"{pretrained.or_names()}")
    if "stages" not in values:
        raise ValueError(f"{workdir} is not the workdir of a training: its config.json has no stages")
    return values


@pinned()
def load(workdir: str | pathlib.Path, step: int | None = None) -> TrainedModel:
    """The model in the workdir of a training, finished or not, or one that comes with the package.

    Args:
      workdir: of the training, a folder or an address gs://... or s3://..., or an exported folder; nothing in it is
        changed. Or the name of a model that comes with the package (runtime/pretrained.py), where nothing of that name
        lies in the current folder.
      step: of the checkpoint. Default: None, the newest readable one.

    Raises:
      ValueError: there is no run or no such checkpoint, or it is damaged.
    """
    with contextlib.ExitStack() as copies:
        model = _load(copies.enter_context(pretrained.reading_copy(workdir, "--workdir")), step)
        # The data set of the run is compared with what the workdir has of it when it is opened.
        weakref.finalize(model, copies.pop_all().close)
    return model


def _load(workdir: pathlib.Path, step: int | None) -> TrainedModel:
    """`load` from a local folder."""
    values = read_config(workdir)
    if not (is_exported(workdir) or (workdir / "checkpoints").is_dir()):
        raise ValueError(_no_checkpoint(workdir))
    config = parse_training(values)
    experiment = build.build(config, source=read_description(workdir))
    like = state_shapes(experiment)
    if is_exported(workdir):
        state = read_weights(workdir, like, len(experiment.stages))
        if step not in (None, int(state.step)):
            raise ValueError(f"no step {step} in {workdir}: the exported model is that of step {state.step}")
    else:
        state = _restore(workdir, config.checkpoints.keep, like, step)
    records = [record for record in read_records(workdir / "metrics.jsonl") if record["step"] <= int(state.step)]
    return TrainedModel(workdir, config, experiment, state, records)


def _restore(workdir: pathlib.Path, keep: int, like: TrainState, step: int | None) -> TrainState:
    """The state of a checkpoint."""
    checkpoints = Checkpoints(workdir / "checkpoints", keep=keep)
    try:
        if checkpoints.latest is None:
            raise ValueError(_no_checkpoint(workdir))
        return checkpoints.restore(like, step)
    finally:
        checkpoints.close()


def _no_checkpoint(workdir: pathlib.Path) -> str:
    return f"{workdir} has no checkpoint yet; run its training until the first is written"
