"""QLAE: a quantised-latent autoencoder."""

import math
from typing import Annotated

import jax
import jax.numpy as jnp
from optax import Schedule
from pydantic import Field

from deft_jax.models.posterior import Posterior
from deft_jax.objectives.base import Objective
from deft_jax.runtime.validation import Count


def qlae(beta: Schedule, latents: Count, *, num_values: Annotated[Count, Field(ge=2)] = 10) -> Objective:
    """A quantised-latent autoencoder: QLAE (Hsu et al. 2023, arXiv 2305.18378).

    Each latent has its own codebook of scalars. The encoder's mean is replaced by the nearest of them, the gradient
    passes straight through, and two squared distances summed over latents, under the pressure beta(step), pull codebook
    and encoder together (quantisation and commitment). There is no noise and no KL. The other half of the method is a
    high weight decay: config.optimizer.weight_decay, 0.1 in the paper.

    beta: the authors' weight of 0.001 on means over pixels and latents is, in sums over 4,096 pixels and 10 latents,
    0.41. num_values: of each codebook, 10 for dSprites there; at first evenly spaced from -0.5 to 0.5.

    What is scored are the quantised codes. In place of a KL, which a deterministic code does not have, 'kl_per_latent'
    tells the entropy of the values used in the batch, in nats: the KL to the best prior. As a posterior a code is as
    wide as the spacing of an even codebook, for figures to have something to draw.
    """
    if num_values < 2:
        raise ValueError(f"objective.num_values must be at least 2, got {num_values}")
    logvar = math.log(1 / (num_values - 1) ** 2 / 12)

    def init(key):
        del key
        return {"values": jnp.tile(jnp.linspace(-0.5, 0.5, num_values), (latents, 1))}, ()

    def nearest(params, mean_BxD):
        """Quantised codes [B, D] and the indices of their values."""
        index_BxD = jnp.argmin(jnp.abs(mean_BxD[..., None] - params["values"]), axis=-1)
        return params["values"][jnp.arange(latents), index_BxD], index_BxD

    def spaces(params, posterior, noise_BxD):
        del noise_BxD
        quantised, _ = nearest(params, posterior.mean)
        return (posterior.mean + jax.lax.stop_gradient(quantised - posterior.mean))[None]

    def represent(params, posterior):
        quantised, _ = nearest(params, posterior.mean)
        return Posterior(quantised, jnp.full_like(quantised, logvar))

    def apply(params, objective_state, step, posterior, z, key):
        del z, key
        pressure = beta(step)
        quantised, index_BxD = nearest(params, posterior.mean)
        pulled = jnp.square(jax.lax.stop_gradient(posterior.mean) - quantised)
        committed = jnp.square(posterior.mean - jax.lax.stop_gradient(quantised))
        used_DxV = jnp.mean(jax.nn.one_hot(index_BxD, num_values), axis=0)
        entropy_D = -jnp.sum(jax.scipy.special.xlogy(used_DxV, used_DxV), axis=1)
        terms = {
            "regulariser": pressure * jnp.sum(pulled + committed, axis=1),
            "beta": pressure,
            "kl": jnp.sum(entropy_D),
            "kl_per_latent": entropy_D,
        }
        return terms, objective_state

    return Objective(init, apply, spaces=spaces, represent=represent, traversal_range=0.5)
