"""Tripod: quantised latents, a kernel estimate of their multiinformation, and a Hessian penalty on the decoder.

Hsu, Hamid, Burns, Finn and Wu 2024, arXiv 2404.10282. The details follow the authors' code (kylehkhsu/tripod, commit
d794dc4); `tripod` lists what differs.
"""

import math
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from pydantic import Field

from deft_jax.models.posterior import Posterior
from deft_jax.objectives.base import BatchMean, Decode, Objective, PyTree, Schedule, Terms, no_params
from deft_jax.objectives.quantisation import entropy_of_values, logvar_of_steps, straight_through
from deft_jax.runtime.validation import Count, NonNegative, Number

MarginalBandwidth = Literal["deviation", "joint"]


def tripod(
    beta: Schedule,
    *,
    num_values: Annotated[Count, Field(ge=2)] = 12,
    hessian_weight: NonNegative = 41.0,
    marginal_bandwidth: MarginalBandwidth = "deviation",
    num_directions: Annotated[Count, Field(ge=2)] = 2,
    epsilon: Annotated[Number, Field(ge=1e-3, le=10)] = 0.1,
) -> Objective:
    """Tripod: quantised latents, their multiinformation and the decoder's Hessian. Hsu et al. 2024, arXiv 2404.10282.

    An autoencoder, without noise and without a KL, under three inductive biases:

    1. Finite scalar quantisation (`quantise`): the tanh of the encoder's mean is rounded to one of num_values fixed
       values from -1 to 1, and the gradient passes straight through. Nothing is learned there.
    2. beta(step) * multiinformation of the quantised latents over the batch (`kernel_multiinformation`).
    3. hessian_weight * normalised Hessian penalty (`normalised_hessian_penalty`), summed over the hidden layers of the
       decoder: no latent should change what another one does. Its directions are scaled by the deviation of each
       latent's tanh over the batch.

    The authors' weights stand before a mean over pixels. In sums over the 4,096 pixels of a grey image their 1e-4 and
    1e-2 for Shapes3D, the defaults of the preset, are 0.41 and 41. Their other pairs: MPI3D 1e-8 and 1e-4, Falcor3D
    1e-10 and 1e-2, Isaac3D 1e-4 and 1e-8; dSprites is not among their sets.

    What differs: the decoder is that of this package, with ReLU and without the adaptive normalisation by which theirs
    takes the latents in, and all five of its hidden layers are penalised, of theirs the four outputs of blocks. The
    deviation is sqrt(variance + 1e-12), not deviation + 1e-6, which has no gradient where a latent is constant. The
    penalty is a ratio of means over the batch, with another floor, not a mean of ratios. They clip each entry of the
    gradient to [-1, 1]; here nothing is clipped.

    The quantised codes are scored, by InfoMEC with estimator 'discrete' in the paper. 'kl_per_latent' is the entropy of
    the values in use, and the variance of a code that of a uniform distribution between two values, as for QLAE.

    Args:
      beta: step -> weight of the multiinformation.
      num_values: of each latent; 12 in the authors' code.
      hessian_weight: weight of the Hessian penalty; 0 leaves its computation out, which is most of a step.
      marginal_bandwidth: see `kernel_multiinformation`; 'deviation' in the authors' code.
      num_directions: see `normalised_hessian_penalty`; 2 in the authors' code.
      epsilon: likewise; 0.1 in the authors' code.

    Returns:
      The objective; it has neither parameters nor state. It logs 'multiinformation' in nats, 'hessian_penalty',
      'kl_per_latent' and 'kl', the entropies and their sum.

    Example:
      >>> objective = tripod(lambda step: 1.0, num_values=3)  # values -1, 0 and 1
      >>> posterior = Posterior(mean=jnp.array([[0.1, 9.0], [-0.2, -9.0]]), logvar=jnp.zeros((2, 2)))
      >>> print(objective.represent((), posterior).mean)
      [[ 0.  1.]
       [ 0. -1.]]
      >>> terms, _ = objective.apply((), (), 0, posterior, posterior.mean, jax.random.key(0))
      >>> print(round(float(terms["kl"]), 4))  # latent 1 has two values
      0.6931
    """
    logvar = logvar_of_steps(2 / (num_values - 1))

    def spaces(params: PyTree, posterior: Posterior, noise_BxD: jax.Array) -> jax.Array:
        del params, noise_BxD
        return quantise(posterior.mean, num_values)[0][None]

    def represent(params: PyTree, posterior: Posterior) -> Posterior:
        del params
        codes, _ = quantise(posterior.mean, num_values)
        return Posterior(codes, jnp.full_like(codes, logvar))

    def apply(
        params: PyTree, objective_state: PyTree, step: jax.Array, posterior: Posterior, z: jax.Array, key: jax.Array
    ) -> tuple[Terms, PyTree]:
        del params, z, key
        weight = beta(step)
        codes, index_BxD = quantise(posterior.mean, num_values)
        information_B = kernel_multiinformation(codes, _deviation(posterior), marginal_bandwidth)
        entropy_D = entropy_of_values(index_BxD, num_values)
        terms = {
            "regulariser": weight * information_B,
            "beta": weight,
            "multiinformation": jnp.mean(information_B),
            "kl": jnp.sum(entropy_D),
            "kl_per_latent": entropy_D,
        }
        return terms, objective_state

    def decoder_terms(
        params: PyTree,
        step: jax.Array,
        posterior: Posterior,
        z_BxD: jax.Array,
        keys_B: jax.Array,
        decode: Decode,
        batch_mean: BatchMean,
    ) -> Terms:
        del params, step
        penalty = normalised_hessian_penalty(
            decode, z_BxD, _deviation(posterior), keys_B, batch_mean, num_directions, epsilon
        )
        return {"regulariser": hessian_weight * penalty, "hessian_penalty": penalty}

    return Objective(
        no_params,
        apply,
        spaces=spaces,
        represent=represent,
        traversal_range=1.0,
        decoder_terms=decoder_terms if hessian_weight > 0 else None,
    )


