"""Diagonal Gaussian posteriors and their closed forms against the standard normal prior."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Posterior(NamedTuple):
    """A diagonal Gaussian q(z|x) for each example.

    mean: [B, D]; logvar: [B, D], the logarithm of the variance.
    """

    mean: jax.Array
    logvar: jax.Array


def kl_per_latent(posterior: Posterior) -> jax.Array:
    """KL(q(z_d|x) || N(0, 1)) of every example and latent, in nats, unreduced: [B, D].

    Kingma and Welling 2014, appendix B: (exp(logvar) + mean^2 - 1 - logvar) / 2. It is exactly zero where
    mean = logvar = 0, so a latent whose group is not open costs nothing.
    """
    mean, logvar = posterior
    return 0.5 * (jnp.exp(logvar) + jnp.square(mean) - 1.0 - logvar)


def reparameterise(posterior: Posterior, noise: jax.Array) -> jax.Array:
    """z = mean + exp(logvar / 2) * noise: [B, D], with noise [B, D] drawn from N(0, 1)."""
    return posterior.mean + jnp.exp(0.5 * posterior.logvar) * noise


def log_density(z: jax.Array, posterior: Posterior) -> jax.Array:
    """log q(z_d|x) of each latent in nats, broadcast over leading axes: the shape of z against mean and logvar."""
    mean, logvar = posterior
    return -0.5 * (jnp.log(2 * jnp.pi) + logvar + jnp.square(z - mean) * jnp.exp(-logvar))
