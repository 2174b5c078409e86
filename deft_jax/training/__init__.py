"""From a configuration to a trained model: build, step, loop, checkpoints, and how a workdir is written and read."""

from deft_jax.training.export import export
from deft_jax.training.restore import TrainedModel, load
from deft_jax.training.session import run, run_together
from deft_jax.training.state import TrainState

__all__ = ["TrainState", "TrainedModel", "export", "load", "run", "run_together"]
