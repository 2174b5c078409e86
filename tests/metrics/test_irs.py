"""IRS: closed forms, its definition, constant latents."""

import numpy as np
import pytest
import toy_codes

from deft_jax.metrics.irs import irs


def test_irs_of_perfect_codes_is_one():
    factors = toy_codes.grid(4, 10, 3)
    scores = irs(factors[:, [2, 0, 1]] * [-2.0, 0.3, 7.0] + 1, factors)
    assert scores["irs"] == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(scores["irs_per_latent"], 1, atol=1e-12)
    np.testing.assert_array_equal(scores["irs_factor"], [2, 0, 1])
    assert scores["irs_num_active"] == 3


def test_irs_within_a_bin_has_a_closed_form():
    # Twenty values in ten bins: half a step from the mean of a bin, 9.5 steps from the mean of all.
    factors = toy_codes.grid(20, 3)
    assert irs(factors[:, :1] * 1.0, factors)["irs"] == pytest.approx(1 - 0.5 / 9.5)
    assert irs(factors[:, :1] * 1.0, factors, num_bins=20)["irs"] == pytest.approx(1)


def test_irs_of_rotated_codes_is_one_half():
    # a + b with a, b in -2 .. 2 ranges to 4; with a fixed it ranges to 2.
    factors = toy_codes.grid(5, 5)
    rotated = factors @ np.array([[1.0, 1.0], [1.0, -1.0]])
    scores = irs(rotated, factors, difference_quantile=1)
    np.testing.assert_allclose(scores["irs_per_latent"], 0.5, atol=1e-12)
    assert scores["irs"] == pytest.approx(0.5)


def test_irs_of_uniform_noise_is_one_minus_the_quantile():
    factors = toy_codes.grid(8, 9, 100, 4)
    codes, factors = toy_codes.hash_noise(factors), factors[:, [0, 1, 3]]
    assert irs(codes, factors)["irs"] == pytest.approx(0.01, abs=0.003)
    assert irs(codes, factors, difference_quantile=0.5)["irs"] == pytest.approx(0.5, abs=0.02)


def test_irs_weights_latents_by_their_largest_deviation():
    # The largest deviation is 3 * 2 = 6 of a perfect latent, 4 of a rotated one (score 1/2).
    factors = toy_codes.grid(5, 5)
    codes = np.stack([3.0 * factors[:, 0], factors.sum(axis=1)], axis=1)
    scores = irs(codes, factors, difference_quantile=1)
    np.testing.assert_allclose(scores["irs_per_latent"], [1, 0.5], atol=1e-12)
    assert scores["irs"] == pytest.approx((6 * 1 + 4 * 0.5) / 10)


def test_irs_equals_the_loop_of_its_definition():
    factors = toy_codes.grid(5, 6, 7)
    codes = toy_codes.partly_informative(factors)
    scores = irs(codes, factors, difference_quantile=0.9)
    for d, code in enumerate(codes.T):
        robustness = []
        for factor in factors.T:
            deviations = [
                np.quantile(abs(code[factor == v] - code[factor == v].mean()), 0.9) for v in range(factor.max() + 1)
            ]
            robustness.append(1 - np.mean(deviations) / max(abs(code - code.mean())))
        assert scores["irs_per_latent"][d] == pytest.approx(max(robustness))
        assert scores["irs_factor"][d] == robustness.index(max(robustness))


@pytest.mark.filterwarnings("error")
def test_irs_leaves_constant_latents_out():
    factors = toy_codes.grid(5, 6, 7)
    codes = toy_codes.partly_informative(factors)
    expected, more = irs(codes, factors), irs(np.insert(codes, [1, 4], 0.1, axis=1), factors)
    assert more["irs"] == expected["irs"]
    np.testing.assert_array_equal(more["irs_per_latent"], np.insert(expected["irs_per_latent"], [1, 4], 0))
    np.testing.assert_array_equal(more["irs_factor"], np.insert(expected["irs_factor"], [1, 4], -1))
    assert more["irs_num_active"] == 4
    collapsed = irs(np.full((len(factors), 2), 0.1), factors)
    assert collapsed["irs"] == collapsed["irs_num_active"] == 0
    np.testing.assert_array_equal(collapsed["irs_factor"], [-1, -1])
