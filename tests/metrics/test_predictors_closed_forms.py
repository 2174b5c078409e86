"""DCI, SAP, modularity and explicitness, InfoMEC on small codes of known scores.

Most closed forms need a training part that is an exact grid of factors: `toy_codes.in_both_parts` puts one into each.
"""

import numpy as np
import pytest
import toy_codes

from deft_jax.metrics.dci import dci
from deft_jax.metrics.infomec import infomec
from deft_jax.metrics.modularity_explicitness import modularity_explicitness
from deft_jax.metrics.sap import sap

SIZES = (2, 3, 4)


def _disentanglement_scores(codes, factors):
    """All scores of disentanglement, 1 is best."""
    half, result = len(codes) // 2, {}
    for model in ("linear", "trees"):
        scores = dci(codes, factors, model, num_train=half)
        result |= {f"{name}, {model}": scores[name] for name in ("disentanglement", "completeness")}
    result["sap"] = sap(codes, factors, num_train=half)["sap"]
    result["modularity"] = modularity_explicitness(codes, factors, num_train=half)["modularity"]
    scores = infomec(codes, factors)
    return result | {name: scores[name] for name in ("infom", "infoc")}


@pytest.mark.parametrize(("order", "signs"), [([0, 1, 2], [1, 1, 1]), ([2, 0, 1], [-1, 1, -1])])
def test_perfect_codes_score_at_the_top(order, signs):
    codes, factors = toy_codes.balanced()
    codes, half = codes[:, order] * signs, len(codes) // 2
    assignment = np.eye(3)[order]  # latent d equals factor order[d]
    for model in ("trees", "linear"):
        scores = dci(codes, factors, model, num_train=half)
        importance = scores["importance"] / scores["importance"].sum(axis=0)
        np.testing.assert_allclose(importance, assignment, atol=1e-6)
        for name in ("disentanglement", "completeness", "informativeness_train", "informativeness_test"):
            assert scores[name] == pytest.approx(1, abs=1e-5), (model, name)
    scores = modularity_explicitness(codes, factors, num_train=half)
    np.testing.assert_allclose(scores["explicitness_train_per_factor"], 1, atol=1e-9)
    np.testing.assert_allclose(scores["explicitness_test_per_factor"], 1, atol=1e-9)
    scores = modularity_explicitness(codes, factors, num_train=half, probabilities="separate")
    np.testing.assert_allclose(scores["modularity_per_latent"], 1, atol=1e-12)
    # One latent ranks the values: the ends are separable, value 1 of 3 is not, values 1 and 2 of 4 are separable from
    # two of the other three.
    areas = [1, (1 + 1 / 2 + 1) / 3, (1 + 2 / 3 + 2 / 3 + 1) / 4]
    np.testing.assert_allclose(scores["explicitness_train_per_factor"], areas, atol=1e-9)
    np.testing.assert_allclose(scores["explicitness_test_per_factor"], areas, atol=1e-9)
    assert scores["explicitness_test"] == pytest.approx(np.mean(areas), abs=1e-9)
    scores = infomec(codes, factors, estimator="binned")
    np.testing.assert_allclose(scores["nmi"], assignment, atol=1e-12)
    assert scores["infom"] == pytest.approx(1, abs=1e-12)
    assert scores["infoc"] == pytest.approx(1, abs=1e-12)
    assert 0.995 < scores["infoe"] <= 1


@pytest.mark.parametrize(("order", "signs"), [([0, 1], [1, 1]), ([1, 0], [-1, 1])])
def test_perfect_codes_have_the_highest_possible_sap(order, signs):
    codes, factors = toy_codes.balanced()
    scores = sap(codes[:, order] * signs, factors[:, :2], num_train=144)
    # The accuracy of an uninformative latent is 1 / size on a grid.
    np.testing.assert_allclose(scores["scores"], np.where(np.eye(2)[order] > 0, 1, [1 / 2, 1 / 3]), atol=1e-12)
    np.testing.assert_allclose(scores["sap_per_factor"], [1 / 2, 2 / 3], atol=1e-12)
    assert scores["sap"] == pytest.approx(7 / 12, abs=1e-12)


def test_one_latent_per_value_is_fully_explicit():
    _, factors = toy_codes.balanced()
    codes = np.concatenate([np.eye(size)[factor] for size, factor in zip(SIZES, factors.T, strict=True)], axis=1)
    scores = modularity_explicitness(codes, factors, num_train=144)
    assert scores["explicitness_train"] == scores["explicitness_test"] == 1
    assert scores["modularity"] == pytest.approx(1, abs=1e-12)


