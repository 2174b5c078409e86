"""Scores of a representation, one file a metric: codes [N, D] and factors [N, F] in, a dict out."""

from deft_jax import information, options
from deft_jax.metrics.mig import mig
from deft_jax.metrics.nmi import nmi

REGISTRY = {"mig": mig, "nmi": nmi}


def compute(name, codes, factors, **kwargs):
    """Computes the metric `name`.

    Args:
      name: a key of REGISTRY.
      codes: [N, D] finite real numbers.
      factors: [N, F] integers >= 0.
      **kwargs: passed on to the metric, for example num_bins.

    Returns:
      The metric's dict.

    Raises:
      ValueError: the name is unknown (the line lists the known ones) or an input does not fit.
    """
    metric = options.choose(REGISTRY, name, "metric")
    return metric(*information.check_samples(codes, factors), **kwargs)
