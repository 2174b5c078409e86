"""Objectives that weigh the KL: beta-VAE (and DEFT), AnnealedVAE, CascadeVAE-C."""

import jax.numpy as jnp
from optax import Schedule

from deft_jax.models.posterior import kl_per_latent
from deft_jax.objectives.base import (
    Objective,
    broadcast_over_batch,
    check_at_least_one,
    check_not_negative,
    kl,
    no_params,
)
from deft_jax.runtime.validation import Count, NonNegative


def beta_vae(beta: Schedule) -> Objective:
    """beta * sum_d KL(q(z_d|x) || p(z_d)) (Higgins et al. 2017, eq. 4), beta a function of the step.

    DEFT uses this very objective: what it adds is when beta falls and which group may learn (Wu et al. 2022).
    """

    def apply(params, objective_state, step, posterior, z, key):
        del params, z, key
        pressure = beta(step)
        return {"regulariser": pressure * kl(posterior), "beta": pressure}, objective_state

    return Objective(no_params, apply, rotation_safe=True)


def annealed_vae(beta: Schedule, capacity: NonNegative = 25.0, ramp_steps: Count = 100_000) -> Objective:
    """beta * |KL - C|, KL the mean over the batch (Burgess et al. 2018, arXiv 1804.03599, eq. 8; beta is gamma there).

    C rises in a line from 0 to `capacity` nats over `ramp_steps` steps and stays. The defaults are the paper's for
    dSprites, where gamma is 1,000. With capacity = 0 it is the beta-VAE.
    """
    check_not_negative(capacity=capacity)
    check_at_least_one(ramp_steps=ramp_steps)

    def apply(params, objective_state, step, posterior, z, key):
        del params, z, key
        pressure = beta(step)
        now = capacity * jnp.clip(step / ramp_steps, 0.0, 1.0)
        term = pressure * jnp.abs(jnp.mean(kl(posterior)) - now)
        return {
            "regulariser": broadcast_over_batch(term, posterior),
            "beta": pressure,
            "capacity": now,
        }, objective_state

    return Objective(no_params, apply, rotation_safe=True)


def cascade_vae_c(beta: Schedule, beta_high: NonNegative = 10.0, period: Count = 6000) -> Objective:
    """sum_d w_d KL_d, w_d = beta once latent d is open and beta_high before (Jeong and Song 2019, arXiv 1905.09432).

    The continuous part of that paper, CascadeVAE-C: information cascades through the latents. As in the authors' code,
    latent 0 is open from the first step and the next one opens every `period` steps, in order. There beta is 0.1,
    beta_high 10 and the period 20,000; the field has used 1, 10 and 6,000. With beta = beta_high it is the beta-VAE.
    """
    check_not_negative(beta_high=beta_high)
    check_at_least_one(period=period)

    def apply(params, objective_state, step, posterior, z, key):
        del params, z, key
        pressure = beta(step)
        kl_BxD = kl_per_latent(posterior)
        latents = kl_BxD.shape[1]
        count = jnp.minimum(1 + step // period, latents)
        weights_D = jnp.where(jnp.arange(latents) < count, pressure, beta_high)
        terms = {"regulariser": jnp.sum(weights_D * kl_BxD, axis=1), "beta": pressure}
        return terms | {"open_latents": count.astype(jnp.float32)}, objective_state

    return Objective(no_params, apply)
