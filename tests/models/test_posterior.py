"""Closed forms of diagonal Gaussians hold against integrals and moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deft_jax.metrics import kl_decomposition
from deft_jax.models.posterior import Posterior, kl_per_latent, log_density, reparameterise

information = jax.jit(kl_decomposition.information, static_argnames="num_images")


def test_kl_is_exactly_zero_at_the_prior():
    zeros = jnp.zeros((3, 2))
    assert np.all(np.asarray(kl_per_latent(Posterior(zeros, zeros))) == 0.0)


@pytest.mark.parametrize(("mean", "logvar"), [(0.0, -3.0), (1.5, 0.0), (-0.7, 0.8), (2.0, -2.0)])
def test_kl_equals_the_integral_of_q_times_the_log_ratio(mean, logvar):
    x = np.linspace(mean - 40, mean + 40, 800_001)
    log_q = -0.5 * (np.log(2 * np.pi) + logvar + (x - mean) ** 2 / np.exp(logvar))
    log_p = -0.5 * (np.log(2 * np.pi) + x**2)
    integral = np.trapezoid(np.exp(log_q) * (log_q - log_p), x)
    got = kl_per_latent(Posterior(jnp.full((1, 1), mean), jnp.full((1, 1), logvar)))
    np.testing.assert_allclose(np.asarray(got)[0, 0], integral, rtol=1e-5)


def test_kl_is_per_example_and_latent_and_positive_away_from_the_prior():
    mean = jax.random.normal(jax.random.key(0), (5, 3))
    logvar = jax.random.normal(jax.random.key(1), (5, 3))
    kl = kl_per_latent(Posterior(mean, logvar))
    assert kl.shape == (5, 3)
    assert np.all(np.asarray(kl) > 0)
    alone = kl_per_latent(Posterior(mean[2:3, 1:2], logvar[2:3, 1:2]))
    np.testing.assert_allclose(kl[2, 1], alone[0, 0], rtol=1e-6)


def test_reparameterised_samples_have_the_mean_and_variance_of_the_posterior():
    n = 200_000
    mean, logvar = jnp.array([-1.0, 0.0, 3.0]), jnp.array([-2.0, 0.0, 1.0])
    posterior = Posterior(jnp.tile(mean, (n, 1)), jnp.tile(logvar, (n, 1)))
    z = np.asarray(reparameterise(posterior, jax.random.normal(jax.random.key(0), (n, 3))), np.float64)
    deviation = np.exp(np.asarray(logvar, np.float64) / 2)
    np.testing.assert_allclose(z.mean(0), mean, atol=5 * deviation.max() / np.sqrt(n))
    np.testing.assert_allclose(z.var(0), deviation**2, rtol=5 * np.sqrt(2 / n))


def test_log_density_integrates_to_one_and_has_the_entropy_of_a_gaussian():
    z = np.linspace(-30, 30, 60_001)
    log_q = np.asarray(log_density(jnp.asarray(z), Posterior(jnp.asarray(0.7), jnp.asarray(1.2))), np.float64)
    np.testing.assert_allclose(np.trapezoid(np.exp(log_q), z), 1, rtol=1e-5)
    entropy = -np.trapezoid(np.exp(log_q) * log_q, z)
    np.testing.assert_allclose(entropy, 0.5 * (1 + np.log(2 * np.pi) + 1.2), rtol=1e-5)


def blobs(count, latents, spread=3.0, logvar=-4.0, seed=0):
    mean = spread * jax.random.normal(jax.random.key(seed), (count, latents))
    return Posterior(mean, jnp.full((count, latents), logvar)), jax.random.normal(jax.random.key(9), (count, latents))


def test_information_parts_add_up_to_the_kl_of_the_samples():
    posterior, noise = blobs(300, 3)
    parts = information(posterior, noise, num_images=10_000)
    z = reparameterise(posterior, noise)
    prior = Posterior(jnp.zeros(()), jnp.zeros(()))
    sampled = jnp.mean(jnp.sum(log_density(z, posterior) - log_density(z, prior), axis=1))
    total = parts["mutual_information"] + parts["total_correlation"] + parts["dimension_wise_kl"]
    np.testing.assert_allclose(total, sampled, rtol=1e-4)
    np.testing.assert_allclose(parts["dimension_wise_kl_per_latent"].sum(), parts["dimension_wise_kl"], rtol=1e-5)


def test_a_collapsed_posterior_has_no_information():
    zeros = jnp.zeros((300, 3))
    parts = information(Posterior(zeros, zeros), jax.random.normal(jax.random.key(0), (300, 3)), 1000)
    for value in parts.values():
        np.testing.assert_allclose(value, 0, atol=1e-5)


def test_well_separated_images_reach_the_ceilings_of_both_bounds():
    posterior, noise = blobs(300, 3, spread=50.0, logvar=-12.0)
    parts = information(posterior, noise, num_images=5000)
    np.testing.assert_allclose(parts["mutual_information"], np.log(300), rtol=1e-4)
    np.testing.assert_allclose(parts["mutual_information_upper"], np.log(5000), rtol=1e-4)


def test_the_bounds_enclose_the_information_of_a_linear_gaussian_channel():
    """mean ~ N(0, s^2), z = mean + noise: I = 1/2 log(1 + s^2 / variance) for each latent."""
    posterior, noise = blobs(2000, 1, spread=1.0, logvar=float(np.log(0.05)))
    parts = information(posterior, noise, num_images=10**9)
    exact = 0.5 * np.log(1 + 1 / 0.05)
    assert parts["mutual_information"] < exact + 0.05
    assert parts["mutual_information_upper"] > exact - 0.05
    np.testing.assert_allclose(parts["mutual_information"], exact, atol=0.08)


def test_total_correlation_of_one_code_written_twice_is_its_information():
    """Two latents that carry the same mean: TC = I(z1; z2), far above that of independent latents."""
    posterior, noise = blobs(1500, 1, spread=1.0, logvar=float(np.log(0.02)))
    twice = Posterior(jnp.tile(posterior.mean, 2), jnp.tile(posterior.logvar, 2))
    noise = jax.random.normal(jax.random.key(1), (1500, 2))
    covariance = np.array([[1.02, 1.0], [1.0, 1.02]])
    exact = -0.5 * np.log(np.linalg.det(covariance) / 1.02**2)
    np.testing.assert_allclose(information(twice, noise, 10**6)["total_correlation"], exact, atol=0.12)
    independent, noise = blobs(1500, 2, spread=1.0, logvar=float(np.log(0.02)))
    assert information(independent, noise, 10**6)["total_correlation"] < 0.35
