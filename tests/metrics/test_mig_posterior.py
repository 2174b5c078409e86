"""MIG of posteriors: closed forms, bounds, symmetries, and the Monte Carlo estimate that its authors describe."""

import numpy as np
import pytest
from scipy import integrate, stats

from deft_jax import metrics
from deft_jax.metrics.mig_posterior import mig_posterior

FACTORS = np.stack(np.meshgrid(*map(range, (3, 4, 10)), indexing="ij"), axis=-1).reshape(-1, 3)


def _logvar(spread, shape):
    return np.broadcast_to(2 * np.log(np.asarray(spread, float)), shape)


def _noisy(seed=0):
    """Means that follow a factor each, one that follows two, one that follows none; each image has its own logvar."""
    rng = np.random.default_rng(seed)
    factors = np.tile(FACTORS, (4, 1))
    mixing = np.array([[1, 0, 0, 0.5, 0], [0, 0.7, 0, 0, 0], [0, 0, 0.3, 0.2, 0.0]])
    mean = factors @ mixing + 0.1 * rng.normal(size=(len(factors), 5))
    return mean, factors, rng.uniform(-4, 0, mean.shape)


def test_posteriors_that_do_not_overlap_know_their_factor_whole():
    mean = 100.0 * FACTORS
    found = mig_posterior(mean, FACTORS, _logvar(1.0, mean.shape))
    np.testing.assert_allclose(found["mig_posterior_nmi"], np.eye(3), atol=1e-9)
    assert found["mig_posterior"] == pytest.approx(1, abs=1e-9)


def test_posteriors_that_are_the_prior_know_nothing():
    mean = np.zeros((len(FACTORS), 4))
    found = mig_posterior(mean, FACTORS, mean)
    np.testing.assert_allclose(found["mig_posterior_nmi"], 0, atol=1e-12)


