"""Home and foreign information, and diffusion: closed forms, bias and standard error, and what counts as diffusion."""

import numpy as np
import pytest
import toy_codes
from scipy import stats

from deft_jax.metrics.diffusion import Diffusion, Ledger, diffusion
from deft_jax.metrics.foreign import foreign
from deft_jax.metrics.information_ledger import estimate
from deft_jax.metrics.mig_posterior import mig_posterior

LOG2 = np.log(2)


def _precise(codes):
    """Logvars of posteriors that do not overlap, where codes differ by 1 or more."""
    return np.full(np.shape(codes), -8.0)


def _gaussian_model(values=60, weights=(1.0, 0.5), std=0.2):
    """z = a v + b u + std noise, two factors with nearly normal values: mean [N, 1], factors [N, 2], logvar [N, 1]."""
    factors = toy_codes.grid(values, values)
    normal = stats.norm.ppf((np.arange(values) + 0.5) / values)
    mean = (normal / normal.std())[factors] @ np.array(weights)[:, None]
    return mean, factors, np.full(mean.shape, 2 * np.log(std))


def _channel(signal, noise):
    """Capacity of a Gaussian channel in nats."""
    return 0.5 * np.log1p(signal / noise)


def test_perfect_code_has_nothing_foreign_and_no_spread():
    factors = toy_codes.grid(3, 4, 5)
    scores = foreign(1.0 * factors, factors, _precise(factors))
    np.testing.assert_allclose(scores["factor_information"], np.diag(np.log([3, 4, 5])), atol=1e-7)
    for name in ("foreign", "foreign_pairwise", "foreign_interplay", "foreign_rest", "spread"):
        assert scores[name] == pytest.approx(0, abs=1e-7)
    assert scores["home"].tolist() == [0, 1, 2]


def test_two_binary_factors_rotated_by_45_degrees():
    codes, factors = toy_codes.rotated_binary()
    scores = foreign(codes, factors, _precise(codes), min_images=1)
    np.testing.assert_allclose(scores["information"], 1.5 * LOG2)
    np.testing.assert_allclose(scores["factor_information"], 0.5 * LOG2)
    assert scores["foreign"] == pytest.approx(2 / 3)
    assert scores["foreign_pairwise"] == pytest.approx(1 / 3)
    assert scores["spread"] == pytest.approx(1 / 2)


def test_two_normal_factors_rotated_by_45_degrees():
    noise = 0.1**2
    scores = foreign(*_gaussian_model(80, (0.5**0.5, 0.5**0.5), 0.1))
    assert scores["foreign"] == pytest.approx(_channel(0.5, noise) / _channel(1, noise), abs=0.01)
    assert scores["foreign_pairwise"] == pytest.approx(_channel(0.5, 0.5 + noise) / _channel(1, noise), abs=0.01)


def test_duplicated_latent_is_spread_and_not_foreign():
    factors = toy_codes.grid(4, 4)
    codes = 1.0 * factors[:, [0, 0, 1, 1]]
    scores = foreign(codes, factors, _precise(codes))
    assert scores["foreign"] == pytest.approx(0, abs=1e-7)
    np.testing.assert_allclose(scores["spread_per_factor"], 1 / 2)
    assert scores["spread"] == pytest.approx(1 / 2)


def test_spread_is_weighed_by_what_is_known_of_a_factor():
    factors = toy_codes.grid(2, 16)
    codes = 1.0 * factors[:, [0, 0, 1]]  # 2 log 2 nats of the first, spread over two latents, and 4 log 2 of the second
    scores = foreign(codes, factors, _precise(codes))
    np.testing.assert_allclose(scores["spread_per_factor"], [1 / 2, 0], atol=1e-7)
    assert scores["spread"] == pytest.approx(1 / 6)


def test_gaussian_model_has_its_analytic_information():
    signal, other, noise = 1.0, 0.5**2, 0.2**2
    scores = foreign(*_gaussian_model())
    total, home = _channel(signal + other, noise), _channel(signal, other + noise)
    alone = _channel(other, signal + noise)
    assert scores["information"][0] == pytest.approx(total, abs=0.01)
    np.testing.assert_allclose(scores["factor_information"][0], [home, alone], atol=0.02)
    assert scores["foreign"] == pytest.approx((total - home) / total, abs=0.01)
    assert scores["foreign_pairwise"] == pytest.approx(alone / total, abs=0.01)


