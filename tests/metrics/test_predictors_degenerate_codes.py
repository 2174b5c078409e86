"""DCI, SAP, modularity and explicitness, InfoMEC: collapsed latents, one latent or factor, missing values."""

import functools

import numpy as np
import pytest
import toy_codes

from deft_jax.metrics.dci import dci
from deft_jax.metrics.infomec import infomec
from deft_jax.metrics.modularity_explicitness import modularity_explicitness
from deft_jax.metrics.sap import sap

SIZES = (2, 3, 4)


def test_collapsed_latents_add_nothing():
    codes, factors = toy_codes.balanced()
    more = np.concatenate([codes, np.full((len(codes), 2), 0.1)], axis=1)
    for model in ("trees", "linear"):
        scores = dci(more, factors, model, num_train=144)
        np.testing.assert_array_equal(scores["importance"][3:], 0)
        np.testing.assert_array_equal(scores["disentanglement_per_latent"][3:], 0)
        assert scores["disentanglement"] == pytest.approx(1, abs=1e-5)
        assert scores["completeness"] == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(sap(more, factors, num_train=144)["scores"][3:], [1 / np.array(SIZES)] * 2, atol=1e-12)
    continuous = sap(more, factors, [True] * 3, num_train=144)["scores"]
    np.testing.assert_array_equal(continuous[3:], 0)
    scores = modularity_explicitness(more, factors, num_train=144)
    np.testing.assert_array_equal(scores["modularity_per_latent"][3:], 0)
    assert scores["modularity"] == pytest.approx(3 / 5, abs=1e-12)
    for estimator in ("binned", "knn", "discrete"):
        scores, expected = (infomec(z, factors, estimator=estimator) for z in (more, codes))
        np.testing.assert_array_equal(scores["nmi"][3:], 0)
        np.testing.assert_array_equal(scores["active"], [True, True, True, False, False])
        assert (scores["infom"], scores["infoc"]) == (expected["infom"], expected["infoc"])


@pytest.mark.filterwarnings("error")
def test_fully_collapsed_codes_score_zero():
    _, factors = toy_codes.balanced()
    codes = np.full((len(factors), 4), 0.1)
    for model in ("trees", "linear"):
        scores = dci(codes, factors, model, num_train=144)
        assert scores["disentanglement"] == scores["completeness"] == 0
        np.testing.assert_array_equal(scores["importance"], 0)
        assert scores["informativeness_test"] == pytest.approx(np.mean(1 / np.array(SIZES)))
    assert sap(codes, factors, num_train=144)["sap"] == 0
    scores = modularity_explicitness(codes, factors, num_train=144)
    assert (scores["modularity"], scores["explicitness_test"]) == (0, 0.5)
    for estimator in ("binned", "knn", "discrete"):
        scores = infomec(codes, factors, estimator=estimator)
        assert (scores["infom"], scores["infoc"]) == (0, 0)
        assert scores["infoe"] == pytest.approx(0, abs=1e-6)


def test_infomec_prunes_narrow_latents():
    codes, factors = toy_codes.noisy_with_constant()
    narrow = codes[:, :3] * [1, 1, 1e-2]
    scores, pruned = infomec(narrow, factors), infomec(narrow[:, :2], factors)
    np.testing.assert_array_equal(scores["active"], [True, True, False])
    assert (scores["infom"], scores["infoc"]) == (pruned["infom"], pruned["infoc"])
    assert scores["nmi"][2].min() > 0.1
    unpruned = infomec(narrow, factors, inactive=0.001)
    assert unpruned["active"].all()
    assert unpruned["infoc"] < scores["infoc"] - 0.1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("model", ["trees", "linear"])
def test_dci_of_one_latent_or_one_factor(model):
    codes, factors = toy_codes.balanced()
    scores = dci(codes[:, :1], factors[:, [0, 0]], model, num_train=144)
    np.testing.assert_allclose(scores["importance"] / scores["importance"].sum(axis=0), [[1, 1]], atol=1e-12)
    assert scores["completeness"] == pytest.approx(1)
    assert scores["disentanglement"] == pytest.approx(0, abs=1e-9)
    scores = dci(codes, factors[:, :1], model, num_train=144)
    assert scores["disentanglement"] == pytest.approx(1)
    assert scores["completeness"] == pytest.approx(1, abs=1e-5)


@pytest.mark.filterwarnings("error")
def test_other_metrics_of_one_latent_or_one_factor():
    codes, factors = toy_codes.balanced()
    scores = sap(codes[:, :1], factors, num_train=144)
    np.testing.assert_array_equal(scores["sap_per_factor"], scores["scores"][0])
    scores = modularity_explicitness(codes, factors[:, :1], num_train=144)
    np.testing.assert_array_equal(scores["modularity_per_latent"], [1, 0, 0])
    scores = infomec(codes[:, :1], factors[:, [0, 0]])
    assert (scores["infoc"], scores["infom"]) == pytest.approx((1, 0), abs=1e-12)
    scores = infomec(codes, factors[:, :1])
    assert (scores["infoc"], scores["infom"]) == pytest.approx((1, 1 / 3), abs=1e-12)


def test_values_missing_from_a_part_are_left_out_of_it():
    factor = np.repeat([0, 1, 0, 1], 10)
    factor[[5, 25]] = 2, 3  # value 2 in the training part only, 3 in the test part only
    factors = np.empty((40, 1), int)
    factors[np.random.default_rng(0).permutation(40), 0] = factor
    codes = np.where(factors == 1, 1.0, -1.0)
    scores = modularity_explicitness(codes, factors, num_train=20)
    # Latent -1: values 0, 2 and 3. Value 0 ranks above all 1s and level with 2; value 2 likewise, level with nine 0s.
    train = [1 - 1 / 22, 1, 1 - 9 / 38]
    assert scores["explicitness_train"] == pytest.approx(np.mean(train), abs=1e-12)
    assert scores["explicitness_test"] == pytest.approx(np.mean([1 - 1 / 22, 1]), abs=1e-12)
    assert sap(codes, factors, num_train=20)["scores"][0, 0] <= 19 / 20
    assert dci(codes, factors, "linear", num_train=20)["informativeness_test"] == pytest.approx(19 / 20)


@pytest.mark.parametrize("metric", [functools.partial(dci, model="linear"), sap, modularity_explicitness, infomec])
def test_float32_codes_score_like_float64(metric):
    codes, factors = toy_codes.noisy_with_constant(300)
    scores, expected = metric(codes.astype(np.float32), factors), metric(codes, factors)
    for name, value in scores.items():
        if name != "estimator":
            np.testing.assert_allclose(value, expected[name], atol=0.02, err_msg=name)
