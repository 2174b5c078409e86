"""The experiment: all that a training step is compiled from."""

import dataclasses
from collections.abc import Callable

import optax

from deft_jax.data.source import Source
from deft_jax.models.networks import Model
from deft_jax.models.posterior import Posterior
from deft_jax.objectives.base import Objective
from deft_jax.training.schedules import Stages


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
    """What a step is compiled from: all that is fixed during a run.

    optimizer: stage -> optax transformation; the state has the same structure for every stage.
    """

    source: Source
    model: Model
    objective: Objective
    stages: Stages
    optimizer: Callable[[int], optax.GradientTransformation]
    batch_size: int
    seed: int

    def encode(self, params, images, stage: int) -> Posterior:
        """The representation of images [B, H, W, C] with the groups up to `stage` open: what is scored and shown."""
        return self.objective.represent(params["objective"], self.model.encode(params, images, stage))
