"""A metric that cannot be computed of a sample is refused before there is a model."""

import numpy as np
import pytest
import tiny

from deft_jax import metrics
from deft_jax.evaluation.sample import LabelledSample
from deft_jax.models.posterior import Posterior

FAULTS = [
    ("mig", {"continuous": (True,)}),
    ("mig", {"continuous": True}),
    ("mig_posterior", {"average_over": (3,)}),
    ("mig_posterior", {"average_over": (0, 0)}),
    ("mig_posterior", {"average_over": ()}),
    ("dci_es", {"depths": (3, 1)}),
    ("dci_es", {"depths": (0, 2)}),
    ("dci", {"num_train": 1}),
    ("infomec", {"estimator": "knn", "num_neighbors": 40}),
    ("sap", {"num_train": 40}),
]
FAST = {"dci": {"model": "linear"}, "dci_es": {"num_trees": 2}, "factor_vae": {"num_train": 9, "num_eval": 9},
        "beta_vae": {"num_train": 9, "num_eval": 9}}  # fmt: skip


def score(sample, name, options):
    """The metric of random codes, as a trained model would have them."""
    rng = np.random.default_rng(0)

    def codes(factors):
        return rng.normal(size=(len(factors), 3))

    mean = codes(sample.factors_NxF)
    return sample.metric(name, codes, mean, Posterior(mean, np.zeros_like(mean)), options)


@pytest.mark.parametrize(("name", "options"), FAULTS, ids=[f"{name} {options}" for name, options in FAULTS])
def test_options_that_a_metric_refuses_are_refused_without_codes(name, options):
    sample = LabelledSample(tiny.squares(), 32, 0)
    with pytest.raises(ValueError):  # noqa: PT011
        sample.check(name, options)
    with pytest.raises((ValueError, TypeError)):
        score(sample, name, options)


@pytest.mark.parametrize("num_samples", [2, 3, 32])
@pytest.mark.parametrize("name", [name for name, kind in metrics.REGISTRY.items() if kind != "runs"])
def test_what_is_accepted_without_codes_can_be_computed(name, num_samples):
    sample, options = LabelledSample(tiny.squares(), num_samples, 0), FAST.get(name, {})
    try:
        sample.check(name, options)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011
            score(sample, name, options)
    else:
        assert score(sample, name, options)


def test_options_of_factors_count_those_that_are_constant_in_the_sample():
    sample = LabelledSample(tiny.listed_squares(), 20, 0)
    sample.columns = sample.columns[1:]  # as if the first factor were constant in the sample
    sample.truth_NxK, sample.continuous_K = sample.truth_NxF[:, sample.columns], sample.continuous_K[1:]
    scores = score(sample, "mig_posterior", {"average_over": (1,)})
    assert scores["mig_posterior"] == scores["mig_posterior_per_factor"][0]
    with pytest.raises(ValueError, match="average_over"):
        sample.check("mig_posterior", {"average_over": (0,)})
