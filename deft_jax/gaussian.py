"""Closed forms of diagonal Gaussians against the standard normal prior."""

import jax
import jax.numpy as jnp

from deft_jax.state import Posterior


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