def quantise(mean_BxD: jax.Array, num_values: int) -> tuple[jax.Array, jax.Array]:
    """The nearest of num_values values, evenly spaced from -1 to 1, to the tanh of the means.

    Args:
      mean_BxD: of the encoder.
      num_values: of each latent, at least 2.

    Returns:
      Codes [B, D], with the gradient of the tanh, and the indices [B, D] of their values.

    Example:
      >>> codes, index = quantise(jnp.array([[0.1, 0.4, -5.0]]), 5)  # values -1, -0.5, 0, 0.5 and 1
      >>> print(codes, index)
      [[ 0.   0.5 -1. ]] [[2 3 0]]
    """
    continuous = jnp.tanh(mean_BxD)
    index_BxD = jnp.round((continuous + 1) / 2 * (num_values - 1))
    values = 2 * index_BxD / (num_values - 1) - 1
    return straight_through(values, continuous), index_BxD.astype(jnp.int32)


def _deviation(posterior: Posterior) -> jax.Array:
    """The standard deviation of each latent's tanh over the batch: [D], above 0."""
    return jnp.sqrt(jnp.var(jnp.tanh(posterior.mean), axis=0) + 1e-12)


def kernel_multiinformation(
    z_BxD: jax.Array, deviation_D: jax.Array, marginal_bandwidth: MarginalBandwidth = "deviation"
) -> jax.Array:
    """log q(z_i) - sum_d log q(z_id), the q estimated with Gaussian kernels at the codes of the batch.

    The mean over the batch is the multiinformation (total correlation) of the latents in nats. log q(z_i) is that of
    the plain mean over j of prod_d N(z_id; z_jd, (h * deviation_d)^2), the example itself included. Its bandwidth is
    Silverman's for D dimensions, h = (4 / (B (D + 2)))^(1 / (D + 4)). A latent may be shifted and scaled, with its
    deviation, without a change.

    The bandwidth of the marginals q(z_d) is

    'deviation': deviation_d, as in the authors' code. Independent latents then have no multiinformation of 0 but one
      that depends on the shape of the marginals, and negative values occur.
    'joint': h * deviation_d, so that they are the marginals of the joint estimate. Independent latents have 0 in the
      limit of many examples; in few examples the kernel of the example itself adds some, the more so for many latents.

    Args:
      z_BxD: codes.
      deviation_D: standard deviation of each latent, or another scale of it, above 0.
      marginal_bandwidth: 'deviation' or 'joint'.

    Returns:
      [B], in nats.

    Example:
      >>> z = jnp.array([[-1.0, -1.0], [1.0, 1.0]])
      >>> information = kernel_multiinformation(z, jnp.array([0.1, 0.1]), "joint")  # narrow kernels, of which two meet
      >>> print(information, jnp.log(2.0))
      [0.6931472 0.6931472] 0.6931472
    """
    batch, latents = z_BxD.shape
    width = (4 / (batch * (latents + 2))) ** (1 / (latents + 4))
    marginal_width = 1.0 if marginal_bandwidth == "deviation" else width
    # Powers of 2 pi and of the deviations are the same in both densities, as is the number of examples in each mean.
    exponent_BxBxD = -0.5 * jnp.square((z_BxD[:, None] - z_BxD[None]) / deviation_D)
    joint_B = jax.nn.logsumexp(jnp.sum(exponent_BxBxD, axis=2) / width**2, axis=1)
    marginals_BxD = jax.nn.logsumexp(exponent_BxBxD / marginal_width**2, axis=1)
    constant = (latents - 1) * math.log(batch) + latents * math.log(marginal_width / width)
    return joint_B - jnp.sum(marginals_BxD, axis=1) + constant


