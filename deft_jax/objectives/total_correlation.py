"""Objectives that weigh the total correlation: beta-TCVAE and FactorVAE."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from optax import Schedule

from deft_jax.models.networks import Discriminator
from deft_jax.models.posterior import Posterior, log_density
from deft_jax.objectives.base import Objective, check_at_least_one, check_not_negative, kl, no_params
from deft_jax.runtime import plugins
from deft_jax.runtime.validation import Count, NonNegative


def beta_tcvae(
    beta: Schedule,
    num_images: Count,
    estimator: Literal["weighted", "stratified"] = "weighted",
) -> Objective:
    """KL + (beta - 1) * TC, TC = KL(q(z) || prod_d q(z_d)) (Chen et al. 2018, arXiv 1802.04942), in nats.

    The mean KL is I(x; z) + TC + sum_d KL(q(z_d) || p(z_d)) (eq. 2), so this is, in expectation, eq. 4 with weights 1,
    beta, 1; here, as in disentanglement_lib, the KL is the closed form and only TC is estimated. beta = 1 is the VAE.

    log q(z) and log q(z_d) come from the batch, of B out of N = num_images:

    'weighted': the paper's minibatch weighted sampling, sum_j q(z|x_j) / (N B). Every logarithm is that of the plain
      mean over the batch less log N, so TC is that of the plain mean plus (D - 1) log N: a constant, which moves the
      loss but no gradient (disentanglement_lib leaves it out).
    'stratified': minibatch stratified sampling (appendix C.2), weight 1 / N for the example's own posterior. The part
      that the paper gives to the last of the others is spread over them all here, (1 - 1 / N) / (B - 1) each: the same
      expectation, and no example stands apart. The weights sum to 1.
    """
    weights = plugins.choose({"weighted": _weighted, "stratified": _stratified}, estimator, "objective.estimator")
    check_at_least_one(num_images=num_images)

    def apply(params, objective_state, step, posterior, z, key):
        del params, key
        pressure = beta(step)
        tc_B = _total_correlation(z, posterior, weights(len(z), num_images))
        regulariser_B = kl(posterior) + (pressure - 1.0) * tc_B
        return {"regulariser": regulariser_B, "beta": pressure, "total_correlation": jnp.mean(tc_B)}, objective_state

    return Objective(no_params, apply, rotation_safe=True)


def _weighted(batch: int, num_images: int) -> jax.Array:
    """Log weight of posterior j in the aggregate seen from z_i, minibatch weighted sampling: [B, B]."""
    return jnp.full((batch, batch), -math.log(num_images * batch))


def _stratified(batch: int, num_images: int) -> jax.Array:
    """Log weight of posterior j in the aggregate seen from z_i, minibatch stratified sampling: [B, B]."""
    if batch < 2:
        raise ValueError("objective.estimator 'stratified' needs a batch_size of at least 2")
    others = jnp.log1p(-1.0 / num_images) - math.log(batch - 1)
    return jnp.where(jnp.eye(batch, dtype=bool), -math.log(num_images), others)


def _total_correlation(z: jax.Array, posterior: Posterior, log_weights_BxB: jax.Array) -> jax.Array:
    """log q(z_i) - sum_d log q(z_id) in nats, the q aggregated over the batch with these weights: [B]."""
    mean, logvar = posterior
    log_q_BxBxD = log_density(z[:, None], Posterior(mean[None], logvar[None]))
    joint_B = jax.nn.logsumexp(log_weights_BxB + jnp.sum(log_q_BxBxD, axis=2), axis=1)
    marginals_BxD = jax.nn.logsumexp(log_weights_BxB[..., None] + log_q_BxBxD, axis=1)
    return joint_B - jnp.sum(marginals_BxD, axis=1)


def factor_vae(
    beta: Schedule,
    latents: Count,
    *,
    gamma: NonNegative = 10.0,
    width: Count = 1000,
    depth: Count = 6,
    discriminator_learning_rate: NonNegative = 1e-4,
) -> Objective:
    """KL + gamma TC, the total correlation told by a discriminator (Kim and Mnih 2018, arXiv 1802.05983, eq. 2).

    The discriminator D tells codes z from codes whose latents are permuted one by one over the batch; log D / (1 - D),
    its logit, then estimates log q(z) / prod_d q(z_d), so its mean over the batch is the total correlation in nats. It
    learns in the same step, by Adam with the paper's rates (1e-4, b1 = 0.5, b2 = 0.9). As in disentanglement_lib the
    codes of this batch are the ones permuted, where algorithm 2 of the paper draws a second batch for them.

    gamma: 10 for dSprites in disentanglement_lib's range of 10 to 100; the paper's best there is 35. beta: weight of
    the KL, 1 in the paper. width, depth: of the discriminator, appendix A. With gamma = 0 this is the beta-VAE.

    Neither loss leaks: the regulariser sees the discriminator's parameters as constants, 'objective_loss' sees the
    codes as constants. Logs 'total_correlation' and 'objective_loss', the discriminator's cross-entropy: log 2 where it
    cannot tell the two apart.
    """
    check_not_negative(gamma=gamma, discriminator_learning_rate=discriminator_learning_rate)
    check_at_least_one(width=width, depth=depth)
    critic = Discriminator(width, depth)

    def init(key):
        return critic.init(key, jnp.zeros((1, latents)))["params"], ()

    def logits(params, z_BxD):
        return critic.apply({"params": params}, z_BxD)

    def apply(params, objective_state, step, posterior, z, key):
        pressure = beta(step)
        ratio_B = logits(jax.lax.stop_gradient(params), z)
        fixed = jax.lax.stop_gradient(z)
        keys = jax.random.split(key, z.shape[1])
        permuted = jax.vmap(jax.random.permutation, in_axes=(0, 1), out_axes=1)(keys, fixed)
        told_apart = jnp.mean(jax.nn.softplus(-logits(params, fixed)) + jax.nn.softplus(logits(params, permuted))) / 2
        terms = {
            "regulariser": pressure * kl(posterior) + gamma * ratio_B,
            "beta": pressure,
            "total_correlation": jnp.mean(ratio_B),
            "objective_loss": told_apart,
        }
        return terms, objective_state

    return Objective(init, apply, optimizer=optax.adam(discriminator_learning_rate, b1=0.5, b2=0.9))
