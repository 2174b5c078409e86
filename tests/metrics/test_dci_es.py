"""Explicitness, size and informativeness of DCI-ES: closed forms, the authors' curve, trees cut at a depth."""

import numpy as np
import pytest
import sklearn.ensemble
import toy_codes

from deft_jax.metrics import dci_es as dci_es_file
from deft_jax.metrics.dci_es import dci_es


def test_explicitness_of_curves_has_closed_forms():
    depths = (1, 2, 5)
    explicitness = dci_es_file._explicitness
    assert explicitness(depths, [0.3, 0.3, 0.3], 0.8) == 1
    assert explicitness(depths, [0.8, 0.6, 0.0], 0.8) == pytest.approx(0)  # a straight line
    assert explicitness(depths, [0.8, 0.0, 0.0], 0.8) == pytest.approx(1 - 1 / 4)
    assert explicitness(depths, [0.8, 0.8, 0.0], 0.8) == pytest.approx(1 - 2 * (1 + 1.5) / 4)
    assert explicitness(depths, [0.4, 0.9, 0.4], 0.8) == 1  # the loss of a probe is at most that of smaller ones


def test_explicitness_is_that_of_the_authors():
    # From the class in metrics/explitcitness.py of andreinicolicioiu/DCI-ES: add_curve(depths, losses, 5 / 6), then
    # get_explitcitness.
    losses = [0.7, 0.5, 0.52, 0.33, 0.2, 0.21, 0.15, 0.12, 0.12, 0.1, 0.11, 0.105]
    explicitness = dci_es_file._explicitness(dci_es_file._DEPTHS, losses, 5 / 6)
    assert explicitness == pytest.approx(0.8176774193548387, abs=1e-12)


def test_a_tree_cut_at_a_depth_is_the_tree_grown_to_it():
    codes, factors = toy_codes.noisy(400)
    settings = {"n_estimators": 1, "bootstrap": False, "max_features": None, "random_state": 0}
    for family, target, predict in (
        (sklearn.ensemble.RandomForestClassifier, factors[:, 1], "predict_proba"),
        (sklearn.ensemble.RandomForestRegressor, codes[:, 1] ** 2, "predict"),
    ):
        whole = family(**settings, max_depth=8).fit(codes, target)
        cut = dci_es_file._outputs_by_depth(whole, codes, (1, 2, 4, 8))
        for outputs, depth in zip(cut, (1, 2, 4, 8), strict=True):
            grown = getattr(family(**settings, max_depth=depth).fit(codes, target), predict)(codes)
            np.testing.assert_allclose(outputs, grown.reshape(outputs.shape), atol=1e-12)


def test_one_split_per_factor_is_fully_explicit():
    factors = np.tile(toy_codes.grid(2, 2), (100, 1))
    codes = factors + np.random.default_rng(0).uniform(-0.1, 0.1, size=factors.shape)
    scores = dci_es(codes, factors, num_trees=20)
    assert (scores["dci_es_explicitness"], scores["dci_es_informativeness"], scores["dci_es_size"]) == (1, 1, 1)
    twice = np.concatenate([codes, codes], axis=1)
    scores = dci_es(twice, factors, num_trees=20)
    assert (scores["dci_es_explicitness"], scores["dci_es_informativeness"], scores["dci_es_size"]) == (1, 1, 0.5)


@pytest.mark.filterwarnings("error")
def test_dci_es_of_constant_codes_is_explicit_and_not_informative():
    factors = np.stack([np.arange(300) % 3 // 2, np.arange(300) % 4], axis=1)
    scores = dci_es(np.full((300, 2), 0.1), factors, num_trees=5)
    assert scores["dci_es_explicitness"] == 1
    assert scores["num_distinct_train"] + scores["num_distinct_test"] == 300
    assert scores["dci_es_informativeness"] < 0.8


def test_rotated_codes_need_more_capacity():
    rng = np.random.default_rng(0)
    factors = rng.integers(6, size=(1500, 2))
    codes = factors + rng.uniform(-0.3, 0.3, size=factors.shape)
    rotated = codes @ np.array([[1, 1], [1, -1]]) / np.sqrt(2)
    perfect, mixed = dci_es(codes, factors, num_trees=20), dci_es(rotated, factors, num_trees=20)
    assert perfect["dci_es_informativeness"] > 0.99
    assert mixed["dci_es_informativeness"] > 0.8
    assert mixed["dci_es_explicitness"] < perfect["dci_es_explicitness"] - 0.03


def test_losses_depend_on_the_seed_and_not_on_workers_or_scale():
    codes, factors = toy_codes.noisy(300)
    expected = dci_es(codes, factors, num_trees=5, num_workers=1)
    for scores in (dci_es(codes, factors, num_trees=5, num_workers=3), dci_es(codes * 4, factors, num_trees=5)):
        np.testing.assert_array_equal(scores["dci_es_loss"], expected["dci_es_loss"])
    assert (dci_es(codes, factors, num_trees=5, seed=1)["dci_es_loss"] != expected["dci_es_loss"]).any()
