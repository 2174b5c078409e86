"""MIG-sup, JEMMIG and DCIMIG: closed forms, and the numbers of other implementations."""

import numpy as np
import pytest
import sklearn.metrics
import toy_codes

from deft_jax import metrics
from deft_jax.metrics.dcimig import dcimig
from deft_jax.metrics.jemmig import jemmig
from deft_jax.metrics.mig_sup import mig_sup

METRICS = (mig_sup, jemmig, dcimig)
LOG_BINS = np.log(20)


@pytest.mark.parametrize("metric", METRICS)
def test_perfect_codes_score_one(metric):
    factors = toy_codes.grid(3, 6, 20)
    assert metric(-2.5 * factors + 7, factors)[metric.__name__] == pytest.approx(1, abs=1e-12)
    factors = toy_codes.grid(2, 2, 2)
    for dtype in (bool, np.uint8, np.float32):
        assert metric(factors.astype(dtype), factors)[metric.__name__] == pytest.approx(1)


def test_rotated_codes_have_closed_forms():
    # a + b has 1/2 bit of either factor, and so has a - b; their entropies are 3/2 bit.
    codes, factors = toy_codes.rotated_binary()
    assert mig_sup(codes, factors)["mig_sup"] == pytest.approx(0, abs=1e-12)
    assert dcimig(codes, factors)["dcimig"] == pytest.approx(0, abs=1e-12)
    scores = jemmig(codes, factors)
    np.testing.assert_allclose(scores["jemmig_nats_per_factor"], 2 * np.log(2))
    assert scores["jemmig"] == pytest.approx(1 - 2 * np.log(2) / (np.log(2) + LOG_BINS))


def test_duplicates_lower_jemmig_only():
    factors = toy_codes.grid(3, 6)
    codes = np.concatenate([factors, factors], axis=1)
    assert mig_sup(codes, factors)["mig_sup"] == pytest.approx(1)
    assert dcimig(codes, factors)["dcimig"] == pytest.approx(1)
    entropy = np.log([3, 6])
    scores = jemmig(codes, factors)
    np.testing.assert_allclose(scores["jemmig_nats_per_factor"], entropy)
    np.testing.assert_allclose(scores["jemmig_per_factor"], LOG_BINS / (entropy + LOG_BINS))


def test_independent_codes_have_closed_forms():
    # The third column of the grid is exactly independent of the first two.
    factors, codes = np.split(toy_codes.grid(3, 6, 5), [2], axis=1)
    assert mig_sup(codes, factors)["mig_sup"] == 0
    assert dcimig(codes, factors)["dcimig"] == 0
    entropy = np.log([3, 6])
    scores = jemmig(codes, factors)
    np.testing.assert_allclose(scores["jemmig_per_factor"], 1 - (entropy + np.log(5)) / (entropy + LOG_BINS))


@pytest.mark.filterwarnings("error")
def test_constant_codes_have_closed_forms():
    factors = toy_codes.grid(3, 6)
    codes = np.full((18, 4), 0.1, np.float32)
    scores = mig_sup(codes, factors)
    assert (scores["mig_sup"], scores["mig_sup_num_active"]) == (0, 0)
    np.testing.assert_array_equal(scores["mig_sup_factor"], -1)
    assert dcimig(codes, factors)["dcimig"] == 0
    entropy = np.log([3, 6])
    np.testing.assert_allclose(jemmig(codes, factors)["jemmig_per_factor"], LOG_BINS / (entropy + LOG_BINS))


def test_one_latent_with_two_factors_has_closed_forms():
    factors = toy_codes.grid(3, 4)
    codes = factors @ [[4], [1]]
    assert mig_sup(codes, factors)["mig_sup"] == pytest.approx(0, abs=1e-12)
    # It has the information log 3 and log 4; the gap is credited to the second factor.
    scores = dcimig(codes, factors)
    assert scores["dcimig"] == pytest.approx(np.log(4 / 3) / np.log(12))
    np.testing.assert_allclose(scores["dcimig_per_factor"], [0, np.log(4 / 3) / np.log(4)])
    assert metrics.compute("mig", codes, factors)["mig"] == pytest.approx(1)


def test_constant_latents_change_neither_mig_sup_nor_dcimig():
    codes, factors = toy_codes.noisy()
    wider = np.insert(codes, [0, 3], 0.5, axis=1)
    assert mig_sup(wider, factors)["mig_sup"] == mig_sup(codes, factors)["mig_sup"]
    assert dcimig(wider, factors)["dcimig"] == dcimig(codes, factors)["dcimig"]


def test_mig_sup_leaves_out_latents_of_low_variance():
    codes, factors = toy_codes.noisy()
    narrow = codes * [1, 1, 1, 1, 0.05]
    scores = mig_sup(narrow, factors, min_variance=0.01)
    assert scores["mig_sup"] == pytest.approx(mig_sup(codes[:, :4], factors)["mig_sup"])
    assert scores["mig_sup_num_active"] == 4
    np.testing.assert_array_equal(scores["mig_sup_factor"][[0, 1, 2, 4]], [0, 1, 2, -1])
    assert mig_sup(narrow, factors)["mig_sup_num_active"] == 5


def test_one_factor_has_no_second():
    factors = toy_codes.grid(4, 3)
    for metric in METRICS:
        assert metric(factors[:, :1], factors[:, :1])[metric.__name__] == pytest.approx(1)


def test_jemmig_takes_the_lowest_joint_entropy_among_equals():
    # Columns 1 and 2 of the grid, with 5 and 2 values, are both independent of the factor.
    grid = toy_codes.grid(3, 5, 2)
    for order in ([1, 2], [2, 1]):
        scores = jemmig(grid[:, order], grid[:, :1])
        assert scores["jemmig_latent"] == [order.index(2)]
        assert scores["jemmig_nats_per_factor"] == pytest.approx(np.log(3) + np.log(2))


@pytest.mark.parametrize("num_bins", [5, 20])
def test_scores_equal_the_literal_definitions(num_bins):
    codes, factors = toy_codes.noisy()
    bins = np.stack([np.digitize(code, np.histogram(code, num_bins)[1][:-1]) for code in codes.T], axis=1)
    info = sklearn.metrics.mutual_info_score
    information = np.array([[info(b, v) for v in factors.T] for b in bins.T])
    entropy = np.array([info(v, v) for v in factors.T])

    shares = np.sort(information / entropy, axis=1)
    assert mig_sup(codes, factors, num_bins)["mig_sup"] == pytest.approx((shares[:, -1] - shares[:, -2]).mean())

    scores = []
    for f, factor in enumerate(factors.T):
        second, first = np.argsort(information[:, f])[-2:]
        joint = bins[:, first] * 100 + factor
        gap = info(joint, joint) - information[first, f] + information[second, f]
        scores.append(1 - gap / (entropy[f] + np.log(num_bins)))
    np.testing.assert_allclose(jemmig(codes, factors, num_bins)["jemmig_per_factor"], scores)

    credit = np.zeros(3)
    for row in information:
        second, first = np.argsort(row)[-2:]
        credit[first] = max(credit[first], row[first] - row[second])
    assert dcimig(codes, factors, num_bins)["dcimig"] == pytest.approx(credit.sum() / entropy.sum())
