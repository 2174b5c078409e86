"""MIG and NMI: closed forms, the literal definition, symmetries."""

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score
from toy_codes import grid

from deft_jax import metrics
from deft_jax.metrics import mutual_information
from deft_jax.metrics.mig import mig
from deft_jax.metrics.nmi import nmi


def _noisy(num_samples=1500, seed=0):
    """Six codes: three follow a factor each with noise, one follows two, one is noise, one is constant."""
    rng = np.random.default_rng(seed)
    factors = np.stack([rng.integers(size, size=num_samples) for size in (4, 9, 30)], axis=1)
    noise = rng.normal(size=(num_samples, 5))
    mixing = np.array([[1, 0, 0, 1, 0], [0, 1, 0, 1, 0], [0, 0, 1, 0, 0.0]])
    codes = factors @ mixing + noise * [0.3, 1, 8, 1, 1]
    return np.concatenate([codes, np.zeros((num_samples, 1))], axis=1), factors


def _literal_mig(codes, factors, num_bins):
    gaps = []
    for factor in factors.T:
        information = []
        for code in codes.T:
            edges = np.histogram(code, num_bins)[1]
            information.append(mutual_info_score(np.digitize(code, edges[:-1]), factor))
        second, first = sorted(information)[-2:]
        gaps.append((first - second) / mutual_info_score(factor, factor))
    return np.mean(gaps), gaps


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("num_bins", [5, 20])
def test_mig_equals_the_literal_definition(dtype, num_bins):
    codes, factors = _noisy()
    codes = codes.astype(dtype)
    mean, gaps = _literal_mig(codes, factors, num_bins)
    scores = metrics.compute("mig", codes, factors, num_bins=num_bins)
    assert scores["mig"] == pytest.approx(mean, abs=1e-6)
    np.testing.assert_allclose(scores["mig_per_factor"], gaps, rtol=0, atol=1e-6)
    assert isinstance(scores["mig"], float)
    assert 0.1 < mean < 0.9


def test_perfect_codes_score_one_where_bins_suffice():
    factors = grid(3, 6, 20)
    assert mig(factors, factors)["mig"] == pytest.approx(1, abs=1e-12)
    scores = nmi(factors, factors)
    np.testing.assert_allclose(scores["nmi"], np.eye(3), atol=1e-12)
    np.testing.assert_array_equal(scores["nmi1_latent"], [0, 1, 2])


def test_perfect_codes_with_too_few_bins_have_a_closed_form():
    # 40 values in 20 bins lose one bit; 32 values fill 8 bins with one value and 12 bins with two.
    factors = grid(40, 32)
    bits = [np.log(20) / np.log(40), 1 - (12 / 16) * np.log(2) / np.log(32)]
    np.testing.assert_allclose(mig(factors, factors)["mig_per_factor"], bits, rtol=1e-12)


def test_useless_codes_score_near_zero():
    rng = np.random.default_rng(0)
    factors = np.stack([rng.integers(size, size=10_000) for size in (3, 6, 10)], axis=1)
    scores = mig(rng.normal(size=(10_000, 6)), factors)
    assert 0 <= scores["mig"] < 0.005


def test_duplicated_codes_have_no_gap():
    codes, factors = _noisy()
    twice = np.concatenate([codes, codes], axis=1)
    assert mig(twice, factors)["mig"] == 0.0
    scores = nmi(twice, factors)
    np.testing.assert_array_equal(scores["nmi1"], scores["nmi2"])
    assert scores["nmi1"].min() > 0.1
    assert mig(codes, factors)["mig"] > 0.1


def test_a_second_informative_latent_raises_nmi2_only():
    codes, factors = _noisy()
    before = nmi(codes[:, :3], factors)
    extra = factors[:, :1] + np.random.default_rng(1).normal(size=(1500, 1))
    after = nmi(np.concatenate([codes[:, :3], extra], axis=1), factors)
    np.testing.assert_array_equal(after["nmi1"], before["nmi1"])
    assert after["nmi2"][0] > before["nmi2"][0] + 0.2
    np.testing.assert_allclose(after["nmi2"][1:], before["nmi2"][1:], atol=0.05)


def test_nmi1_and_nmi2_are_the_highest_values_of_nmi():
    codes, factors = _noisy()
    scores = metrics.compute("nmi", codes, factors)
    assert scores["nmi"].shape == (6, 3)
    np.testing.assert_array_equal(scores["nmi"][scores["nmi1_latent"], np.arange(3)], scores["nmi1"])
    np.testing.assert_array_equal(np.sort(scores["nmi"], axis=0)[-2], scores["nmi2"])
    np.testing.assert_array_equal(scores["nmi"][5], 0.0)
    np.testing.assert_allclose(scores["nmi"], mutual_information.normalised_mutual_information(codes, factors))
    np.testing.assert_array_equal(scores["nmi1_latent"][1:], [1, 2])
    gaps = mig(codes, factors)["mig_per_factor"]
    np.testing.assert_array_equal(scores["nmi1"] - scores["nmi2"], gaps)


def test_one_latent_has_no_second():
    factors = grid(4, 3)
    scores = nmi(factors[:, :1], factors)
    np.testing.assert_allclose(scores["nmi1"], [1, 0], atol=1e-12)
    np.testing.assert_array_equal(scores["nmi2"], [0, 0])
    assert mig(factors[:, :1], factors)["mig"] == pytest.approx(0.5)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["mig", "nmi"])
def test_constant_codes_score_zero(name):
    factors = grid(4, 3)
    for value in metrics.compute(name, np.zeros((12, 5), np.float32), factors).values():
        np.testing.assert_array_equal(value, np.zeros_like(value))