def test_account_of_a_gaussian_model_has_the_interplay_of_its_factors():
    signal, other, noise = 1.0, 0.5**2, 0.2**2
    mean, factors, logvar = (np.tile(array, (5, 1)) for array in _gaussian_model())
    scores = foreign(mean, factors, logvar)
    assert scores["account_factor"].tolist() == [[1]]
    assert scores["account_information"][0, 0] == pytest.approx(_channel(other, noise), abs=0.02)
    interplay = _channel(other, noise) - _channel(other, signal + noise)
    assert scores["foreign_interplay"] * scores["information"][0] == pytest.approx(interplay, abs=0.02)
    assert scores["foreign_rest"] == pytest.approx(0, abs=0.02)


def test_exclusive_or_is_all_interplay():
    factors = np.tile(toy_codes.grid(2, 2, 2), (200, 1))
    codes = 1.0 * (factors[:, :1] ^ factors[:, 1:2])
    scores = foreign(codes, factors, _precise(codes))
    assert scores["foreign"] == pytest.approx(1)
    assert scores["foreign_pairwise"] == pytest.approx(0, abs=1e-7)
    assert scores["foreign_interplay"] == pytest.approx(1, abs=0.01)
    assert scores["foreign_rest"] == pytest.approx(0, abs=0.01)


def test_too_few_images_per_combination_leave_the_rest_open():
    codes, factors = toy_codes.rotated_binary()
    scores = foreign(codes, factors, _precise(codes))  # one image per combination
    assert (scores["account_factor"] == -1).all()
    assert scores["foreign_rest"] == scores["foreign"]


def test_code_unrelated_to_the_factors_is_foreign():
    factors = np.tile(toy_codes.grid(3, 4), (6, 1))
    codes = np.repeat(np.arange(6.0), 12)[:, None]
    scores = foreign(codes, factors, _precise(codes))
    assert scores["information"][0] == pytest.approx(np.log(6))
    assert scores["foreign"] == pytest.approx(1, abs=1e-7)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("logvar", [0.0, -3_000.0, 3_000.0])
def test_empty_latents_have_no_share(logvar):
    factors = toy_codes.grid(3, 4)
    scores = foreign(np.ones((12, 2)), factors, np.full((12, 2), logvar))
    assert (scores["foreign"], scores["spread"], scores["foreign_pairwise"]) == (0, 0, 0)
    assert not scores["taken"].any()


def test_information_on_factors_is_that_of_mig_posterior():
    codes, factors = toy_codes.noisy()
    logvar = np.random.default_rng(1).uniform(-4, 0, codes.shape)
    scores = foreign(codes, factors, logvar)
    nmi = mig_posterior(codes, factors, logvar)["mig_posterior_nmi"]
    entropy = np.array([stats.entropy(np.bincount(column)) for column in factors.T])
    np.testing.assert_allclose(scores["factor_information"], nmi * entropy, atol=1e-6)


def test_shift_scale_and_order_do_not_matter():
    codes, factors = toy_codes.noisy(300)
    logvar = np.random.default_rng(1).uniform(-4, 0, codes.shape)
    scores = foreign(codes, factors, logvar)
    scale = np.array([0.01, 0.5, 3.0, -20.0, 1.0])
    rows, latents = np.random.default_rng(2).permutation(300), np.array([2, 0, 4, 1, 3])
    moved = foreign((codes * scale + 4)[rows][:, latents], 7 * factors[rows],
                    (logvar + 2 * np.log(np.abs(scale)))[rows][:, latents])  # fmt: skip
    np.testing.assert_allclose(moved["information"], scores["information"][latents], atol=1e-6)
    np.testing.assert_allclose(moved["factor_information"], scores["factor_information"][latents], atol=1e-6)
    for name in ("foreign", "foreign_pairwise", "spread", "foreign_standard_error", "foreign_bias"):
        assert moved[name] == pytest.approx(scores[name], abs=1e-6)


