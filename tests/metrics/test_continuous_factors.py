"""Continuous factors: detected or declared, cut into bins where a metric counts classes."""

import numpy as np
import pytest

from deft_jax import metrics
from deft_jax.data.labels import continuous_columns
from deft_jax.metrics.infomec import infomec
from deft_jax.metrics.irs import irs
from deft_jax.metrics.mig import mig
from deft_jax.metrics.mig_posterior import mig_posterior
from deft_jax.metrics.modularity_explicitness import modularity_explicitness
from deft_jax.metrics.nmi import nmi


def _posterior(codes, factors, **options):
    return mig_posterior(codes, factors, np.full(codes.shape, -9.0), **options)


# Metric, key of its score, score of perfect codes of continuous factors at least.
BINNING = [(mig, "mig", 0.95), (nmi, "nmi1", 0.999), (_posterior, "mig_posterior", 0.8), (irs, "irs", 0.85)]
BY_BINS = pytest.mark.parametrize(("metric", "key", "least"), BINNING)


def _uniform(num_samples=2_000, num_factors=2, seed=0):
    factors = np.random.default_rng(seed).uniform(size=(num_samples, num_factors))
    return factors[:, ::-1] * [2.0, -1.0], factors


@BY_BINS
def test_perfect_codes_of_continuous_factors_score_high(metric, key, least):
    codes, factors = _uniform()
    scores = metric(codes, factors)
    assert np.min(scores[key]) > least
    np.testing.assert_array_equal(scores["binned_factors"], [0, 1])
    np.testing.assert_array_equal(metric(codes, factors, continuous=[True, True])[key], scores[key])


def test_mig_of_perfect_continuous_codes_is_one_minus_the_bias_of_the_bins():
    codes, factors = _uniform(10_000)
    assert mig(codes, factors)["mig"] == pytest.approx(0.989, abs=0.01)
    # Without bins each value is a different class, which any latent determines.
    classes = np.stack([np.unique(column, return_inverse=True)[1] for column in factors.T], axis=1)
    assert mig(codes, classes, continuous=False)["mig"] < 0.05


@BY_BINS
def test_continuous_factors_do_not_change_the_scores_of_classes(metric, key, least):
    rng = np.random.default_rng(2)
    factors = np.stack([rng.integers(4, size=2_000), rng.uniform(size=2_000)], axis=1)
    codes = factors * [1.0, 3.0] + 0.1 * rng.normal(size=(2_000, 2))
    scores = metric(codes, factors)
    np.testing.assert_array_equal(scores["binned_factors"], [1])
    of_classes = metric(codes, factors[:, :1].astype(int))
    assert "binned_factors" not in of_classes
    per_factor = {"mig": "mig_per_factor", "nmi1": "nmi1", "mig_posterior": "mig_posterior_per_factor"}.get(key)
    if per_factor is not None:
        assert scores[per_factor][0] == pytest.approx(of_classes[per_factor][0], abs=1e-12)


@BY_BINS
def test_bins_are_of_equal_width(metric, key, least):
    codes, factors = _uniform()
    bins = np.stack([np.digitize(x, np.histogram(x, 8)[1][1:-1]) for x in factors.T], axis=1)
    first, second = metric(codes, factors, num_bins=8), metric(codes, bins, num_bins=8)
    np.testing.assert_allclose(first[key], second[key], atol=1e-12)


def test_explicitness_is_refused_for_a_continuous_factor():
    rng = np.random.default_rng(3)
    factors = np.stack([rng.integers(3, size=500), rng.uniform(size=500)], axis=1)
    with pytest.raises(ValueError, match=r"factor 1 is continuous .*classes only"):
        modularity_explicitness(factors, factors)
    assert modularity_explicitness(factors, factors[:, :1])["explicitness_test"] == 1  # classes as floats


@pytest.mark.parametrize(("estimator", "has_bins"), [("knn", False), ("binned", True)])
def test_infomec_of_continuous_labels_needs_no_declaration(estimator, has_bins):
    codes, factors = _uniform(2_000)
    scores = infomec(codes, factors, estimator=estimator)
    assert min(scores["infom"], scores["infoc"]) > 0.9
    assert scores["infoe"] == pytest.approx(1)  # the R^2 of a linear code
    assert ("binned_factors" in scores) == has_bins


DETECTING = {
    "mcc": ("mcc", {}),
    "r2": ("r2", {}),
    "dci": ("disentanglement", {"model": "linear"}),
    "dci_es": ("dci_es_informativeness", {"num_trees": 20}),
    "mig_sup": ("mig_sup", {}),
    "jemmig": ("jemmig", {}),
    "dcimig": ("dcimig", {}),
    "sap": ("sap", {}),
}


@pytest.mark.parametrize("name", DETECTING)
def test_detected_continuous_factors_score_as_declared_ones(name):
    rng = np.random.default_rng(0)
    factors = np.stack([rng.uniform(size=600), rng.integers(4, size=600)], axis=1)
    codes = factors * [1, 3] + 0.01 * rng.normal(size=factors.shape)
    key, options = DETECTING[name]
    scores = metrics.compute(name, codes, factors, **options)
    declared = metrics.compute(name, codes, factors, continuous=[True, False], **options)
    assert scores.keys() == declared.keys()
    assert scores[key] == declared[key] > 0.5
    if name in ("mig_sup", "jemmig", "dcimig"):
        np.testing.assert_array_equal(scores["binned_factors"], [0])


def test_whole_numbers_that_repeat_are_classes():
    rng = np.random.default_rng(0)
    factors = np.stack([rng.integers(0, 40, 1_000), rng.integers(0, 183, 1_000)], axis=1)
    assert not continuous_columns(factors).any()
    assert not continuous_columns(factors.astype(float)).any()
    assert continuous_columns(np.stack([np.arange(1_000), rng.permutation(1_000)], axis=1)).all()
