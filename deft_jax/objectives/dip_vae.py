"""DIP-VAE I and II: a penalty on the distance of the latents' covariance from the identity."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from deft_jax.models.posterior import Posterior
from deft_jax.objectives.base import Objective, PyTree, Schedule, Terms, kl, no_params
from deft_jax.runtime.validation import NonNegative


def dip_vae_i(beta: Schedule, lambda_od: NonNegative = 10.0, lambda_d: NonNegative | None = None) -> Objective:
    """DIP-VAE-I: beta * KL + a penalty on Cov_x[mean(x)]. Kumar et al. 2018, arXiv 1711.00848, eq. 6.

    The penalty is lambda_od * sum_{i != j} Cov_ij^2 + lambda_d * sum_i (Cov_ii - 1)^2 in nats, Cov that of the batch,
    divided by B.

    Args:
      beta: step -> weight of the KL, 1 in the paper.
      lambda_od: weight of the covariances; the default is in the range of disentanglement_lib's study.
      lambda_d: weight of the variances. Default: None, 10 * lambda_od, as in the paper and in that study.

    Returns:
      The objective; it has neither parameters nor state, and logs 'covariance_penalty' in nats.

    Example:
      >>> objective = dip_vae_i(lambda step: 1.0, lambda_od=10.0, lambda_d=5.0)
      >>> mean = jnp.array([[1.0, 1.0], [-1.0, -1.0]])  # both variances are 1, and so is the covariance
      >>> posterior = Posterior(mean, jnp.zeros((2, 2)))
      >>> terms, _ = objective.apply((), (), 0, posterior, posterior.mean, jax.random.key(0))
      >>> float(terms["covariance_penalty"])  # 10 * 2
      20.0
    """
    return _dip_vae(beta, lambda_od, 10.0 * lambda_od if lambda_d is None else lambda_d, _covariance_of_means)


def dip_vae_ii(beta: Schedule, lambda_od: NonNegative = 10.0, lambda_d: NonNegative | None = None) -> Objective:
    """DIP-VAE-II: beta * KL + a penalty on Cov[z]. Kumar et al. 2018, arXiv 1711.00848, eq. 7.

    The penalty is that of `dip_vae_i`, on the covariance of z: that of the means plus the mean variances.

    Args:
      beta: step -> weight of the KL, 1 in the paper.
      lambda_od: weight of the covariances; the default is in the range of disentanglement_lib's study.
      lambda_d: weight of the variances. Default: None, lambda_od, as in that study.

    Returns:
      The objective; it has neither parameters nor state, and logs 'covariance_penalty' in nats.

    Example:
      >>> objective = dip_vae_ii(lambda step: 1.0, lambda_od=10.0, lambda_d=5.0)
      >>> mean = jnp.array([[1.0, 1.0], [-1.0, -1.0]])
      >>> posterior = Posterior(mean, jnp.zeros((2, 2)))  # variances of z are 1 + 1
      >>> terms, _ = objective.apply((), (), 0, posterior, posterior.mean, jax.random.key(0))
      >>> float(terms["covariance_penalty"])  # 10 * 2 + 5 * 2
      30.0
    """
    return _dip_vae(beta, lambda_od, lambda_od if lambda_d is None else lambda_d, _covariance_of_codes)


def _covariance_of_means(posterior: Posterior) -> jax.Array:
    """Cov_x[mean(x)] over the batch, divided by B: [D, D]."""
    centred_BxD = posterior.mean - jnp.mean(posterior.mean, axis=0)
    # In full precision: an accelerator's default would round the products to a few digits.
    return jnp.matmul(centred_BxD.T, centred_BxD, precision="highest") / len(centred_BxD)


def _covariance_of_codes(posterior: Posterior) -> jax.Array:
    """Cov[z] = Cov_x[mean(x)] + E_x[variance(x)] over the batch: [D, D]."""
    return _covariance_of_means(posterior) + jnp.diag(jnp.mean(jnp.exp(posterior.logvar), axis=0))


def _dip_vae(
    beta: Schedule, lambda_od: float, lambda_d: float, covariance: Callable[[Posterior], jax.Array]
) -> Objective:
    def apply(
        params: PyTree, objective_state: PyTree, step: jax.Array, posterior: Posterior, z: jax.Array, key: jax.Array
    ) -> tuple[Terms, PyTree]:
        del params, z, key
        kl_weight = beta(step)
        cov_DxD = covariance(posterior)
        variances_D = jnp.diag(cov_DxD)
        penalty = lambda_od * jnp.sum(jnp.square(cov_DxD - jnp.diag(variances_D)))
        penalty += lambda_d * jnp.sum(jnp.square(variances_D - 1.0))
        regulariser_B = kl_weight * kl(posterior) + penalty
        return {"regulariser": regulariser_B, "beta": kl_weight, "covariance_penalty": penalty}, objective_state

    return Objective(no_params, apply, rotation_safe=True)
