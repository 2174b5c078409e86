"""What objectives with quantised latents share."""

import math

import jax
import jax.numpy as jnp


def straight_through(values: jax.Array, continuous: jax.Array) -> jax.Array:
    """`values`, with the gradient of `continuous` (Bengio et al. 2013, arXiv 1308.3432).

    Args:
      values: of any shape.
      continuous: of the same shape.

    Example:
      >>> print(jax.grad(lambda x: 3 * straight_through(jnp.round(x), x))(0.8))
      3.0
    """
    return continuous + jax.lax.stop_gradient(values - continuous)


def entropy_of_values(index_BxD: jax.Array, num_values: int) -> jax.Array:
    """The entropy of the values that a batch uses, in nats: [D], without a gradient.

    Since a deterministic code has no KL, this is logged in its place: the KL to the best prior.

    Args:
      index_BxD: of the value of each latent, integers in [0, num_values).
      num_values: of each latent.

    Example:
      >>> print(entropy_of_values(jnp.array([[0, 1], [2, 2]]), 3))
      [0.6931472 0.6931472]
    """
    used_DxV = jnp.mean(jax.nn.one_hot(index_BxD, num_values), axis=0)
    return -jnp.sum(jax.scipy.special.xlogy(used_DxV, used_DxV), axis=1)


def logvar_of_steps(spacing: float) -> float:
    """The log variance of a code as a posterior, which figures need: uniform over the distance of two values.

    Args:
      spacing: of neighbouring values.

    Example:
      >>> round(math.exp(logvar_of_steps(2.0)), 4)
      0.3333
    """
    return math.log(spacing**2 / 12)