def test_perfect_codes_of_continuous_factors():
    factors = toy_codes.in_both_parts(np.tile(toy_codes.grid(6, 5, 4) / 7 - 0.3, (2, 1)))
    codes, half, continuous = factors[:, ::-1] * [3, -1, 2], len(factors) // 2, [True] * 3
    assignment = np.eye(3)[::-1]
    scores = sap(codes, factors, continuous, num_train=half)
    np.testing.assert_allclose(scores["scores"], assignment, atol=1e-12)
    assert scores["sap"] == pytest.approx(1, abs=1e-12)
    # Soft thresholding shortens the one weight to 1 - alpha, which leaves alpha^2 of the variance.
    scores = dci(codes, factors, "linear", num_train=half, continuous=continuous, lasso_alpha=0.1)
    np.testing.assert_allclose(scores["importance"], (1 - 0.1) * assignment, atol=1e-9)
    np.testing.assert_allclose(scores["informativeness_train_per_factor"], 1 - 0.1**2, atol=1e-9)
    assert scores["informativeness_test"] == pytest.approx(1 - 0.1**2, abs=1e-9)
    scores = dci(codes, factors, "trees", num_train=half, continuous=continuous)
    np.testing.assert_allclose(scores["importance"], assignment, atol=1e-6)
    assert 0.99 < scores["informativeness_test"] <= 1
    scores = infomec(codes, factors, continuous, "binned")
    np.testing.assert_allclose(scores["nmi"], assignment, atol=1e-12)
    assert scores["infom"] == pytest.approx(1)
    assert scores["infoc"] == pytest.approx(1)
    assert scores["infoe"] == pytest.approx(1, abs=1e-9)


def test_useless_codes_score_low():
    rng = np.random.default_rng(0)
    factors = rng.integers(3, size=(900, 3))
    codes = rng.normal(size=(900, 4))
    for model in ("trees", "linear"):
        scores = dci(codes, factors, model)
        assert scores["disentanglement"] < 0.2
        assert scores["completeness"] < 0.2
        assert scores["informativeness_test"] == pytest.approx(1 / 3, abs=0.06)
    assert sap(codes, factors)["sap"] < 0.05
    assert modularity_explicitness(codes, factors)["explicitness_test"] == pytest.approx(0.5, abs=0.05)
    scores = infomec(codes, factors, estimator="binned")
    assert scores["infom"] < 0.15
    assert scores["infoc"] < 0.15
    assert scores["infoe"] < 0.02


def test_duplicated_codes_have_closed_forms():
    codes, factors = toy_codes.balanced()
    twice = np.concatenate([codes, codes], axis=1)
    scores = sap(twice, factors, num_train=144)
    assert scores["sap"] == 0
    assert scores["scores"].max(axis=0)[:2] == pytest.approx(1)
    # Equal weights for equal latents: two of six latents share each factor.
    scores = dci(twice, factors, "linear", num_train=144)
    np.testing.assert_allclose(scores["completeness_per_factor"], 1 - np.log(2) / np.log(6), atol=1e-6)
    assert scores["disentanglement"] == pytest.approx(1, abs=1e-5)
    # Trees choose one of the two at random, evenly only on average.
    scores = dci(twice, factors, "trees", num_train=144)
    assert scores["completeness"] == pytest.approx(1 - np.log(2) / np.log(6), abs=0.1)
    assert scores["disentanglement"] == pytest.approx(1, abs=1e-5)
    scores = infomec(twice, factors, estimator="binned")
    assert scores["infoc"] == pytest.approx((1 / 2 - 1 / 6) / (1 - 1 / 6), abs=1e-12)
    assert scores["infom"] == pytest.approx(1, abs=1e-12)
    assert modularity_explicitness(twice, factors, num_train=144)["modularity"] == pytest.approx(1, abs=1e-12)


def test_rotated_codes_score_between_perfect_and_useless():
    factors = toy_codes.in_both_parts(np.tile(toy_codes.grid(3, 3), (25, 1)))
    codes = 3.0 * (factors - 1) + np.random.default_rng(1).normal(size=factors.shape)
    cos, sin = np.cos(0.4), np.sin(0.4)
    slightly = codes @ np.array([[cos, -sin], [sin, cos]])
    fully = codes @ np.array([[1, -1], [1, 1]]) / np.sqrt(2)
    perfect, between, low = (_disentanglement_scores(z, factors) for z in (codes, slightly, fully))
    for name in perfect:
        assert perfect[name] > between[name] + 0.05 > low[name] + 0.1, (name, perfect, between, low)
    # A linear model of all latents can undo the rotation.
    assert infomec(fully, factors)["infoe"] == pytest.approx(infomec(codes, factors)["infoe"], abs=0.01)


