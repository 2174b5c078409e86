"""Objectives that weigh the total correlation: beta-TCVAE and FactorVAE, with a trained discriminator."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from deft_jax.models.networks import Discriminator
from deft_jax.models.posterior import Posterior, log_density
from deft_jax.objectives.base import Objective, PyTree, Schedule, Terms, kl, no_params
from deft_jax.runtime import plugins
from deft_jax.runtime.validation import Count, NonNegative


def beta_tcvae(
    beta: Schedule,
    num_images: Count,
    estimator: Literal["weighted", "stratified"] = "weighted",
) -> Objective:
    """beta-TCVAE: KL + (beta - 1) * TC, TC = KL(q(z) || prod_d q(z_d)). Chen et al. 2018, arXiv 1802.04942, eq. 4.

    The mean KL is I(x; z) + TC + sum_d KL(q(z_d) || p(z_d)) (eq. 2), so in expectation this is eq. 4 with weights 1,
    beta, 1. As in disentanglement_lib, the KL is the closed form and only TC is estimated. beta = 1 is the VAE.

    log q(z) and log q(z_d) are estimated from the batch, B of N = num_images images:

    'weighted': the paper's minibatch weighted sampling, sum_j q(z|x_j) / (N B). Every logarithm is that of the plain
      mean over the batch less log N, so TC is that of the plain mean plus (D - 1) log N: a constant, which changes the
      loss but no gradient (disentanglement_lib leaves it out).
    'stratified': minibatch stratified sampling (appendix C.2), weight 1 / N for the example's own posterior. The paper
      gives the last of the others a larger weight; here each of them has (1 - 1 / N) / (B - 1): the same expectation,
      and all examples are treated alike. The weights sum to 1.

    Args:
      beta: step -> weight of TC in the decomposition of the KL.
      num_images: N.
      estimator: of log q(z) and log q(z_d).

    Returns:
      The objective; it has neither parameters nor state, and logs 'total_correlation' in nats.

    Example:
      >>> objective = beta_tcvae(lambda step: 6.0, num_images=2, estimator="stratified")
      >>> mean = jnp.array([[9.0, 9.0], [-9.0, -9.0]])  # two far images: log 2 nats that both latents share
      >>> posterior = Posterior(mean, jnp.zeros((2, 2)))
      >>> terms, _ = objective.apply((), (), 0, posterior, posterior.mean, jax.random.key(0))
      >>> round(float(terms["total_correlation"]), 4)
      0.6931
    """
    log_weights = plugins.choose({"weighted": _weighted, "stratified": _stratified}, estimator, "objective.estimator")

    def apply(
        params: PyTree, objective_state: PyTree, step: jax.Array, posterior: Posterior, z: jax.Array, key: jax.Array
    ) -> tuple[Terms, PyTree]:
        del params, key
        weight = beta(step)
        tc_B = _total_correlation(z, posterior, log_weights(len(z), num_images))
        regulariser_B = kl(posterior) + (weight - 1.0) * tc_B
        return {"regulariser": regulariser_B, "beta": weight, "total_correlation": jnp.mean(tc_B)}, objective_state

    return Objective(no_params, apply, rotation_safe=True)


def _weighted(batch: int, num_images: int) -> jax.Array:
    """Log weight of posterior j in the aggregate posterior at z_i, minibatch weighted sampling: [B, B]."""
    return jnp.full((batch, batch), -math.log(num_images * batch))


def _stratified(batch: int, num_images: int) -> jax.Array:
    """Log weight of posterior j in the aggregate posterior at z_i, minibatch stratified sampling: [B, B]."""
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
    """FactorVAE: beta * KL + gamma * TC, TC from a discriminator. Kim and Mnih 2018, arXiv 1802.05983, eq. 2.

    The discriminator D separates codes z from codes whose latents are permuted independently over the batch; its logit,
    log D / (1 - D), then estimates log q(z) / prod_d q(z_d), whose mean over the batch is TC in nats (eq. 3). It trains
    in the same step, by Adam with b1 = 0.5 and b2 = 0.9 as in the paper. As in disentanglement_lib, the codes of this
    batch are permuted; algorithm 2 of the paper draws a second batch for that.

    Neither loss has a gradient to what the other trains: the regulariser sees the discriminator's parameters as
    constants, 'objective_loss' sees the codes as constants. With gamma = 0 this is the beta-VAE.

    Args:
      beta: step -> weight of the KL, 1 in the paper.
      latents: D.
      gamma: weight of TC, 10 for dSprites in disentanglement_lib's range of 10 to 100; the paper's best there is 35.
      width: units of each hidden layer of the discriminator; the paper's (appendix A), as is depth.
      depth: hidden layers of the discriminator.
      discriminator_learning_rate: of its Adam; the paper's.

    Returns:
      The objective. Its parameters are those of the discriminator; it has no state. It logs 'total_correlation' in nats
      and 'objective_loss', the discriminator's cross-entropy: log 2 where it cannot separate the two.

    Example:
      >>> objective = factor_vae(lambda step: 1.0, latents=2, gamma=10.0, width=8, depth=1)
      >>> params, state = objective.init(jax.random.key(0))
      >>> untrained = jax.tree.map(jnp.zeros_like, params)  # logit 0 for all codes
      >>> posterior = Posterior(mean=jnp.array([[2.0, 0.0], [0.0, 2.0]]), logvar=jnp.zeros((2, 2)))
      >>> terms, _ = objective.apply(untrained, state, 0, posterior, posterior.mean, jax.random.key(0))
      >>> terms["regulariser"].tolist(), round(float(terms["objective_loss"]), 4)
      ([2.0, 2.0], 0.6931)
    """
    discriminator = Discriminator(width, depth)

    def init(key: jax.Array) -> tuple[PyTree, PyTree]:
        return discriminator.init(key, jnp.zeros((1, latents)))["params"], ()

    def logits(params: PyTree, z_BxD: jax.Array) -> jax.Array:
        return jnp.asarray(discriminator.apply({"params": params}, z_BxD))

    def apply(
        params: PyTree, objective_state: PyTree, step: jax.Array, posterior: Posterior, z: jax.Array, key: jax.Array
    ) -> tuple[Terms, PyTree]:
        kl_weight = beta(step)
        ratio_B = logits(jax.lax.stop_gradient(params), z)
        constant_z = jax.lax.stop_gradient(z)
        keys = jax.random.split(key, z.shape[1])
        permuted = jax.vmap(jax.random.permutation, in_axes=(0, 1), out_axes=1)(keys, constant_z)
        losses_B = jax.nn.softplus(-logits(params, constant_z)) + jax.nn.softplus(logits(params, permuted))
        terms = {
            "regulariser": kl_weight * kl(posterior) + gamma * ratio_B,
            "beta": kl_weight,
            "total_correlation": jnp.mean(ratio_B),
            "objective_loss": jnp.mean(losses_B) / 2,
        }
        return terms, objective_state

    return Objective(init, apply, optimizer=optax.adam(discriminator_learning_rate, b1=0.5, b2=0.9))
