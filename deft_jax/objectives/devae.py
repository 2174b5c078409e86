"""DeVAE: hierarchical latent spaces under one encoder."""

from collections.abc import Sequence

import jax.numpy as jnp
from optax import Schedule

from deft_jax.models.posterior import Posterior, kl_per_latent, reparameterise
from deft_jax.objectives.base import Objective, check_not_negative, kl
from deft_jax.runtime.validation import Count, NonNegative


def devae(beta: Schedule, latents: Count, *, betas: Sequence[NonNegative] = (10.0, 40.0)) -> Objective:
    """Hierarchical latent spaces under one encoder: DeVAE (Wu et al. 2023, arXiv 2303.12959).

    The first space is the encoder's posterior, under the pressure beta(step), 1 in the paper. Each further space k is
    made from it by a disentanglement-invariant transformation, which acts on every latent alone and so cannot mix
    them: a learned positive scale on its mean and a learned shift on its logvar. Its pressure is betas[k]. All spaces
    are decoded by the same decoder, and the loss is the mean over spaces of reconstruction + pressure * KL: spaces
    under high pressure keep the latents disentangled, the first reconstructs. With betas = () this is the beta-VAE.

    betas: of the further spaces, from low to high; dSprites' [1, 10, 40]. The published text and code could not be read
    in full: that scales are positive, that one noise serves all spaces and that losses are averaged are this project's.
    Logs 'kl_space_k' of each further space, in nats.
    """
    betas = tuple(float(value) for value in betas)
    check_not_negative(**{f"betas[{k}]": value for k, value in enumerate(betas)})

    def init(key):
        del key
        zeros = jnp.zeros((len(betas), latents))
        return {"log_scale": zeros, "shift": zeros}, ()

    def further(params, posterior):
        """The further spaces: Posterior of [K, B, D]."""
        scale_Kx1xD, shift_Kx1xD = jnp.exp(params["log_scale"])[:, None], params["shift"][:, None]
        return Posterior(scale_Kx1xD * posterior.mean, posterior.logvar + shift_Kx1xD)

    def spaces(params, posterior, noise_BxD):
        own = reparameterise(posterior, noise_BxD)
        return jnp.concatenate([own[None], reparameterise(further(params, posterior), noise_BxD)])

    def apply(params, objective_state, step, posterior, z, key):
        del z, key
        pressure = beta(step)
        kl_KxB = jnp.sum(kl_per_latent(further(params, posterior)), axis=2)
        weighted_B = pressure * kl(posterior) + jnp.asarray(betas) @ kl_KxB
        terms = {"regulariser": weighted_B / (1 + len(betas)), "beta": pressure}
        return terms | {f"kl_space_{k + 1}": jnp.mean(kl_KxB[k]) for k in range(len(betas))}, objective_state

    return Objective(init, apply, spaces=spaces)
