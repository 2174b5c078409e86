"""Many trainings described at once, scored alike, and their tables."""

from deft_jax.studies.runner import run
from deft_jax.studies.scoring import evaluate, evaluate_codes

__all__ = ["evaluate", "evaluate_codes", "run"]