def test_modularity_has_closed_forms():
    f0, f1 = toy_codes.in_both_parts(np.tile(toy_codes.grid(2, 2), (5, 1))).T
    # In units of log 2, information on (f0, f1): (1, 0), (1, 1), (1/2, 1/2), (1, 1/2), (0, 0).
    codes = np.stack([f0, 2 * f0 + f1, f0 + f1, 2 * f0 + f0 * f1, 0 * f0], axis=1)
    scores = modularity_explicitness(codes, np.stack([f0, f1], axis=1), num_train=20)
    np.testing.assert_allclose(scores["modularity_per_latent"], [1, 0, 0, 3 / 4, 0], atol=1e-12)
    assert scores["modularity"] == pytest.approx(7 / 20, abs=1e-12)
    three = toy_codes.in_both_parts(np.tile(toy_codes.grid(2, 2, 2), (5, 1)))
    scores = modularity_explicitness(three[:, :1] + three[:, 1:2], three, num_train=40)
    assert scores["modularity"] == pytest.approx(1 / 2, abs=1e-12)


def test_infomec_has_closed_forms():
    f0, f1 = np.tile(toy_codes.grid(2, 2), (5, 1)).T
    codes, factors = np.stack([f0, 2 * f0 + f0 * f1, 0 * f0], axis=1), np.stack([f0, f1], axis=1)
    scores = infomec(codes, factors, estimator="discrete")
    np.testing.assert_allclose(scores["nmi"], [[1, 0], [1, 1 / 2], [0, 0]], atol=1e-12)
    np.testing.assert_array_equal(scores["active"], [True, True, False])
    assert scores["infom"] == pytest.approx(((1 + 2 / 3) / 2 - 1 / 2) * 2, abs=1e-12)
    assert scores["infoc"] == pytest.approx(((1 / 2 + 1) / 2 - 1 / 2) * 2, abs=1e-12)


def test_linear_dci_does_not_scale_weights_per_factor():
    # Factor 0 is latent 0; factor 1 is a mixture. P of latent 0 is the ratio of the weights, not scaled per factor.
    codes = np.random.default_rng(0).standard_normal((4_000, 2))
    factors = codes @ np.array([[1.0, 0.6], [0.0, 0.8]])
    scores = dci(codes, factors, model="linear", lasso_alpha=1e-6, continuous=[True, True])
    np.testing.assert_allclose(scores["importance"], [[1.0, 0.6], [0.0, 0.8]], atol=0.03)
    share = np.array([1.0, 0.6]) / 1.6
    first_score = 1 + (share * np.log(share)).sum() / np.log(2)
    weights = np.array([1.6, 0.8]) / 2.4
    np.testing.assert_allclose(scores["disentanglement"], weights @ [first_score, 1.0], atol=0.03)


def test_linear_dci_weights_completeness_of_factors_equally():
    # Three independent signs, the third not in the codes. Factor 0 is the first; factor 1 has correlation 0.3 with each
    # of the first two. Soft thresholding subtracts alpha from each weight: R = [[0.9, 0.2], [0, 0.2]].
    signs = toy_codes.in_both_parts(np.tile(2.0 * toy_codes.grid(2, 2, 2) - 1, (5, 1)))
    factors = np.stack([5 * signs[:, 0], signs @ [0.3, 0.3, np.sqrt(1 - 0.18)]], axis=1)
    scores = dci(7 * signs[:, :2], factors, "linear", num_train=40, continuous=[True, True], lasso_alpha=0.1)
    np.testing.assert_allclose(scores["importance"], [[0.9, 0.2], [0, 0.2]], atol=1e-9)
    share = np.array([0.9, 0.2]) / 1.1
    assert scores["disentanglement"] == pytest.approx(
        (1.1 + 1.1 * (share * np.log2(share)).sum() + 0.2) / 1.3, abs=1e-9
    )
    np.testing.assert_allclose(scores["completeness_per_factor"], [1, 0], atol=1e-9)
    assert scores["completeness"] == pytest.approx(1 / 2, abs=1e-9)
