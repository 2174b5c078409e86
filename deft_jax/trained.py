"""A trained model from its workdir: encode, decode, config and source."""

import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from deft_jax import evaluation, loop, options
from deft_jax.checkpoint import Checkpoints
from deft_jax.jax_settings import pinned
from deft_jax.logs import read_object, read_records
from deft_jax.models import Model
from deft_jax.source import Source
from deft_jax.state import Posterior
from deft_jax.steps import state_shapes

_CHUNK = 200  # images at a time


class Trained:
    """A model as a checkpoint left it.

    Attributes:
      workdir: where it comes from. config: the configuration of its run, a dict.
      source: its data set. model, params: the modules and their parameters.
      reach: traversals set a latent to values from -reach to reach.
      step: updates done. stage: index of the stage that the checkpoint was taken in.
      records: the lines of metrics.jsonl up to that step.
    """

    def __init__(self, workdir: pathlib.Path, config: Mapping, built, state, records):
        self.workdir, self.config, self.records = workdir, config, records
        self.experiment = built
        self.source: Source = built.source
        self.model: Model = built.model
        self.reach: float = built.objective.reach
        self.stages, self.params = built.stages, state.params
        self.step, self.stage = int(state.step), int(state.stage)
        self._encode = jax.jit(lambda params, images: built.encode(params, images, self.stage))
        self._decode = jax.jit(lambda params, z: evaluation.to_images(self.source, self.model.decode(params, z)))
        self._encode_factors = evaluation.Encoder(built)

    @pinned()
    def encode(self, images: np.ndarray) -> Posterior:
        """The representation of images [N, H, W, C] in [0, 1], a posterior: mean and logvar, numpy [N, D].

        Raises ValueError where the shape of an image is not that of the source.
        """
        images = np.asarray(images, np.float32)
        if images.ndim != 4 or images.shape[1:] != tuple(self.source.image_shape):
            raise ValueError(f"images must be [N, {', '.join(map(str, self.source.image_shape))}], got {images.shape}")
        return _in_chunks(self._encode, self.params, images)

    @pinned()
    def encode_factors(self, factors_NxF: np.ndarray) -> Posterior:
        """Posterior of the source's images of these factors, integers [N, F]: mean and logvar, numpy [N, D]."""
        return self._encode_factors(self.params, np.asarray(factors_NxF, np.int32), self.stage)

    @pinned()
    def decode(self, z: np.ndarray) -> np.ndarray:
        """Images [N, H, W, C] in [0, 1] of codes [N, D]. Raises ValueError where D is not that of the model."""
        z = np.asarray(z, np.float32)
        if z.ndim != 2 or z.shape[1] != self.model.num_latents:
            raise ValueError(f"codes must be [N, {self.model.num_latents}], got {z.shape}")
        return _in_chunks(self._decode, self.params, z)


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
def load(workdir: str | pathlib.Path, step: int | None = None) -> Trained:
    """The model of a workdir of training, finished or interrupted, at its newest checkpoint unless `step` is told.

    Raises ValueError in one line where there is no run, no checkpoint, or none of this step.
    """
    workdir, config = pathlib.Path(workdir), read_config(workdir)
    if not (workdir / "checkpoints").is_dir():
        raise ValueError(f"{workdir} has no checkpoint yet; run its training until the first is written")
    built = loop.build(config)
    options.check_section("checkpoints", config["checkpoints"])
    options.check_count("checkpoints.keep", config["checkpoints"].get("keep"))
    checkpoints = Checkpoints(workdir / "checkpoints", keep=config["checkpoints"]["keep"])
    try:
        if checkpoints.latest is None:
            raise ValueError(f"{workdir} has no checkpoint yet; run its training until the first is written")
        state = checkpoints.restore(state_shapes(built), step)
    finally:
        checkpoints.close()
    records = [record for record in read_records(workdir / "metrics.jsonl") if record["step"] <= int(state.step)]
    return Trained(workdir, config, built, state, records)