def test_bias_and_standard_error_are_those_of_repeated_draws():
    mean, factors, logvar = _gaussian_model(30, (0.8, 0.6), 0.3)
    whole = estimate(mean, logvar, factors).ledger
    rng = np.random.default_rng(0)
    bias = {}
    for size in (400, 800):
        draws = [estimate(*(array[rows] for array in (mean, logvar, factors)), num_images=len(mean))
                 for rows in rng.integers(len(mean), size=(60, size))]  # fmt: skip
        for share in ("foreign", "foreign_pairwise"):
            true, plug_in, corrected = (
                np.mean([getattr(of(draw), share) for draw in draws])
                for of in (lambda _: whole, lambda draw: draw.plug_in, lambda draw: draw.ledger)
            )
            bias[share, size] = plug_in - true
            assert plug_in - corrected == pytest.approx(plug_in - true, rel=0.25)
        deviation = np.std([draw.plug_in.foreign for draw in draws])
        assert np.mean([draw.foreign_error for draw in draws]) == pytest.approx(deviation, rel=0.3)
    for share in ("foreign", "foreign_pairwise"):  # halving the images doubles the bias: it is of first order
        assert bias[share, 400] / bias[share, 800] == pytest.approx(2, rel=0.3)
    assert bias["foreign", 400] < 0 < bias["foreign_pairwise", 400]


def test_spread_of_a_sample_is_corrected():
    rng = np.random.default_rng(0)
    factors = rng.integers(20, size=(1_000, 2))
    scores = [foreign(0.3 * factors, factors, np.full((1_000, 2), -1.0), num_images=count) for count in (None, 10**6)]
    assert scores[0]["spread"] - scores[1]["spread"] == pytest.approx(scores[1]["spread_bias"])
    assert scores[0]["spread"] > 0.02 > 4 * scores[1]["spread"]  # it is 0 of all images


def test_account_is_corrected_for_combinations_of_few_images():
    rng = np.random.default_rng(0)
    factors = np.stack([rng.integers(8, size=2_000), rng.integers(40, size=2_000)], axis=1)
    mean = factors[:, :1] + rng.normal(size=(2_000, 1))  # the second factor is not in it
    scores = foreign(mean, factors, np.full(mean.shape, -3.0))
    assert scores["account_information"].sum() < 0.05 * scores["foreign_information"][0]


def _ledger(*rows):
    """Of latents given as (information, information on each factor)."""
    return Ledger(np.array([row[0] for row in rows]), np.array([row[1] for row in rows]))


def test_refinement_of_the_home_is_no_diffusion():
    change = diffusion(_ledger((0.5, [0.4, 0.0])), _ledger((2.5, [2.4, 0.0])))
    assert change.income == pytest.approx(2.0)
    assert change.share == pytest.approx(0)


def test_refinement_of_a_trained_code_is_no_diffusion():
    factors = toy_codes.grid(16, 3)
    coarse, fine = (estimate(1.0 * factors[:, :1], np.full((48, 1), logvar), factors).ledger for logvar in (2.0, -4.0))
    change = diffusion(coarse, fine)
    assert change.income == pytest.approx(fine.information[0] - coarse.information[0])
    assert change.share == pytest.approx(0, abs=1e-9)


def test_new_factor_diffuses_into_a_taken_latent_and_not_into_a_free_one():
    before = _ledger((1.0, [1.0, 0.0]), (0.05, [0.0, 0.05]))
    change = diffusion(before, _ledger((1.3, [1.0, 0.3]), (0.75, [0.0, 0.75])))
    assert (change.income, change.diffused) == pytest.approx((1.0, 0.3))
    assert diffusion(before, _ledger((1.0, [1.0, 0.0]), (0.75, [0.0, 0.75]))).share == 0


def test_home_is_that_at_the_start_even_if_another_factor_takes_over():
    change = diffusion(_ledger((1.0, [1.0, 0.0])), _ledger((2.0, [0.5, 1.5])))
    assert (change.income, change.diffused) == pytest.approx((1.5, 1.5))


def test_interval_without_income_has_no_share():
    before = _ledger((1.0, [1.0, 0.0]))
    assert diffusion(before, before).share == 0
    assert diffusion(before, _ledger((0.5, [0.5, 0.0]))) == Diffusion(0.0, 0.0)


def test_intervals_add_up():
    total = Diffusion(1.0, 0.5) + Diffusion(3.0, 0.5)
    assert total.share == pytest.approx(0.25)


def test_ledgers_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="same latents and factors"):
        diffusion(_ledger((1.0, [1.0, 0.0])), _ledger((1.0, [1.0])))
