"""Objectives that weigh the KL by a schedule: beta-VAE (and DEFT), AnnealedVAE, CascadeVAE-C."""

import jax
import jax.numpy as jnp

from deft_jax.models.posterior import Posterior, kl_per_latent
from deft_jax.objectives.base import Objective, PyTree, Schedule, Terms, broadcast_over_batch, kl, no_params
from deft_jax.runtime.validation import Count, NonNegative


def beta_vae(beta: Schedule) -> Objective:
    """beta-VAE: beta * sum_d KL(q(z_d|x) || p(z_d)). Higgins et al. 2017, eq. 4.

    DEFT has this objective; what it adds is when beta falls and which group learns (Wu et al. 2022).

    Args:
      beta: step -> weight of the KL.

    Returns:
      The objective; it has neither parameters nor state.

    Example:
      >>> objective = beta_vae(lambda step: 4.0)
      >>> posterior = Posterior(mean=jnp.array([[1.0, 0.0], [2.0, 1.0]]), logvar=jnp.zeros((2, 2)))
      >>> terms, _ = objective.apply((), (), 0, posterior, posterior.mean, jax.random.key(0))
      >>> terms["regulariser"].tolist()  # the KL is |mean|^2 / 2
      [2.0, 10.0]
    """

    def apply(
        params: PyTree, objective_state: PyTree, step: jax.Array, posterior: Posterior, z: jax.Array, key: jax.Array
    ) -> tuple[Terms, PyTree]:
        del params, z, key
        kl_weight = beta(step)
        return {"regulariser": kl_weight * kl(posterior), "beta": kl_weight}, objective_state

    return Objective(no_params, apply, rotation_safe=True, per_example=True)


def annealed_vae(beta: Schedule, capacity: NonNegative = 25.0, ramp_steps: Count = 100_000) -> Objective:
    """AnnealedVAE: beta * |KL - C(step)|, KL the batch mean. Burgess et al. 2018, arXiv 1804.03599, eq. 8.

    C rises linearly from 0 to `capacity` over `ramp_steps` steps and stays there. The paper calls beta gamma, and
    sets it to 1,000 for dSprites; the defaults are its values for dSprites. With capacity = 0 this is the beta-VAE
    in the batch mean.

    Args:
      beta: step -> weight of the distance.
      capacity: last value of C, in nats.
      ramp_steps: steps until then.

    Returns:
      The objective; it has neither parameters nor state, and logs 'capacity', C in nats.

    Example:
      >>> objective = annealed_vae(lambda step: 100.0, capacity=25.0, ramp_steps=1000)
      >>> posterior = Posterior(mean=jnp.array([[2.0], [4.0]]), logvar=jnp.zeros((2, 1)))
      >>> terms, _ = objective.apply((), (), 200, posterior, posterior.mean, jax.random.key(0))
      >>> float(terms["capacity"])  # the KL is 2 and 8 nats, 5 in the mean
      5.0
      >>> terms["regulariser"].tolist()
      [0.0, 0.0]
    """

    def apply(
        params: PyTree, objective_state: PyTree, step: jax.Array, posterior: Posterior, z: jax.Array, key: jax.Array
    ) -> tuple[Terms, PyTree]:
        del params, z, key
        weight = beta(step)
        # optax.linear_schedule computes (0 - capacity) * (1 - step / ramp_steps) + capacity, which cancels near step 0.
        target = capacity * jnp.clip(step / ramp_steps, 0.0, 1.0)
        term = weight * jnp.abs(jnp.mean(kl(posterior)) - target)
        terms = {"regulariser": broadcast_over_batch(term, posterior), "beta": weight, "capacity": target}
        return terms, objective_state

    return Objective(no_params, apply, rotation_safe=True)


def cascade_vae_c(beta: Schedule, beta_high: NonNegative = 10.0, period: Count = 6000) -> Objective:
    """CascadeVAE-C: sum_d w_d KL_d, w_d = beta for open latents, else beta_high. Jeong and Song 2019, arXiv 1905.09432.

    The continuous part of the paper: information cascades through the latents. As in the authors' code, latent 0 is
    open from the first step and the next one opens every `period` steps, in order. The authors use beta = 0.1,
    beta_high = 10 and a period of 20,000; later studies use 1, 10 and 6,000. With beta = beta_high it is the beta-VAE.

    Args:
      beta: step -> weight of the KL of open latents.
      beta_high: weight of the KL of the others.
      period: steps between two openings.

    Returns:
      The objective; it has neither parameters nor state, and logs 'open_latents', their number.

    Example:
      >>> objective = cascade_vae_c(lambda step: 1.0, beta_high=10.0, period=100)
      >>> posterior = Posterior(mean=jnp.full((1, 3), 2.0), logvar=jnp.zeros((1, 3)))  # 2 nats in each latent
      >>> for step in (0, 100, 200):
      ...     terms, _ = objective.apply((), (), step, posterior, posterior.mean, jax.random.key(0))
      ...     print(terms["open_latents"], terms["regulariser"])
      1.0 [42.]
      2.0 [24.]
      3.0 [6.]
    """

    def apply(
        params: PyTree, objective_state: PyTree, step: jax.Array, posterior: Posterior, z: jax.Array, key: jax.Array
    ) -> tuple[Terms, PyTree]:
        del params, z, key
        weight = beta(step)
        kl_BxD = kl_per_latent(posterior)
        latents = kl_BxD.shape[1]
        num_open = jnp.minimum(1 + step // period, latents)
        weights_D = jnp.where(jnp.arange(latents) < num_open, weight, beta_high)
        terms = {"regulariser": jnp.sum(weights_D * kl_BxD, axis=1), "beta": weight}
        return terms | {"open_latents": num_open.astype(jnp.float32)}, objective_state

    return Objective(no_params, apply, per_example=True)
