"""The experiment: everything that a training step is compiled from."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import optax

from deft_jax.data.source import Source
from deft_jax.models.networks import Model
from deft_jax.models.posterior import Posterior
from deft_jax.objectives.base import Objective
from deft_jax.training.schedules import Stages
from deft_jax.training.supervision import Labelled


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
    """Everything that is fixed during a run.

    Attributes:
      source: the data set, or its description where no images are drawn.
      model: encoders and decoder.
      objective: the training objective.
      stages: the schedule of beta, and the steps at which groups open.
      optimizer: stage -> optax transformation; the state has the same structure for every stage.
      batch_size: images per step, shared by all devices.
      seed: of all random numbers of the run.
      part_size: images that a device takes at a time within a step, at most, where the objective treats each example
        alone and no labels are trained on; None: its whole share of the batch.
      labelled: images whose labels are trained on as well; None if there are none.
    """

    source: Source
    model: Model
    objective: Objective
    stages: Stages
    optimizer: Callable[[int], optax.GradientTransformation]
    batch_size: int
    seed: int
    part_size: int | None = None
    labelled: Labelled | None = None

    def encode(self, params: Any, images: jax.Array, stage: int) -> Posterior:
        """The representation of images [B, H, W, C] that is scored and shown, with the groups up to `stage` open."""
        return self.objective.represent(params["objective"], self.model.encode(params, images, stage))
