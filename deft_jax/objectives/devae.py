"""DeVAE: hierarchical latent spaces under one encoder, with trained parameters of the objective."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from deft_jax.models.posterior import Posterior, kl_per_latent, reparameterise
from deft_jax.objectives.base import Objective, PyTree, Schedule, Terms, kl
from deft_jax.runtime.validation import Count, NonNegative


def devae(beta: Schedule, latents: Count, *, betas: Sequence[NonNegative] = (10.0, 40.0)) -> Objective:
    """DeVAE: hierarchical latent spaces under one encoder. Wu et al. 2023, arXiv 2303.12959.

    The first space is the encoder's posterior, with KL weight beta(step), 1 in the paper. Each further space k is
    derived from it by a disentanglement-invariant transformation, which acts on each latent separately and so cannot
    mix them: a learned positive scale of its mean and a learned shift of its logvar. Its KL weight is betas[k]. One
    decoder decodes all spaces, and the loss is the mean over spaces of reconstruction + weight * KL: spaces with high
    weights keep the latents disentangled, the first one reconstructs. With betas = () this is the beta-VAE.

    The published text and code could not be read in full: that scales are positive, that all spaces share one noise and
    that losses are averaged are choices of this library.

    Args:
      beta: step -> KL weight of the first space.
      latents: D.
      betas: KL weights of the further spaces, rising. The paper has [1, 10, 40] for dSprites, beta first.

    Returns:
      The objective. Its parameters are {'log_scale': [K, D], 'shift': [K, D]} for K further spaces; it has no state. It
      logs 'kl_space_k' of each further space k = 1 .. K, in nats.

    Example:
      >>> objective = devae(lambda step: 1.0, latents=1, betas=(10.0, 40.0))
      >>> params, state = objective.init(jax.random.key(0))
      >>> posterior = Posterior(mean=jnp.array([[2.0]]), logvar=jnp.zeros((1, 1)))  # 2 nats
      >>> objective.spaces(params, posterior, jnp.array([[0.5]])).tolist()  # at first all spaces are equal
      [[[2.5]], [[2.5]], [[2.5]]]
      >>> terms, _ = objective.apply(params, state, 0, posterior, posterior.mean, jax.random.key(0))
      >>> terms["regulariser"].tolist()  # 2 * (1 + 10 + 40) / 3
      [34.0]
    """
    betas = tuple(float(value) for value in betas)

    def init(key: jax.Array) -> tuple[PyTree, PyTree]:
        del key
        zeros = jnp.zeros((len(betas), latents))
        return {"log_scale": zeros, "shift": zeros}, ()

    def further_spaces(params: PyTree, posterior: Posterior) -> Posterior:
        """Posterior of [K, B, D]."""
        scale_Kx1xD, shift_Kx1xD = jnp.exp(params["log_scale"])[:, None], params["shift"][:, None]
        return Posterior(scale_Kx1xD * posterior.mean, posterior.logvar + shift_Kx1xD)

    def spaces(params: PyTree, posterior: Posterior, noise_BxD: jax.Array) -> jax.Array:
        first = reparameterise(posterior, noise_BxD)
        return jnp.concatenate([first[None], reparameterise(further_spaces(params, posterior), noise_BxD)])

    def apply(
        params: PyTree, objective_state: PyTree, step: jax.Array, posterior: Posterior, z: jax.Array, key: jax.Array
    ) -> tuple[Terms, PyTree]:
        del z, key
        kl_weight = beta(step)
        kl_KxB = jnp.sum(kl_per_latent(further_spaces(params, posterior)), axis=2)
        weighted_B = kl_weight * kl(posterior) + jnp.asarray(betas) @ kl_KxB
        terms = {"regulariser": weighted_B / (1 + len(betas)), "beta": kl_weight}
        return terms | {f"kl_space_{k + 1}": jnp.mean(kl_KxB[k]) for k in range(len(betas))}, objective_state

    return Objective(init, apply, spaces=spaces)
