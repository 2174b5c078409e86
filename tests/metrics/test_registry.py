"""Metrics by name: every metric is callable by it, and its result has plain types."""

import numpy as np
import pytest
import toy_codes

from deft_jax import metrics

FAST = {"dci": {"model": "linear"}, "dci_es": {"num_trees": 3}}
OF_CODES = [name for name in metrics.REGISTRY if metrics.kind(name) in ("samples", "codes", "posteriors")]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", OF_CODES)
def test_results_are_finite_numbers_and_arrays(name):
    codes, factors = toy_codes.noisy(300)
    options = {"logvar": np.zeros_like(codes)} if metrics.kind(name) == "posteriors" else FAST.get(name, {})
    scores = metrics.compute(name, codes, factors, **options)
    assert "binned_factors" not in scores
    for key, value in scores.items():
        if key == "estimator":
            assert isinstance(value, str)
        else:
            assert isinstance(value, float | int | np.ndarray)
            assert np.isfinite(value).all()


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown metric 'migg'; known: .*mig.*nmi"):
        metrics.compute("migg", np.zeros((2, 1)), np.zeros((2, 1), int))


def test_posterior_metric_requires_logvar():
    codes, factors = toy_codes.noisy(60)
    with pytest.raises(ValueError, match="logvar"):
        metrics.compute("mig_posterior", codes, factors)


@pytest.mark.parametrize("name", ["factor_vae", "beta_vae", "udr"])
def test_metrics_of_other_arguments_are_not_computed_from_a_sample(name):
    with pytest.raises(ValueError, match=r"metrics\.get"):
        metrics.compute(name, *toy_codes.noisy(60))
