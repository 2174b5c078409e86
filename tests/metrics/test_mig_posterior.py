"""MIG of posteriors: closed forms, bounds, symmetries, and the Monte Carlo estimate of its authors."""

import numpy as np
import pytest
import toy_codes
from scipy import integrate, stats

from deft_jax.metrics.mig_posterior import mig_posterior

FACTORS = toy_codes.grid(3, 4, 10)


def _logvar(std, shape):
    return np.broadcast_to(2 * np.log(np.asarray(std, float)), shape)


def _noisy(seed=0):
    """Three means follow a factor each, one follows two factors, one none; logvar differs among images."""
    rng = np.random.default_rng(seed)
    factors = np.tile(FACTORS, (4, 1))
    mixing = np.array([[1, 0, 0, 0.5, 0], [0, 0.7, 0, 0, 0], [0, 0, 0.3, 0.2, 0.0]])
    mean = factors @ mixing + 0.1 * rng.normal(size=(len(factors), 5))
    return mean, factors, rng.uniform(-4, 0, mean.shape)


def test_posteriors_without_overlap_score_one():
    mean = 100.0 * FACTORS
    scores = mig_posterior(mean, FACTORS, _logvar(1.0, mean.shape))
    np.testing.assert_allclose(scores["mig_posterior_nmi"], np.eye(3), atol=1e-9)
    assert scores["mig_posterior"] == pytest.approx(1, abs=1e-9)


def test_posteriors_equal_to_the_prior_score_zero():
    mean = np.zeros((len(FACTORS), 4))
    scores = mig_posterior(mean, FACTORS, mean)
    np.testing.assert_allclose(scores["mig_posterior_nmi"], 0, atol=1e-12)