@pytest.mark.parametrize("apart", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("spread", [0.05, 1.0, 7.0])
def test_a_binary_factor_has_the_information_of_two_gaussians(apart, spread):
    factors = np.array([[0], [1]] * 8)
    mean = apart * spread * (2 * factors - 1) + 3.0

    def integrand(z):
        q = 0.5 * (stats.norm.pdf(z, apart) + stats.norm.pdf(z, -apart))
        return -q * np.log(q)

    mixture = integrate.quad(integrand, -apart - 12, apart + 12, limit=200)[0]
    nats = mixture - 0.5 * np.log(2 * np.pi * np.e)
    found = mig_posterior(mean, factors, _logvar(spread, mean.shape))
    assert found["mig_posterior"] == pytest.approx(nats / np.log(2), abs=1e-5)


def test_many_values_of_a_gaussian_mean_approach_the_capacity_of_a_gaussian_channel():
    values = 2_000
    mean = 3.0 * stats.norm.ppf((np.arange(values) + 0.5) / values)[:, None]
    found = mig_posterior(mean, np.arange(values)[:, None], np.zeros_like(mean), continuous=False)
    assert found["mig_posterior"] * np.log(values) == pytest.approx(0.5 * np.log(10), abs=2e-3)


def test_it_equals_the_monte_carlo_estimate_of_the_definition():
    mean, factors, logvar = _noisy()
    rng = np.random.default_rng(1)
    spread = np.exp(0.5 * logvar)

    def entropy(rows, latent):
        drawn = rng.choice(rows, 1_000)
        z = rng.normal(mean[drawn, latent], spread[drawn, latent])
        return -np.log(stats.norm.pdf(z[:, None], mean[rows, latent], spread[rows, latent]).mean(axis=1)).mean()

    found = mig_posterior(mean, factors, logvar)["mig_posterior_nmi"]
    everything = np.arange(len(mean))
    for latent in (0, 3):
        for f, size in enumerate((3, 4, 10)):
            within = np.mean([entropy(np.flatnonzero(factors[:, f] == k), latent) for k in range(size)])
            nats = entropy(everything, latent) - within
            assert found[latent, f] == pytest.approx(nats / np.log(size), abs=0.06)
    assert found[0, 0] > 0.3


def test_information_lies_between_nothing_and_the_entropy_and_falls_with_wider_posteriors():
    mean, factors, logvar = _noisy()
    narrow, wide = (mig_posterior(mean, factors, logvar + more)["mig_posterior_nmi"] for more in (0, 2))
    assert narrow.min() >= 0
    assert narrow.max() <= 1
    assert np.all(wide[:4].max(axis=0) < narrow[:4].max(axis=0))


def test_shift_scale_and_order_do_not_matter():
    mean, factors, logvar = _noisy()
    found = mig_posterior(mean, factors, logvar)
    scale = np.array([0.01, 0.5, 3.0, -20.0, 1.0])
    moved = mig_posterior(mean * scale + 4, factors, logvar + 2 * np.log(np.abs(scale)))
    np.testing.assert_allclose(moved["mig_posterior_nmi"], found["mig_posterior_nmi"], atol=1e-7)
    rng = np.random.default_rng(2)
    rows, latents = rng.permutation(len(mean)), rng.permutation(5)
    moved = mig_posterior(mean[rows][:, latents], factors[rows], logvar[rows][:, latents])
    np.testing.assert_allclose(moved["mig_posterior_nmi"], found["mig_posterior_nmi"][latents], atol=1e-10)
    assert moved["mig_posterior"] == pytest.approx(found["mig_posterior"], abs=1e-10)


def test_gaps_are_those_of_the_two_best_latents_and_a_copy_closes_them():
    mean, factors, logvar = _noisy()
    found = mig_posterior(mean, factors, logvar)
    ordered = np.sort(found["mig_posterior_nmi"], axis=0)
    np.testing.assert_allclose(found["mig_posterior_per_factor"], ordered[-1] - ordered[-2])
    assert found["mig_posterior"] == pytest.approx(found["mig_posterior_per_factor"].mean())
    twice = mig_posterior(np.tile(mean, 2), factors, np.tile(logvar, 2))
    assert twice["mig_posterior"] == pytest.approx(0, abs=1e-12)


def test_the_mean_may_leave_factors_out():
    mean, factors, logvar = _noisy()
    gaps = mig_posterior(mean, factors, logvar)["mig_posterior_per_factor"]
    found = mig_posterior(mean, factors, logvar, average_over=(1, 2))
    assert found["mig_posterior"] == pytest.approx(gaps[1:].mean())
    np.testing.assert_array_equal(found["mig_posterior_per_factor"], gaps)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_a_posterior_of_no_width_is_a_narrow_one(offset):
    mean = 1.0 * FACTORS + offset
    found = mig_posterior(mean, FACTORS, np.full_like(mean, -3_000.0))
    np.testing.assert_allclose(found["mig_posterior_nmi"], np.eye(3), atol=1e-6)
    found = mig_posterior(np.full_like(mean, offset), FACTORS, np.full_like(mean, -3_000.0))
    np.testing.assert_allclose(found["mig_posterior_nmi"], 0, atol=1e-9)


@pytest.mark.filterwarnings("error")
def test_posteriors_that_run_away_know_nothing():
    mean = 1.0 * FACTORS
    found = mig_posterior(mean, FACTORS, np.full_like(mean, 3_000.0))
    np.testing.assert_allclose(found["mig_posterior_nmi"], 0, atol=1e-9)


def test_values_need_not_count_from_zero():
    mean, factors, logvar = _noisy()
    found = mig_posterior(mean, factors, logvar)
    moved = mig_posterior(mean, factors * 1_000_003 + 5, logvar)
    np.testing.assert_array_equal(moved["mig_posterior_nmi"], found["mig_posterior_nmi"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"logvar": np.zeros((480, 4))}, r"logvar must have the shape of the codes, got \(480, 4\) and \(480, 5\)"),
        ({"logvar": np.full((480, 5), np.inf)}, "logvar must be finite"),
        ({"factors": np.zeros((480, 3), int)}, "factor 0 is constant in the sample"),
        ({"codes": np.full((480, 5), np.nan)}, "codes must be finite"),
        ({"average_over": ()}, r"average_over must be different indices from 0 to 2, got \(\)"),
        ({"average_over": (0, 3)}, "average_over must be different indices"),
        ({"average_over": (1, 1)}, "average_over must be different indices"),
        ({"average_over": (0.5,)}, "average_over must be different indices"),
    ],
)
def test_what_does_not_fit_is_refused(change, told):
    mean, factors, logvar = _noisy()
    with pytest.raises(ValueError, match=told):
        mig_posterior(**{"codes": mean, "factors": factors, "logvar": logvar} | change)


def test_by_name_it_asks_for_logvar():
    mean, factors, logvar = _noisy()
    assert metrics.kind("mig_posterior") == "posteriors"
    found = metrics.compute("mig_posterior", mean, factors, logvar=logvar)
    assert found["mig_posterior"] == mig_posterior(mean, factors, logvar)["mig_posterior"]
    with pytest.raises(ValueError, match="looks at posteriors: give their logvar"):
        metrics.compute("mig_posterior", mean, factors)
