"""Explicitness: ordered codes, normalised and separate probabilities, values in one part only."""

import numpy as np

from deft_jax.metrics.modularity_explicitness import modularity_explicitness


def _ordered(num_samples=3_000, sizes=(3, 6, 40, 32, 32), seed=0):
    """Codes and factors: one latent per factor, with the values of the factor in order."""
    rng = np.random.default_rng(seed)
    factors = np.stack([rng.integers(size, size=num_samples) for size in sizes], axis=1)
    return factors.astype(np.float64), factors


def test_codes_that_order_the_values_are_explicit():
    codes, factors = _ordered(6_000)
    scores = modularity_explicitness(codes, factors)
    assert 0.92 <= scores["explicitness_test"] <= 1
    assert scores["explicitness_test_per_factor"].min() > 0.85
    np.testing.assert_allclose(scores["explicitness_test_per_factor"][0], 1)


def test_separate_probabilities_rank_along_one_direction():
    sizes = (3, 6, 10)
    codes, factors = _ordered(3_000, sizes)
    separate, normalised = (
        modularity_explicitness(codes, factors, probabilities=p) for p in ("separate", "normalised")
    )
    # The k-th of K values then has an area of max(k, K - 1 - k) / (K - 1).
    areas = [np.mean([max(k, size - 1 - k) / (size - 1) for k in range(size)]) for size in sizes]
    np.testing.assert_allclose(separate["explicitness_test_per_factor"], areas, atol=0.03)
    assert (normalised["explicitness_test_per_factor"] > separate["explicitness_test_per_factor"] + 0.1).all()
    assert normalised["modularity"] == separate["modularity"]


def test_normalising_changes_nothing_for_two_values():
    rng = np.random.default_rng(0)
    factors = rng.integers(2, size=(300, 2))
    codes = factors + rng.normal(size=(300, 2))
    first, second = (modularity_explicitness(codes, factors, probabilities=p) for p in ("normalised", "separate"))
    np.testing.assert_allclose(first["explicitness_test_per_factor"], second["explicitness_test_per_factor"])
    assert 0.6 < first["explicitness_test"] < 0.95


def test_one_value_in_both_parts_is_scored():
    rows = np.random.default_rng(0).permutation(40)
    factors = np.empty((40, 1), int)
    factors[rows, 0] = np.r_[np.tile([0, 1], 10), np.tile([1, 2], 10)]
    scores = modularity_explicitness(factors - 1.0, factors, num_train=20)
    assert scores["explicitness_train"] == 1
    assert scores["explicitness_test"] == 0  # value 2 is not in the training part and is classified as 1
