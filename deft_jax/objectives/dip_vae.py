"""DIP-VAE I and II: the covariance of the latents is drawn to the identity."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from optax import Schedule

from deft_jax.models.posterior import Posterior
from deft_jax.objectives.base import Objective, check_not_negative, kl, no_params
from deft_jax.runtime.validation import NonNegative


def dip_vae_i(beta: Schedule, lambda_od: NonNegative = 10.0, lambda_d: NonNegative | None = None) -> Objective:
    """beta * KL + a pull of Cov_x[mean(x)] to the identity (Kumar et al. 2018, arXiv 1711.00848, eq. 6), in nats.

    The pull is lambda_od * sum_{i != j} Cov_ij^2 + lambda_d * sum_i (Cov_ii - 1)^2, Cov that of the batch, divided by
    B. beta is 1 in the paper. lambda_od: of the range of disentanglement_lib's study. lambda_d: 10 * lambda_od unless
    given, as there and in the paper.
    """
    return _dip_vae(beta, lambda_od, 10.0 * lambda_od if lambda_d is None else lambda_d, _covariance_of_means)


def dip_vae_ii(beta: Schedule, lambda_od: NonNegative = 10.0, lambda_d: NonNegative | None = None) -> Objective:
    """As `dip_vae_i`, with the covariance of z itself: that of the means plus the mean variances (eq. 7).

    lambda_d: lambda_od unless given, as in disentanglement_lib's study.
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


def _dip_vae(beta: Schedule, lambda_od: float, lambda_d: float, covariance: Callable) -> Objective:
    check_not_negative(lambda_od=lambda_od, lambda_d=lambda_d)

    def apply(params, objective_state, step, posterior, z, key):
        del params, z, key
        pressure = beta(step)
        cov_DxD = covariance(posterior)
        variances_D = jnp.diag(cov_DxD)
        penalty = lambda_od * jnp.sum(jnp.square(cov_DxD - jnp.diag(variances_D)))
        penalty += lambda_d * jnp.sum(jnp.square(variances_D - 1.0))
        regulariser_B = pressure * kl(posterior) + penalty
        return {"regulariser": regulariser_B, "beta": pressure, "covariance_penalty": penalty}, objective_state

    return Objective(no_params, apply, rotation_safe=True)