@pytest.mark.parametrize("distance", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("std", [0.05, 1.0, 7.0])
def test_binary_factor_has_the_information_of_two_gaussians(distance, std):
    factors = np.array([[0], [1]] * 8)
    mean = distance * std * (2 * factors - 1) + 3.0

    def integrand(z):
        q = 0.5 * (stats.norm.pdf(z, distance) + stats.norm.pdf(z, -distance))
        return -q * np.log(q)

    mixture = integrate.quad(integrand, -distance - 12, distance + 12, limit=200)[0]
    nats = mixture - 0.5 * np.log(2 * np.pi * np.e)
    scores = mig_posterior(mean, factors, _logvar(std, mean.shape))
    assert scores["mig_posterior"] == pytest.approx(nats / np.log(2), abs=1e-5)


def test_gaussian_means_approach_the_capacity_of_a_gaussian_channel():
    values = 2_000
    mean = 3.0 * stats.norm.ppf((np.arange(values) + 0.5) / values)[:, None]
    scores = mig_posterior(mean, np.arange(values)[:, None], np.zeros_like(mean), continuous=False)
    assert scores["mig_posterior"] * np.log(values) == pytest.approx(0.5 * np.log(10), abs=2e-3)


def test_information_equals_the_monte_carlo_estimate_of_the_definition():
    mean, factors, logvar = _noisy()
    rng = np.random.default_rng(1)
    std = np.exp(0.5 * logvar)

    def entropy(rows, latent):
        drawn = rng.choice(rows, 1_000)
        z = rng.normal(mean[drawn, latent], std[drawn, latent])
        return -np.log(stats.norm.pdf(z[:, None], mean[rows, latent], std[rows, latent]).mean(axis=1)).mean()

    scores = mig_posterior(mean, factors, logvar)["mig_posterior_nmi"]
    all_rows = np.arange(len(mean))
    for latent in (0, 3):
        for f, size in enumerate((3, 4, 10)):
            within = np.mean([entropy(np.flatnonzero(factors[:, f] == k), latent) for k in range(size)])
            nats = entropy(all_rows, latent) - within
            assert scores[latent, f] == pytest.approx(nats / np.log(size), abs=0.06)
    assert scores[0, 0] > 0.3


def test_information_is_at_most_the_entropy_and_decreases_with_wider_posteriors():
    mean, factors, logvar = _noisy()
    narrow, wide = (mig_posterior(mean, factors, logvar + more)["mig_posterior_nmi"] for more in (0, 2))
    assert narrow.min() >= 0
    assert narrow.max() <= 1
    assert np.all(wide[:4].max(axis=0) < narrow[:4].max(axis=0))


def test_shift_scale_and_order_do_not_matter():
    mean, factors, logvar = _noisy()
    scores = mig_posterior(mean, factors, logvar)
    scale = np.array([0.01, 0.5, 3.0, -20.0, 1.0])
    transformed = mig_posterior(mean * scale + 4, factors, logvar + 2 * np.log(np.abs(scale)))
    np.testing.assert_allclose(transformed["mig_posterior_nmi"], scores["mig_posterior_nmi"], atol=1e-7)
    rng = np.random.default_rng(2)
    rows, latents = rng.permutation(len(mean)), rng.permutation(5)
    transformed = mig_posterior(mean[rows][:, latents], factors[rows], logvar[rows][:, latents])
    np.testing.assert_allclose(transformed["mig_posterior_nmi"], scores["mig_posterior_nmi"][latents], atol=1e-10)
    assert transformed["mig_posterior"] == pytest.approx(scores["mig_posterior"], abs=1e-10)


def test_gaps_are_those_of_the_two_best_latents_and_zero_with_a_copy():
    mean, factors, logvar = _noisy()
    scores = mig_posterior(mean, factors, logvar)
    ordered = np.sort(scores["mig_posterior_nmi"], axis=0)
    np.testing.assert_allclose(scores["mig_posterior_per_factor"], ordered[-1] - ordered[-2])
    assert scores["mig_posterior"] == pytest.approx(scores["mig_posterior_per_factor"].mean())
    twice = mig_posterior(np.tile(mean, 2), factors, np.tile(logvar, 2))
    assert twice["mig_posterior"] == pytest.approx(0, abs=1e-12)


def test_mean_over_selected_factors():
    mean, factors, logvar = _noisy()
    gaps = mig_posterior(mean, factors, logvar)["mig_posterior_per_factor"]
    scores = mig_posterior(mean, factors, logvar, average_over=(1, 2))
    assert scores["mig_posterior"] == pytest.approx(gaps[1:].mean())
    np.testing.assert_array_equal(scores["mig_posterior_per_factor"], gaps)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_posteriors_of_zero_width_count_as_narrow(offset):
    mean = 1.0 * FACTORS + offset
    scores = mig_posterior(mean, FACTORS, np.full_like(mean, -3_000.0))
    np.testing.assert_allclose(scores["mig_posterior_nmi"], np.eye(3), atol=1e-6)
    scores = mig_posterior(np.full_like(mean, offset), FACTORS, np.full_like(mean, -3_000.0))
    np.testing.assert_allclose(scores["mig_posterior_nmi"], 0, atol=1e-9)


@pytest.mark.filterwarnings("error")
def test_posteriors_of_huge_width_score_zero():
    mean = 1.0 * FACTORS
    scores = mig_posterior(mean, FACTORS, np.full_like(mean, 3_000.0))
    np.testing.assert_allclose(scores["mig_posterior_nmi"], 0, atol=1e-9)


def test_labels_may_be_any_integers():
    mean, factors, logvar = _noisy()
    scores = mig_posterior(mean, factors, logvar)
    transformed = mig_posterior(mean, factors * 1_000_003 + 5, logvar)
    np.testing.assert_array_equal(transformed["mig_posterior_nmi"], scores["mig_posterior_nmi"])


@pytest.mark.parametrize(("change", "message"), [
    ({"logvar": np.zeros((480, 4))}, r"logvar must have the shape of the codes, got \(480, 4\) and \(480, 5\)"),
    ({"logvar": np.full((480, 5), np.inf)}, "logvar must be finite"),
    ({"average_over": ()}, r"average_over must be different indices from 0 to 2, got \(\)"),
    ({"average_over": (0, 3)}, "average_over must be different indices"),
    ({"average_over": (1, 1)}, "average_over must be different indices"),
    ({"average_over": (0.5,)}, "average_over must be different indices"),
])
def test_bad_inputs_are_refused(change, message):
    mean, factors, logvar = _noisy()
    with pytest.raises(ValueError, match=message):
        mig_posterior(**{"codes": mean, "factors": factors, "logvar": logvar} | change)
