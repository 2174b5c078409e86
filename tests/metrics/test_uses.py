"""Metrics of what a representation is used for: few labels, fair predictions, unseen values of other factors."""

import numpy as np
import pytest

from deft_jax import metrics


def grid(count=2_000, values=(2, 4, 3), seed=0):
    return np.random.default_rng(seed).integers(0, values, (count, len(values)))


def test_predictors_need_no_more_labels_where_a_latent_is_a_factor():
    factors = grid()
    options = {"num_labels": (50, 400, 10_000), "few": 50, "groups": np.arange(2_000)}
    scores = metrics.compute("downstream", 3.0 * factors - 1, factors, **options)
    assert scores["downstream_linear"] > 0.99
    assert scores["downstream_trees"] == 1
    assert scores["efficiency_trees"] == pytest.approx(1, abs=0.01)
    assert scores["num_labels"].tolist() == [50, 400, 1333]  # the last is all of the training part
    assert scores["trees_per_factor"].shape == (3, 3)


def test_only_trees_read_a_product_of_signs():
    rng = np.random.default_rng(1)
    codes = rng.normal(size=(3_000, 2))
    factors = np.stack([codes[:, 0] * codes[:, 1] > 0, codes[:, 0] > 0], axis=1).astype(int)
    scores = metrics.compute("downstream", codes, factors)
    linear, trees = scores["linear_per_factor"][-1], scores["trees_per_factor"][-1]
    assert abs(linear[0] - 0.5) < 0.06
    assert min(trees[0], trees[1], linear[1]) > 0.95
    assert scores["trees_per_factor"][0, 0] < trees[0] - 0.1, "ten labels are too few"
    assert scores["efficiency_trees"] < 1


def test_one_class_among_few_labels_predicts_itself():
    factors = np.zeros((300, 1), int)
    factors[::30] = 1
    scores = metrics.compute("downstream", factors + 0.0, factors, num_labels=(1, 200), few=1, groups=np.arange(300))
    assert scores["linear_per_factor"][0, 0] in (pytest.approx(0.9, abs=0.06), pytest.approx(0.1, abs=0.06))
    assert scores["linear_per_factor"][1, 0] == 1


def test_r2_of_continuous_factors():
    rng = np.random.default_rng(2)
    factors = rng.uniform(size=(900, 1))
    scores = metrics.compute("downstream", np.hstack([factors, rng.normal(size=(900, 1))]), factors)
    assert scores["downstream_linear"] == pytest.approx(1)
    assert scores["downstream_trees"] > 0.98


def test_unfairness_of_a_latent_that_is_either_factor_is_a_quarter():
    # The prediction of both is the latent: 1 in 3/4 of all images; in all or half of them by the other factor.
    factors = grid(6_000, (2, 2))
    scores = metrics.compute("fairness", factors.max(axis=1, keepdims=True) + 0.0, factors, groups=np.arange(6_000))
    assert scores["unfairness"] == pytest.approx(1 / 4, abs=0.02)
    assert scores["unfairness_by_chance"] < 0.03
    assert np.diag(scores["unfairness_matrix"]).tolist() == [0, 0]


def test_a_latent_per_factor_is_as_fair_as_chance():
    factors = grid(3_000)
    scores = metrics.compute("fairness", factors + 0.0, factors, groups=np.arange(3_000))
    assert scores["unfairness"] == pytest.approx(scores["unfairness_by_chance"], abs=0.015)
    assert scores["unfairness"] < 0.04


def test_predictors_hold_beyond_the_values_of_a_factor_in_a_latent_of_its_own():
    factors = grid()
    scores = metrics.compute("strong_generalisation", 2.0 * factors, factors, groups=np.arange(len(factors)))
    assert scores["strong_generalisation"] == scores["seen_values"] == scores["generalisation_ratio"] == 1


def test_a_code_that_flips_at_unseen_values_is_never_right_there():
    factors = grid(2_000, (4, 2))
    flipped = np.where(factors[:, 0] >= 2, 1 - factors[:, 1], factors[:, 1])
    codes = np.stack([factors[:, 0], flipped], axis=1) + 0.0
    scores = metrics.compute("strong_generalisation", codes, factors, groups=np.arange(2_000))
    assert scores["seen_per_pair"][0, 1] == 1
    assert scores["strong_per_pair"][0, 1] == 0


@pytest.mark.parametrize(("name", "options", "fault"), [
    ("downstream", {"num_labels": (100, 10)}, "rise"),
    ("downstream", {"few": 5_000}, "few"),
    ("fairness", {"continuous": [True, False, False]}, "continuous"),
    ("strong_generalisation", {"seed": -1}, "seed"),
])
def test_faults_are_refused(name, options, fault):
    factors = grid(400).astype(float)
    with pytest.raises(ValueError, match=fault):
        metrics.compute(name, factors, factors, **options)


@pytest.mark.parametrize("name", ["fairness", "strong_generalisation"])
def test_one_factor_is_too_few(name):
    factors = grid(400)[:, :1]
    with pytest.raises(ValueError, match="two factors"):
        metrics.compute(name, factors + 0.0, factors, groups=np.arange(400))
