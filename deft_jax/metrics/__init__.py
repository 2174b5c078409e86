"""Scores of a representation, one file per metric: codes [N, D] and factors [N, F] in, a dict of scores out.

`compute` scores one sample by the metric's name, `get` returns the metric's function, and `kind` names the arguments of
that function. A metric's file is imported on first use, so scikit-learn and SciPy load only where they are used.
"""

from deft_jax.metrics.registry import CALLER_ARGUMENTS, REGISTRY, compute, get, kind

__all__ = ["CALLER_ARGUMENTS", "REGISTRY", "compute", "get", "kind"]
