"""Scores of a representation, one file a metric: codes [N, D] and factors [N, F] in, a dict out.

A file is imported when its metric is first asked for: what a metric depends on loads with it.
"""

import importlib
import inspect

import numpy as np

from deft_jax.metrics import inputs
from deft_jax.runtime import plugins

# name -> what the metric of that name takes; the function stands in the file of the same name.
REGISTRY = {
    "mig": "samples",
    "mig_posterior": "posteriors",
    "nmi": "samples",
    "dci": "samples",
    "dci_es": "samples",
    "dcimig": "samples",
    "jemmig": "samples",
    "mcc": "samples",
    "mig_sup": "samples",
    "r2": "samples",
    "sap": "samples",
    "modularity_explicitness": "samples",
    "infomec": "samples",
    "irs": "samples",
    "gaussian_total_correlation": "codes",
    "latent_mutual_information": "codes",
    "factor_vae": "sampler",
    "beta_vae": "sampler",
    "udr": "runs",
}

# Arguments that are no options.
GIVEN = ("codes", "factors", "logvar", "encode", "factor_sizes", "groups", "progress")


def get(name):
    """The function of a metric; raises ValueError with the known names.

    name: a key of REGISTRY, or 'module:function' of a function of your own. What it takes stands in `kind`: 'samples'
    (codes, factors), 'posteriors' (codes, factors, logvar), 'codes' (codes), 'sampler' (encode, factor_sizes) or 'runs'
    (a list of the codes of several runs). Options follow by name. These are given to a metric that has them:
    `groups` [N] integers, equal for rows of one image; `continuous`, F booleans; `progress`, a function to call with
    (parts done, parts in all).
    """
    own = plugins.load_function(name, "metric")
    if own is not None:
        return own
    plugins.choose(REGISTRY, name, "metric")
    return getattr(importlib.import_module(f"deft_jax.metrics.{name}"), name)


def kind(name, what="metric"):
    """What the metric of this name takes: as in REGISTRY, or as the first arguments of a 'module:function' are called.

    what: what it is called in a message. Raises ValueError for an unknown name, and for a function whose first
    arguments are neither codes nor encode.
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


def compute(name: str, codes, factors, **kwargs) -> dict:
    """Computes the metric `name` from one sample.

    Args:
      name: of a metric that takes samples or codes, as in `get`.
      codes: [N, D] finite real numbers.
      factors: [N, F] integers >= 0, and real numbers in columns that the metric takes as continuous; not looked at by a
        metric that takes codes alone.
      **kwargs: passed on to the metric, for example num_bins; logvar [N, D] where it looks at posteriors, whose means
        the codes are then; groups [N] for a metric that takes them, default: rows of equal codes and factors count as
        one image, as `inputs.distinct_rows` has it.

    Returns:
      The metric's dict.

    Raises:
      ValueError: the name is unknown (the line lists the known ones), takes something else than a sample, or an
        input does not fit.
    """
    metric, takes = get(name), kind(name)
    if takes == "codes":
        return metric(codes, **kwargs)
    if takes == "posteriors" and kwargs.get("logvar") is None:
        raise ValueError(f"the metric {name!r} looks at posteriors: give their logvar beside their means")
    if takes not in ("samples", "posteriors"):
        wanted = {"sampler": "encode and factor_sizes", "runs": "the codes of several runs"}[takes]
        raise ValueError(f"the metric {name!r} takes {wanted}, not a sample: call metrics.get({name!r})")
    if "groups" in inspect.signature(metric).parameters and kwargs.get("groups") is None:
        _, columns, _ = inputs.mixed_samples(codes, factors, kwargs.get("continuous"), allow_constant=True)
        kwargs["groups"] = inputs.distinct_rows(codes, np.stack(columns, axis=1))
    return metric(codes, factors, **kwargs)
