"""Boosted trees equal scikit-learn's GradientBoosting, up to the choice between splits that save equally much."""

import numpy as np
import pytest
import toy_codes
from sklearn import ensemble

from deft_jax.metrics.boosted_trees import fit_and_score
from deft_jax.metrics.dci import dci

TRAIN, TEST = np.arange(400), np.arange(400, 600)


def _codes_and_columns():
    """Codes [600, 4]; columns of two classes, of five, and continuous."""
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(600, 4))
    noisy = codes @ [1, 2, 0, 0] + 0.5 * rng.normal(size=600)
    return codes, {"two": (noisy > 0).astype(int), "five": np.digitize(noisy, [-3, -1, 0, 2]) + 7, "continuous": noisy}


def _scikit_learn(codes, column, seed=0):
    """Importance, score in the training part and in the test part."""
    is_continuous = column.dtype.kind == "f"
    trees = ensemble.GradientBoostingRegressor if is_continuous else ensemble.GradientBoostingClassifier
    predictor = trees(random_state=seed).fit(codes[TRAIN], column[TRAIN])
    return predictor.feature_importances_, *(predictor.score(codes[part], column[part]) for part in (TRAIN, TEST))


@pytest.mark.parametrize("name", ["two", "five", "continuous"])
def test_scores_lie_within_those_of_scikit_learn_over_its_seeds(name):
    codes, columns = _codes_and_columns()
    column = columns[name]
    ours = [fit_and_score(codes, column, name == "continuous", TRAIN, TEST, seed) for seed in range(4)]
    theirs = [_scikit_learn(codes, column, seed) for seed in range(4)]
    for our, their, tolerance in zip(zip(*ours, strict=True), zip(*theirs, strict=True), (4e-3, 0, 1e-2), strict=True):
        np.testing.assert_allclose(np.mean(our, axis=0), np.mean(their, axis=0), rtol=0, atol=tolerance + 1e-9)


@pytest.mark.parametrize("values", [2, 3, 600])
def test_the_first_rounds_are_equal(values, monkeypatch):
    monkeypatch.setattr("deft_jax.metrics.boosted_trees.ROUNDS", 1)
    codes, _ = _codes_and_columns()
    codes = np.round(codes * values / 6)  # equal codes are never parted
    column = codes @ [1, 2, 0, 0] + np.random.default_rng(1).normal(size=600)
    predictor = ensemble.GradientBoostingRegressor(n_estimators=1).fit(codes[TRAIN], column[TRAIN])
    importance, *scores = fit_and_score(codes, column, True, TRAIN, TEST)
    np.testing.assert_allclose(importance, predictor.feature_importances_, rtol=0, atol=1e-9)
    expected = [predictor.score(codes[part], column[part]) for part in (TRAIN, TEST)]
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-9)


def test_equal_latents_share_the_importance():
    codes, columns = _codes_and_columns()
    copies = codes[:, [0, 1, 0, 1]]
    importance = np.mean([fit_and_score(copies, columns["five"], False, TRAIN, TEST, seed)[0] for seed in range(4)], 0)
    np.testing.assert_allclose(importance[:2], importance[2:], rtol=0, atol=0.06)


def test_a_factor_of_two_latents_jointly_is_learned_without_a_first_gain():
    factors = toy_codes.grid(2, 2)[np.arange(600) % 4]
    column = factors[:, 0] ^ factors[:, 1]  # no single split saves anything
    importance, *scores = fit_and_score(1.0 * factors, column, False, TRAIN, TEST)
    assert scores == [1, 1]
    assert importance.sum() == pytest.approx(1)
    assert importance.min() > 0.2  # the tree begins with either latent, by chance


def test_constant_codes_have_no_importance():
    column = np.arange(600) % 3
    importance, train, test = fit_and_score(np.ones((600, 2)), column, False, TRAIN, TEST)
    np.testing.assert_array_equal(importance, 0)
    assert train == np.mean(column[TRAIN] == 0)
    assert test == np.mean(column[TEST] == 0)


@pytest.mark.parametrize("continuous", [False, True])
def test_both_programs_give_the_same_dci(continuous):
    codes, factors = toy_codes.noisy_with_constant(450)
    programs = ("presorted", "scikit-learn")
    both = [dci(codes, factors, continuous=[continuous, False], boosting=program) for program in programs]
    assert both[0].keys() == both[1].keys()
    for name, value in both[0].items():
        np.testing.assert_allclose(value, both[1][name], rtol=0, atol=0.02, err_msg=name)
    with pytest.raises(ValueError, match="boosting"):
        dci(codes, factors, boosting="exact")
