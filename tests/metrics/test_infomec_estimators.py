"""InfoMEC's estimators: the default by size, memory, the name in the result."""

import tracemalloc

import numpy as np

from deft_jax.metrics.infomec import infomec


def test_result_names_the_estimator():
    rng = np.random.default_rng(4)
    factors = rng.integers(3, size=(200, 2))
    codes = factors + 0.3 * rng.normal(size=(200, 2))
    assert infomec(codes, factors)["estimator"] == "knn"
    for estimator in ("knn", "binned", "discrete"):
        assert infomec(np.round(codes), factors, estimator=estimator)["estimator"] == estimator
    np.testing.assert_array_equal(infomec(codes, factors)["nmi"], infomec(codes, factors, estimator="knn")["nmi"])


def test_default_estimator_depends_on_the_size():
    rng = np.random.default_rng(5)
    factors = rng.integers(2, size=(40_001, 1))
    codes = np.zeros((40_001, 100))
    codes[:, 0] = factors[:, 0] + rng.normal(size=40_001)
    assert infomec(codes, factors)["estimator"] == "binned"
    assert infomec(codes[:1_000], factors[:1_000])["estimator"] == "knn"


def test_one_latent_value_per_row_takes_little_memory():
    rng = np.random.default_rng(6)
    codes, factors = rng.normal(size=(10_000, 2)), rng.integers(2, size=(10_000, 1))
    tracemalloc.start()
    try:
        scores = infomec(codes, factors, estimator="discrete")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2e8  # dense, 20,000 columns take 1.6e9 bytes
    np.testing.assert_allclose(scores["nmi"], 1, atol=1e-9)
