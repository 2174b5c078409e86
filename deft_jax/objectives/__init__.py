"""Training objectives: DEFT, the beta-VAE and further baselines, as pure functions that the training step calls.

`get` returns an Objective by name; base.py defines the interface and names the examples to start from.
"""

from deft_jax.objectives.base import Objective
from deft_jax.objectives.registry import OBJECTIVES, function_of, get

__all__ = ["OBJECTIVES", "Objective", "function_of", "get"]