def normalised_hessian_penalty(
    decode: Decode,
    z_BxD: jax.Array,
    scale_D: jax.Array,
    keys_B: jax.Array,
    batch_mean: BatchMean,
    num_directions: int = 2,
    epsilon: float = 0.1,
) -> jax.Array:
    """How much of the decoder's second derivative is off the diagonal, from 0 for an additive decoder to 1 per layer.

    With H the Hessian of one output and S = diag(scale), v^T S H S v has variance 2 sum over i != j of (S H S)_ij^2 for
    v of random signs (Peebles et al. 2020, arXiv 2008.10599), and 2 sum over all i, j of (S H S)_ij^2 for v of standard
    normal numbers. The penalty of a layer is the ratio of both variances, each the mean over the outputs of the layer
    and over the batch. Therefore it does not change with the scale of the outputs, nor with that of a latent, of which
    scale_D is a multiple.

    The quadratic form is the second central difference
    (f(z + epsilon S v) - 2 f(z) + f(z - epsilon S v)) / epsilon^2, and the variances are those over num_directions
    draws of v. The decoder is called at 1 + 4 num_directions codes for each example.

    The authors average a ratio for each example. With two draws of v its second variance may be nearly 0, in a decoder
    with ReLU exactly so, and the average has no bound: it is 10^6 in the first steps of small models. They also add
    1e-10 to the second variance, so that a decoder that is linear up to rounding has a ratio of about 1. Here it has a
    floor instead, below which curvature counts as rounding: the square of 32 units in the last place of the outputs
    over epsilon^2.

    Args:
      decode: see base.Decode.
      z_BxD: codes.
      scale_D: length of a unit step in each latent.
      keys_B: a random key for each example.
      batch_mean: see base.BatchMean.
      num_directions: draws of each of both kinds of v, at least 2.
      epsilon: of the central difference.

    Returns:
      [], the sum over the layers; without a unit.

    Example:
      >>> z, keys = jax.random.normal(jax.random.key(0), (1_000, 2)), jax.random.split(jax.random.key(1), 1_000)
      >>> mean = lambda values: jnp.mean(values, axis=0)
      >>> additive = lambda z: [z[:, :1] ** 2 + z[:, 1:] ** 2]
      >>> print(round(float(normalised_hessian_penalty(additive, z, jnp.ones(2), keys, mean)), 3))
      0.0
      >>> product = lambda z: [z[:, :1] * z[:, 1:]]
      >>> print(round(float(normalised_hessian_penalty(product, z, jnp.ones(2), keys, mean)), 1))
      1.0
    """
    batch, latents = z_BxD.shape
    shape = (num_directions, latents)

    def directions(key: jax.Array) -> jax.Array:
        signs_key, normal_key = jax.random.split(key)
        signs = jax.random.rademacher(signs_key, shape, z_BxD.dtype)
        return jnp.concatenate([signs, jax.random.normal(normal_key, shape, z_BxD.dtype)])

    steps_KxBxD = epsilon * scale_D * jax.vmap(directions, out_axes=1)(keys_B)
    points_PxBxD = jnp.concatenate([z_BxD[None], z_BxD + steps_KxBxD, z_BxD - steps_KxBxD])
    squares = []
    for layer in decode(points_PxBxD.reshape(-1, latents)):
        outputs_PxBxO = layer.reshape(len(points_PxBxD), batch, -1)
        ahead, behind = jnp.split(outputs_PxBxO[1:], 2)
        curvature_KxBxO = (ahead - 2 * outputs_PxBxO[0] + behind) / epsilon**2
        off_diagonal_BxO, all_BxO = (jnp.var(draws, axis=0) for draws in jnp.split(curvature_KxBxO, 2))
        rounding_BxO = jnp.square(32 * jnp.finfo(z_BxD.dtype).eps / epsilon**2 * outputs_PxBxO[0])
        squares += [jnp.mean(values, axis=1) for values in (off_diagonal_BxO, all_BxO, rounding_BxO)]
    off_diagonal_L, all_L, rounding_L = batch_mean(jnp.stack(squares, axis=1)).reshape(-1, 3).T
    return jnp.sum(off_diagonal_L / (all_L + jax.lax.stop_gradient(rounding_L) + 1e-30))  # 1e-30: of a dead layer
