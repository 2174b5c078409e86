"""Diagonal Gaussian posteriors and their closed forms against the standard normal prior."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Posterior(NamedTuple):
    """A diagonal Gaussian q(z|x) for each example.

    Attributes:
      mean: [B, D].
      logvar: [B, D], the natural logarithm of the variance.
    """

    mean: jax.Array
    logvar: jax.Array


def kl_per_latent(posterior: Posterior) -> jax.Array:
    """KL divergence KL(q(z_d|x) || N(0, 1)) of every example and latent, unreduced.

    Kingma and Welling 2014, appendix B: (exp(logvar) + mean^2 - 1 - logvar) / 2. It is exactly zero where
    mean = logvar = 0, so the latents of a group that is not open add nothing to the loss.

    Args:
      posterior: mean and logvar, [B, D] each.

    Returns:
      [B, D], in nats.

    Example:
      >>> print(kl_per_latent(Posterior(jnp.array([[0.0, 2.0]]), jnp.zeros((1, 2)))))
      [[0. 2.]]
    """
    mean, logvar = posterior
    return 0.5 * (jnp.exp(logvar) + jnp.square(mean) - 1.0 - logvar)


def reparameterise(posterior: Posterior, noise: jax.Array) -> jax.Array:
    """Samples of a posterior as a differentiable function of it (Kingma and Welling 2014, section 2.4).

    z = mean + exp(logvar / 2) * noise.

    Args:
      posterior: mean and logvar, [B, D] each.
      noise: [B, D], drawn from N(0, 1).

    Returns:
      z, [B, D].

    Example:
      >>> print(reparameterise(Posterior(jnp.array([[1.0]]), jnp.log(jnp.array([[4.0]]))), jnp.array([[-1.0]])))
      [[-1.]]
    """
    return posterior.mean + jnp.exp(0.5 * posterior.logvar) * noise


def log_density(z: jax.Array, posterior: Posterior) -> jax.Array:
    """Log-density of each latent: log N(z; mean, exp(logvar)) = -(log(2 pi) + logvar + (z - mean)^2 / exp(logvar)) / 2.

    Args:
      z: of any shape that broadcasts with mean and logvar, for example [B, 1, D] against [B, D] for all pairs.
      posterior: mean and logvar.

    Returns:
      log q(z_d|x) in nats, of the broadcast shape.

    Example:
      >>> print(f"{log_density(jnp.array(0.0), Posterior(jnp.array(0.0), jnp.array(0.0))):.4f}")  # -log(2 pi) / 2
      -0.9189
    """
    mean, logvar = posterior
    return -0.5 * (jnp.log(2 * jnp.pi) + logvar + jnp.square(z - mean) * jnp.exp(-logvar))
