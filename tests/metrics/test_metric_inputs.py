"""Inputs and options that metrics refuse, each with one line that names what does not fit."""

import numpy as np
import pytest
import toy_codes
from refusals import refused

from deft_jax import metrics
from deft_jax.metrics.gaussian_total_correlation import gaussian_total_correlation

OF_SAMPLES = [name for name in metrics.REGISTRY if metrics.kind(name) in ("samples", "posteriors")]
CODES = np.random.default_rng(0).normal(size=(12, 2))
FACTORS = toy_codes.grid(3, 2, 2)
NAN = np.where(np.arange(24).reshape(12, 2) == 7, np.nan, CODES)
ONE_VALUE = FACTORS * [1, 0, 1] + [0, 4, 0]
WORDS = np.array([["red"], ["blue"]] * 6)


def _assert_refused(message, name, codes, factors, **options):
    if metrics.kind(name) == "posteriors":
        options["logvar"] = np.zeros_like(CODES)
    for metric in (metrics.get(name), lambda *args, **kwargs: metrics.compute(name, *args, **kwargs)):
        with refused(message):
            metric(codes, factors, **options)


@pytest.mark.parametrize("name", OF_SAMPLES)
@pytest.mark.parametrize(("codes", "factors", "message"), [
    (NAN, FACTORS, "codes must be finite, got nan in row 3, latent 1"),
    (CODES[:, 0], FACTORS, r"codes must be .* got shape \(12,\)"),
    (CODES[:0], FACTORS[:0], r"codes must be .* got shape \(0, 2\)"),
    (CODES, FACTORS[:, 0], r"factors must be .* got shape \(12,\)"),
    (CODES, FACTORS[:5], r"same N, got \(12, 2\) and \(5, 3\)"),
    (CODES.astype(complex), FACTORS, "codes must be real numbers, got dtype complex128"),
    (CODES, FACTORS - [0, 0, 1], "factors must be >= 0, got -1 in column 2"),
    (CODES, ONE_VALUE, "factor 1 is constant in the sample.*leave it out"),
    (CODES, WORDS, "factors must be integers, got dtype <U4"),
    (CODES, WORDS.astype(object), "factors must be integers, got dtype object"),
    (CODES, np.where(FACTORS == 2, np.nan, FACTORS), "finite, got nan in row 8"),
    (CODES, np.where(FACTORS == 2, np.inf, FACTORS), "finite, got inf in row 8"),
    (CODES, FACTORS * 0.5, "factors must be integers where not declared continuous, got 0.5 in row"),
    (CODES, ONE_VALUE * 0.3, "factors? (1|must be integers)"),
])
def test_bad_sample_is_refused(name, codes, factors, message):
    _assert_refused(message, name, codes, factors)


@pytest.mark.parametrize("name", OF_SAMPLES)
@pytest.mark.parametrize(("factors", "continuous", "message"), [
    (FACTORS, [True, False], r"continuous must be .* got bool of shape \(2,\)"),
    (FACTORS, True, r"continuous must be .* got bool of shape \(\)"),
    (FACTORS, [0, 1, 0], "continuous must be .* got int64"),
    (FACTORS * 0.5, False, "factors must be integers, got dtype float64"),
    (FACTORS * 0.5, [True, False, True], "factors must be integers where not .* got 0.5 in row 2, factor 1"),
    (np.where(FACTORS == 2, np.nan, FACTORS), [True] * 3, "factors must be finite, got nan in row 8, factor 0"),
    (FACTORS * 1j, [True] * 3, "factors must be real numbers, got dtype complex128"),
    (ONE_VALUE * 0.3, [True] * 3, "factor 1 is constant in the sample"),
])
def test_bad_declaration_of_continuous_factors_is_refused(name, factors, continuous, message):
    _assert_refused(message, name, CODES, factors, continuous=continuous)


@pytest.mark.parametrize(("name", "option", "value"), [
    ("mcc", "correlation", "kendall"),
    ("dci", "model", "forest"),
    ("dci", "num_workers", 0),
    ("dci_es", "depths", (3,)),
    ("dci_es", "depths", (3, 3)),
    ("dci_es", "depths", (0, 3)),
    ("dci_es", "depths", 4),
    ("dci_es", "num_trees", 0),
    ("dci_es", "num_workers", 0),
    ("infomec", "estimator", "kde"),
    ("infomec", "inactive", 1),
    ("infomec", "num_neighbors", 12),
    ("infomec", "seed", -1),
    ("irs", "difference_quantile", 1.5),
    ("mig_sup", "min_variance", -1),
    ("modularity_explicitness", "probabilities", "raw"),
    *((name, "num_bins", 0) for name in ("mig", "nmi", "mig_sup", "jemmig", "dcimig", "irs")),
    ("modularity_explicitness", "num_bins", 0),
])
def test_bad_option_is_refused(name, option, value):
    _assert_refused(option, name, CODES, FACTORS, **{option: value})


def test_infomec_refuses_continuous_factors_that_its_estimator_cannot_count():
    _assert_refused("discrete", "infomec", CODES, FACTORS, continuous=[True] * 3, estimator="discrete")
    _assert_refused("num_bins", "infomec", CODES, FACTORS, estimator="binned", num_bins=0)
    outlier = np.r_[np.arange(11) * 1e-3, 1.0][:, None]
    _assert_refused(
        "factor 0 .* num_bins", "infomec", CODES, outlier, continuous=[True], estimator="binned", num_bins=1
    )


def test_explicitness_refuses_a_factor_without_a_value_in_both_parts():
    rows = np.random.default_rng(0).permutation(12)
    factors = np.empty((12, 2), int)
    factors[rows] = np.stack([np.tile([0, 1], 6), [0, 1] * 4 + [2, 3] * 2], axis=1)
    _assert_refused("factor 1 has no value that is in both parts", "modularity_explicitness", CODES, factors)


@pytest.mark.parametrize(("codes", "message"), [
    (np.ones(3), r"got shape \(3,\)"),
    (np.ones((0, 3)), r"got shape \(0, 3\)"),
    (np.array([[1, np.nan]]), "finite real numbers"),
    (np.ones((2, 2), complex), "finite real numbers"),
])
def test_bad_codes_without_factors_are_refused(codes, message):
    with pytest.raises(ValueError, match=message):
        gaussian_total_correlation(codes)
