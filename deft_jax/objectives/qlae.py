"""QLAE: a quantised-latent autoencoder, whose representation is not the encoder's posterior."""

from typing import Annotated

import jax
import jax.numpy as jnp
from pydantic import Field

from deft_jax.models.posterior import Posterior
from deft_jax.objectives.base import Objective, PyTree, Schedule, Terms
from deft_jax.objectives.quantisation import entropy_of_values, logvar_of_steps, straight_through
from deft_jax.runtime.validation import Count


def qlae(beta: Schedule, latents: Count, *, num_values: Annotated[Count, Field(ge=2)] = 10) -> Objective:
    """QLAE: a quantised-latent autoencoder. Hsu et al. 2023, arXiv 2305.18378.

    Each latent has a codebook of scalars. The nearest of them replaces the encoder's mean, the gradient passes straight
    through, and two squared distances summed over latents, with weight beta(step), pull codebook and encoder together
    (quantisation and commitment). There is no noise and no KL. The other half of the method is a high weight decay:
    optimizer.weight_decay, 0.1 in the paper.

    The quantised codes are scored. Since a deterministic code has no KL, 'kl_per_latent' is the entropy of the values
    used in the batch, in nats: the KL to the best prior. The variance of a code as a posterior is that of a uniform
    distribution between two values of an even codebook, which figures need.

    Args:
      beta: step -> weight of both distances. The authors' weight of 0.001 on means over pixels and latents is, in sums
        over 4,096 pixels and 10 latents, 0.41.
      latents: D.
      num_values: of each codebook, 10 for dSprites in the paper; at first evenly spaced from -0.5 to 0.5.

    Returns:
      The objective. Its parameters are {'values': [D, num_values]}; it has no state. It logs 'kl_per_latent' and 'kl',
      the entropies and their sum.

    Example:
      >>> objective = qlae(lambda step: 1.0, latents=1, num_values=3)  # values -0.5, 0 and 0.5
      >>> params, state = objective.init(jax.random.key(0))
      >>> posterior = Posterior(mean=jnp.array([[0.125], [2.5]]), logvar=jnp.zeros((2, 1)))
      >>> objective.represent(params, posterior).mean.tolist()
      [[0.0], [0.5]]
      >>> terms, _ = objective.apply(params, state, 0, posterior, posterior.mean, jax.random.key(0))
      >>> terms["regulariser"].tolist()  # 2 * 0.125^2 and 2 * 2^2
      [0.03125, 8.0]
    """
    logvar = logvar_of_steps(1 / (num_values - 1))

    def init(key: jax.Array) -> tuple[PyTree, PyTree]:
        del key
        return {"values": jnp.tile(jnp.linspace(-0.5, 0.5, num_values), (latents, 1))}, ()

    def quantise(params: PyTree, mean_BxD: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Quantised codes [B, D] and the indices [B, D] of their values."""
        index_BxD = jnp.argmin(jnp.abs(mean_BxD[..., None] - params["values"]), axis=-1)
        return params["values"][jnp.arange(latents), index_BxD], index_BxD

    def spaces(params: PyTree, posterior: Posterior, noise_BxD: jax.Array) -> jax.Array:
        del noise_BxD
        quantised, _ = quantise(params, posterior.mean)
        return straight_through(quantised, posterior.mean)[None]

    def represent(params: PyTree, posterior: Posterior) -> Posterior:
        quantised, _ = quantise(params, posterior.mean)
        return Posterior(quantised, jnp.full_like(quantised, logvar))

    def apply(
        params: PyTree, objective_state: PyTree, step: jax.Array, posterior: Posterior, z: jax.Array, key: jax.Array
    ) -> tuple[Terms, PyTree]:
        del z, key
        weight = beta(step)
        quantised, index_BxD = quantise(params, posterior.mean)
        quantisation = jnp.square(jax.lax.stop_gradient(posterior.mean) - quantised)
        commitment = jnp.square(posterior.mean - jax.lax.stop_gradient(quantised))
        entropy_D = entropy_of_values(index_BxD, num_values)
        terms = {
            "regulariser": weight * jnp.sum(quantisation + commitment, axis=1),
            "beta": weight,
            "kl": jnp.sum(entropy_D),
            "kl_per_latent": entropy_D,
        }
        return terms, objective_state

    return Objective(init, apply, spaces=spaces, represent=represent, traversal_range=0.5)
