"""Closed forms of diagonal Gaussians hold against integrals and moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deft_jax.gaussian import kl_per_latent, reparameterise
from deft_jax.state import Posterior


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


def test_reparameterise_without_noise_is_the_mean():
    mean, logvar = jnp.array([[1.0, -2.0]]), jnp.array([[0.3, 5.0]])
    np.testing.assert_array_equal(reparameterise(Posterior(mean, logvar), jnp.zeros((1, 2))), mean)
