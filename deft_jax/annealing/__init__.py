"""The annealing test: at which beta does the information of each factor freeze?"""

from deft_jax.annealing.measure import run

__all__ = ["run"]
