"""One HTML page of trainings, annealing tests and studies."""

from deft_jax.reporting.page import report

__all__ = ["report"]
