"""MCC and R^2, the scores of identifiability: closed forms and references."""

import itertools

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import sklearn.linear_model
import sklearn.metrics
import toy_codes

from deft_jax.metrics import held_out
from deft_jax.metrics.mcc import mcc
from deft_jax.metrics.r2 import r2


def test_mcc_of_perfect_rotated_duplicated_and_constant_codes():
    factors = toy_codes.grid(3, 6, 4)
    scores = mcc((factors * [-2, 1e-3, 50] + 1e3)[:, [2, 0, 1]], factors)
    assert scores["mcc"] == pytest.approx(1)
    np.testing.assert_array_equal(scores["mcc_assignment"], [1, 2, 0])
    assert scores["mcc_correlation"][1, 0] == pytest.approx(-1)
    assert mcc(*toy_codes.rotated_binary())["mcc"] == pytest.approx(np.sqrt(0.5))
    assert mcc(np.concatenate([factors, factors], axis=1), factors)["mcc"] == pytest.approx(1)
    assert mcc(np.full((72, 3), 0.1), factors)["mcc"] == 0
    assert mcc(factors[:, 2:], factors[:, :2])["mcc"] == pytest.approx(0, abs=1e-12)


def test_unmatched_factors_count_zero_and_unmatched_latents_do_not_count():
    factors = toy_codes.grid(3, 6)
    scores = mcc(factors[:, 1:], factors)
    assert scores["mcc"] == pytest.approx(0.5)
    np.testing.assert_array_equal(scores["mcc_assignment"], [-1, 0])
    np.testing.assert_allclose(scores["mcc_per_factor"], [0, 1])
    wider = np.insert(factors, [0, 1], 3, axis=1)  # two constant latents
    assert mcc(wider, factors)["mcc"] == pytest.approx(1)


def test_mcc_is_the_best_of_all_matchings():
    rng = np.random.default_rng(0)
    for _ in range(20):
        factors = rng.integers(5, size=(30, 3))
        codes = factors @ rng.normal(size=(3, 4)) + rng.normal(size=(30, 4))
        table = np.abs(np.corrcoef(codes.T, factors.T)[:4, 4:])
        best = max(table[list(latents), range(3)].mean() for latents in itertools.permutations(range(4), 3))
        assert mcc(codes, factors)["mcc"] == pytest.approx(best)


def test_spearman_is_invariant_to_monotone_maps():
    factors = toy_codes.grid(5, 7)
    codes = np.exp(factors * [3.0, -2.0])
    assert mcc(codes, factors, correlation="spearman")["mcc"] == pytest.approx(1)
    assert mcc(codes, factors)["mcc"] < 0.8


@pytest.mark.parametrize("correlation", ["pearson", "spearman"])
def test_mcc_is_that_of_ice_beem(correlation):
    # Its mean_corr_coef_np (metrics/mcc.py of ilkhem/icebeem) in the same calls of numpy and scipy.
    codes, factors = toy_codes.noisy()
    if correlation == "pearson":
        table = np.corrcoef(codes, factors, rowvar=False)[:5, 5:]
    else:
        table = scipy.stats.spearmanr(codes, factors)[0][:5, 5:]
    expected = np.abs(table)[scipy.optimize.linear_sum_assignment(-np.abs(table))].mean()
    scores = mcc(codes, factors, correlation=correlation)
    assert scores["mcc"] == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(scores["mcc_correlation"], table, atol=1e-12)


def test_r2_of_linear_maps_is_one():
    factors = toy_codes.grid(8, 8, 8)
    rng = np.random.default_rng(0)
    scores = r2(factors @ rng.normal(size=(3, 5)) - 4, factors)
    assert scores["r2"] == pytest.approx(1)
    assert (scores["num_distinct_train"], scores["num_distinct_test"]) == (341, 171)
    scores = r2(factors[:, :1] * 2, factors)
    assert scores["r2_per_factor"][0] == pytest.approx(1)
    assert scores["r2_per_factor"][1:].max() < 0.01
    twice = np.concatenate([factors, factors], axis=1)
    assert r2(twice, factors)["r2"] == pytest.approx(1)


def test_r2_of_constant_codes_is_the_offset_of_the_means():
    factors = toy_codes.grid(8, 5)
    train, test = held_out.split(40, None, 3, np.arange(40))
    offset = factors[train].mean(axis=0) - factors[test].mean(axis=0)
    scores = r2(np.full((40, 2), 0.3), factors, seed=3)
    np.testing.assert_allclose(scores["r2_per_factor"], -(offset**2) / factors[test].var(axis=0))


def test_r2_is_that_of_scikit_learn():
    codes, factors = toy_codes.noisy()
    train, test = held_out.split(len(codes), 500, 7, np.arange(len(codes)))
    model = sklearn.linear_model.LinearRegression().fit(codes[train], factors[train])
    expected = sklearn.metrics.r2_score(factors[test], model.predict(codes[test]), multioutput="raw_values")
    scores = r2(codes, factors, num_train=500, seed=7)
    np.testing.assert_allclose(scores["r2_per_factor"], expected)
    assert scores["r2"] == pytest.approx(expected.mean())
