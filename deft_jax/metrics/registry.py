"""Metrics by name: the known ones, the arguments of each, and the score of a sample."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from deft_jax.metrics import inputs
from deft_jax.runtime import plugins

Kind = Literal["samples", "posteriors", "codes", "sampler", "runs"]

# name -> the kind of its arguments. The function has the same name, in the file of the same name.
REGISTRY: dict[str, Kind] = {
    "mig": "samples",
    "mig_posterior": "posteriors",
    "foreign": "posteriors",
    "nmi": "samples",
    "dci": "samples",
    "dci_es": "samples",
    "dcimig": "samples",
    "downstream": "samples",
    "fairness": "samples",
    "jemmig": "samples",
    "mcc": "samples",
    "mig_sup": "samples",
    "r2": "samples",
    "sap": "samples",
    "strong_generalisation": "samples",
    "modularity_explicitness": "samples",
    "infomec": "samples",
    "irs": "samples",
    "gaussian_total_correlation": "codes",
    "latent_mutual_information": "codes",
    "factor_vae": "sampler",
    "beta_vae": "sampler",
    "udr": "runs",
}

# Arguments that the caller passes; they are not options of a configuration.
CALLER_ARGUMENTS = ("codes", "factors", "logvar", "encode", "factor_sizes", "groups", "num_images", "progress")

_REQUIRED_ARGUMENTS = {"sampler": "encode and factor_sizes", "runs": "the codes of several runs"}


def get(name: str) -> Callable[..., dict[str, Any]]:
    """The function of a metric.

    Args:
      name: a key of REGISTRY, or 'module:function' for a user's function. `kind` names its first arguments. Options
        follow by name. A function may also take `groups` [N] (integers, equal for rows of one image), `num_images`
        (of the whole data set), `continuous` (F booleans) and `progress` (a function that is called with the number of
        finished parts and of all parts).

    Returns:
      The function. It returns a dict of numbers and arrays.

    Raises:
      ValueError: the name is unknown (the message lists the known ones), or the user's function cannot be imported.

    Example:
      >>> get("mig").__module__
      'deft_jax.metrics.mig'
    """
    function = plugins.load_function(name, "metric")
    if function is not None:
        return function
    plugins.choose(REGISTRY, name, "metric")
    return getattr(importlib.import_module(f"deft_jax.metrics.{name}"), name)


def kind(name: str, what: str = "metric") -> Kind:
    """The kind of a metric's arguments.

    Args:
      name: as for `get`.
      what: the name's role in error messages, for example 'metric in periodic_metrics'.

    Returns:
      'samples' (codes, factors), 'posteriors' (codes, factors, logvar), 'codes' (codes), 'sampler' (encode,
      factor_sizes) or 'runs' (a list with the codes of several runs). For a user's function, the names of its first
      arguments decide.

    Raises:
      ValueError: the name is unknown, or the first arguments of a user's function are neither codes nor encode.

    Example:
      >>> kind("mig"), kind("mig_posterior"), kind("factor_vae")
      ('samples', 'posteriors', 'sampler')
    """
    function = plugins.load_function(name, what)
    if function is None:
        return plugins.choose(REGISTRY, name, what)
    parameters = tuple(inspect.signature(function).parameters)
    first = parameters[:2]
    if first == ("codes", "factors"):
        return "posteriors" if "logvar" in parameters else "samples"
    if first[:1] == ("codes",):
        return "codes"
    if first == ("encode", "factor_sizes"):
        return "sampler"
    raise ValueError(f"the metric {name!r} must take codes; codes, factors; or encode, factor_sizes; not {first}")


def compute(name: str, codes: np.ndarray, factors: np.ndarray | None, **kwargs: Any) -> dict[str, Any]:
    """Scores one sample with the metric `name`.

    Args:
      name: a metric of kind 'samples', 'posteriors' or 'codes', as for `get`.
      codes: [N, D] finite real numbers, the posterior means by convention.
      factors: [N, F] integers >= 0; finite real numbers in the columns of continuous factors. A metric of kind 'codes'
        ignores them.
      **kwargs: passed to the metric. `logvar` [N, D] is required where the metric scores posteriors. `groups` [N]
        defaults to `inputs.distinct_rows`: rows of equal codes and factors count as one image.

    Returns:
      The metric's dict.

    Raises:
      ValueError: the name is unknown (the message lists the known ones), the metric is of another kind, or an input
        does not fit.

    Example:
      >>> import numpy as np
      >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
      >>> compute("mig", codes=2.0 * factors, factors=factors)["mig"]
      1.0
    """
    metric, takes = get(name), kind(name)
    if takes == "codes":
        return metric(codes, **kwargs)
    if takes == "posteriors" and kwargs.get("logvar") is None:
        raise ValueError(f"the metric {name!r} scores posteriors: pass their logvar beside their means")
    if takes in _REQUIRED_ARGUMENTS:
        raise ValueError(
            f"the metric {name!r} takes {_REQUIRED_ARGUMENTS[takes]}, not a sample: call metrics.get({name!r})"
        )
    if "groups" in inspect.signature(metric).parameters and kwargs.get("groups") is None:
        sample = inputs.mixed_samples(codes, np.asarray(factors), kwargs.get("continuous"), allow_constant=True)
        kwargs["groups"] = inputs.distinct_rows(codes, np.stack(sample.columns, axis=1))
    return metric(codes, factors, **kwargs)
