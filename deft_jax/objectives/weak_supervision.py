"""Objectives for pairs of images that differ in few factors: Ada-GVAE and Ada-ML-VAE.

Both are the beta-VAE on pairs. Latents that the two images seem to share get one posterior for both, so a change of few
factors must be coded in few latents. No label is read: what is known is that few factors differ.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from deft_jax.models.posterior import Posterior, kl_per_latent, reparameterise
from deft_jax.objectives.base import Objective, Pairs, PyTree, Schedule, Terms, no_params
from deft_jax.runtime.validation import Count

Average = Callable[[Posterior], Posterior]
"""Posterior [P, 2, D] of pairs -> posterior [P, 1, D] of what both share."""


def ada_gvae(beta: Schedule, changed_factors: Count | None = None) -> Objective:
    """Ada-GVAE: shared latents have the mean of both means and of both variances. Locatello et al. 2020, section 4.

    Latent d of a pair is shared where KL(q(z_d|x_1) || q(z_d|x_2)) is below the middle of the smallest and the largest
    of these D numbers. The loss is that of the beta-VAE with the averaged posteriors, whose samples are decoded.

    Args:
      beta: step -> weight of the KL; 1 in the paper.
      changed_factors: how many factors differ between the images of a pair. Default: None, a number between 1 and all
        but one, drawn for each pair.

    Returns:
      The objective; it has neither parameters nor state, and logs 'shared_latents', their mean number per pair.

    Example:
      Two images that agree in latent 0 and, nearly, in latent 1:

      >>> objective = ada_gvae(lambda step: 1.0)
      >>> posterior = Posterior(mean=jnp.array([[1.0, 2.0, 3.0], [1.0, 4.0, -3.0]]), logvar=jnp.zeros((2, 3)))
      >>> objective.spaces((), posterior, jnp.zeros((2, 3)))[0].tolist()
      [[1.0, 3.0, 3.0], [1.0, 3.0, -3.0]]
    """
    return _adaptive(beta, changed_factors, _mean_of_both)


def ada_ml_vae(beta: Schedule, changed_factors: Count | None = None) -> Objective:
    """Ada-ML-VAE: shared latents have the geometric mean of both posteriors. Locatello et al. 2020, section 4.

    As `ada_gvae`, but for the average: its precision is the mean of both precisions, and its mean weighs both means by
    them, as in the product of posteriors of the ML-VAE (Bouchacourt et al. 2018).

    Args:
      beta: step -> weight of the KL; 1 in the paper.
      changed_factors: how many factors differ between the images of a pair. Default: None, a number between 1 and all
        but one, drawn for each pair.

    Returns:
      The objective; it has neither parameters nor state, and logs 'shared_latents', their mean number per pair.

    Example:
      A certain image outweighs an uncertain one: precisions are 3 and 1 in latent 0.

      >>> objective = ada_ml_vae(lambda step: 1.0)
      >>> logvar = jnp.array([[-jnp.log(3.0), 0.0], [0.0, 0.0]])
      >>> posterior = Posterior(mean=jnp.array([[1.0, 9.0], [2.0, -9.0]]), logvar=logvar)
      >>> objective.spaces((), posterior, jnp.zeros((2, 2)))[0].tolist()
      [[1.25, 9.0], [1.25, -9.0]]
    """
    return _adaptive(beta, changed_factors, _geometric_mean)


def _mean_of_both(posterior: Posterior) -> Posterior:
    mean, logvar = (jnp.mean(leaf, axis=1, keepdims=True) for leaf in (posterior.mean, jnp.exp(posterior.logvar)))
    return Posterior(mean, jnp.log(logvar))


def _geometric_mean(posterior: Posterior) -> Posterior:
    precision = jnp.exp(-posterior.logvar)
    average = jnp.mean(precision, axis=1, keepdims=True)
    return Posterior(jnp.mean(precision * posterior.mean, axis=1, keepdims=True) / average, -jnp.log(average))


def shared_latents(posterior: Posterior) -> jax.Array:
    """Which latents the images of a pair seem to share: booleans [P, 1, D], without a gradient.

    Args:
      posterior: of pairs, mean and logvar [P, 2, D].
    """
    (first, second), (first_logvar, second_logvar) = (jnp.moveaxis(leaf, 1, 0) for leaf in posterior)
    variance_ratio = jnp.exp(first_logvar - second_logvar)
    distance = (first - second) ** 2 * jnp.exp(-second_logvar)
    kl_PxD = 0.5 * (variance_ratio + distance - 1.0 + second_logvar - first_logvar)
    middle = 0.5 * (jnp.min(kl_PxD, axis=1) + jnp.max(kl_PxD, axis=1))
    return jax.lax.stop_gradient(kl_PxD < middle[:, None])[:, None]


def _adaptive(beta: Schedule, changed_factors: int | None, average: Average) -> Objective:
    def share(posterior_BxD: Posterior) -> tuple[Posterior, jax.Array]:
        """The posterior with one for both images in shared latents, and which these are."""
        pairs = Posterior(*(leaf.reshape(-1, 2, leaf.shape[1]) for leaf in posterior_BxD))
        shared_Px1xD = shared_latents(pairs)
        averaged = average(pairs)
        chosen = (jnp.where(shared_Px1xD, *both) for both in zip(averaged, pairs, strict=True))
        return Posterior(*(leaf.reshape(posterior_BxD.mean.shape) for leaf in chosen)), shared_Px1xD

    def spaces(params: PyTree, posterior: Posterior, noise_BxD: jax.Array) -> jax.Array:
        del params
        return reparameterise(share(posterior)[0], noise_BxD)[None]

    def apply(
        params: PyTree, objective_state: PyTree, step: jax.Array, posterior: Posterior, z: jax.Array, key: jax.Array
    ) -> tuple[Terms, PyTree]:
        del params, z, key
        kl_weight = beta(step)
        averaged, shared_Px1xD = share(posterior)
        kl_BxD = kl_per_latent(averaged)
        kl_D = jnp.mean(kl_BxD, axis=0)
        terms = {"regulariser": kl_weight * jnp.sum(kl_BxD, axis=1), "beta": kl_weight}
        number = jnp.mean(jnp.sum(shared_Px1xD, axis=(1, 2), dtype=jnp.float32))
        return terms | {"kl": jnp.sum(kl_D), "kl_per_latent": kl_D, "shared_latents": number}, objective_state

    return Objective(no_params, apply, spaces=spaces, pairs=Pairs(changed_factors))
