"""Scores of a representation, one file per metric: codes [N, D] and factors [N, F] in, a dict out."""

from deft_jax.metrics.registry import GIVEN, REGISTRY, compute, get, kind

__all__ = ["GIVEN", "REGISTRY", "compute", "get", "kind"]
