"""Training objectives: pure functions that the training step calls."""

from deft_jax.objectives.base import Objective
from deft_jax.objectives.registry import OBJECTIVES, function_of, get

__all__ = ["OBJECTIVES", "Objective", "function_of", "get"]
