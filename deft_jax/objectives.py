"""Training objectives, side by side. Each is an Objective, pure functions that the training step calls.

init(key) -> (params, memory)
apply(params, memory, step, posterior, z, key) -> (terms, memory)

`params` are trained parameters of the objective's own (() if none), `memory` is the state of its controller
(() if none): both are part of the training state, so they checkpoint, resume and vmap with it.

`apply` sees the posterior and one sample z [B, D] of the whole batch, however many devices share it, and the same key
on each. `terms['regulariser']` [B] is added to each example's reconstruction loss (a term of the whole batch stands in
every entry); `terms['objective_loss']` [], if there, trains `params` and must reach nothing else; `terms['beta']` [] is
the pressure; every other entry is a scalar to log. The batch mean is taken in the training step, and nowhere else.
All terms are in nats, against a reconstruction loss summed over pixels.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from deft_jax import options
from deft_jax.gaussian import kl_per_latent, log_density, reparameterise
from deft_jax.models import Discriminator
from deft_jax.schedules import Schedule
from deft_jax.state import Posterior


def _one_space(params, posterior, noise_BxD):
    del params
    return reparameterise(posterior, noise_BxD)[None]


def _as_it_is(params, posterior):
    del params
    return posterior


class Objective(NamedTuple):
    """An objective as pure functions; see the head of this file for the first two.

    spaces: (params, posterior, noise_BxD) -> z_SxBxD, the codes to decode: S latent spaces, one unless told. The
      reconstruction loss is averaged over them, and `apply` is given those of the first.
    represent: (params, posterior) -> Posterior, the representation that is scored, traversed and shown.
    optimizer: of `params`; unless given, Adam at the learning rate of the decoder.
    reach: traversals set a latent of the representation to values from -reach to reach.
    latents_alike: whether it weighs all latents by one rule and knows none of them apart, so that they may be turned
      (see axes.py); not unless told.
    """

    init: Callable
    apply: Callable
    spaces: Callable = _one_space
    represent: Callable = _as_it_is
    optimizer: optax.GradientTransformation | None = None
    reach: float = 2.0
    latents_alike: bool = False


def pixel_losses(likelihood: str, images: jax.Array, outputs: jax.Array) -> jax.Array:
    """-log p(x|z) of each pixel in nats, unreduced: the shape of `images`, whose values lie in [0, 1].

    likelihood: 'bernoulli', outputs are logits; 'gaussian', outputs are means, and the loss is the plain squared
    error (x - output)^2, the usage of this field: a Gaussian of variance 1/2 without its constant.
    """
    if likelihood == "bernoulli":
        return jax.nn.softplus(outputs) - images * outputs
    if likelihood == "gaussian":
        return jnp.square(images - outputs)
    raise ValueError(f"unknown likelihood {likelihood!r}; known: bernoulli, gaussian")


def reconstruction_loss(likelihood: str, images: jax.Array, outputs: jax.Array) -> jax.Array:
    """-log p(x|z) of each example in nats, `pixel_losses` of [B, H, W, C] summed over pixels and channels: [B]."""
    return jnp.sum(pixel_losses(likelihood, images, outputs), axis=(1, 2, 3))


def _nothing(key):
    """`init` of an objective that trains nothing and remembers nothing."""
    del key
    return (), ()


def _kl(posterior: Posterior) -> jax.Array:
    """KL(q(z|x) || p(z)) of each example in nats: [B]."""
    return jnp.sum(kl_per_latent(posterior), axis=1)


def _of_the_batch(term: jax.Array, posterior: Posterior) -> jax.Array:
    """A term [] of the whole batch, standing in every entry: [B]."""
    return jnp.full(posterior.mean.shape[:1], term)


def _measured_kl(posterior: Posterior) -> jax.Array:
    """The batch mean of the KL as a controller reads it: float32 [], a number to the gradient."""
    return jax.lax.stop_gradient(jnp.mean(_kl(posterior))).astype(jnp.float32)


def _check_not_negative(**values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"objective.{name} must be finite and not negative, got {value}")


def _check_at_least_one(**values: int) -> None:
    for name, value in values.items():
        if not value >= 1:
            raise ValueError(f"objective.{name} must be at least 1, got {value}")


def beta_vae(beta: Schedule) -> Objective:
    """beta * sum_d KL(q(z_d|x) || p(z_d)) (Higgins et al. 2017, eq. 4), beta a function of the step.

    DEFT uses this very objective: what it adds is when beta falls and which group may learn (Wu et al. 2022).
    """

    def apply(params, memory, step, posterior, z, key):
        del params, z, key
        pressure = beta(step)
        return {"regulariser": pressure * _kl(posterior), "beta": pressure}, memory

    return Objective(_nothing, apply, latents_alike=True)


def annealed_vae(beta: Schedule, capacity: float = 25.0, ramp_steps: int = 100_000) -> Objective:
    """beta * |KL - C|, KL the mean over the batch (Burgess et al. 2018, arXiv 1804.03599, eq. 8; beta is gamma there).

    C rises in a line from 0 to `capacity` nats over `ramp_steps` steps and stays. The defaults are the paper's for
    dSprites, where gamma is 1,000. With capacity = 0 it is the beta-VAE.
    """
    _check_not_negative(capacity=capacity)
    _check_at_least_one(ramp_steps=ramp_steps)

    def apply(params, memory, step, posterior, z, key):
        del params, z, key
        pressure = beta(step)
        now = capacity * jnp.clip(step / ramp_steps, 0.0, 1.0)
        term = pressure * jnp.abs(jnp.mean(_kl(posterior)) - now)
        return {"regulariser": _of_the_batch(term, posterior), "beta": pressure, "capacity": now}, memory

    return Objective(_nothing, apply, latents_alike=True)


def beta_tcvae(beta: Schedule, num_images: int, estimator: str = "weighted") -> Objective:
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
    weights = options.choose({"weighted": _weighted, "stratified": _stratified}, estimator, "objective.estimator")
    _check_at_least_one(num_images=num_images)

    def apply(params, memory, step, posterior, z, key):
        del params, key
        pressure = beta(step)
        tc_B = _total_correlation(z, posterior, weights(len(z), num_images))
        regulariser_B = _kl(posterior) + (pressure - 1.0) * tc_B
        return {"regulariser": regulariser_B, "beta": pressure, "total_correlation": jnp.mean(tc_B)}, memory

    return Objective(_nothing, apply, latents_alike=True)


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


def dip_vae_i(beta: Schedule, lambda_od: float = 10.0, lambda_d: float | None = None) -> Objective:
    """beta * KL + a pull of Cov_x[mean(x)] to the identity (Kumar et al. 2018, arXiv 1711.00848, eq. 6), in nats.

    The pull is lambda_od * sum_{i != j} Cov_ij^2 + lambda_d * sum_i (Cov_ii - 1)^2, Cov that of the batch, divided by
    B. beta is 1 in the paper. lambda_od: of the range of disentanglement_lib's study. lambda_d: 10 * lambda_od unless
    given, as there and in the paper.
    """
    return _dip_vae(beta, lambda_od, 10.0 * lambda_od if lambda_d is None else lambda_d, _covariance_of_means)


def dip_vae_ii(beta: Schedule, lambda_od: float = 10.0, lambda_d: float | None = None) -> Objective:
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
    _check_not_negative(lambda_od=lambda_od, lambda_d=lambda_d)

    def apply(params, memory, step, posterior, z, key):
        del params, z, key
        pressure = beta(step)
        cov_DxD = covariance(posterior)
        variances_D = jnp.diag(cov_DxD)
        penalty = lambda_od * jnp.sum(jnp.square(cov_DxD - jnp.diag(variances_D)))
        penalty += lambda_d * jnp.sum(jnp.square(variances_D - 1.0))
        regulariser_B = pressure * _kl(posterior) + penalty
        return {"regulariser": regulariser_B, "beta": pressure, "covariance_penalty": penalty}, memory

    return Objective(_nothing, apply, latents_alike=True)


def cascade_vae_c(beta: Schedule, beta_high: float = 10.0, period: int = 6000) -> Objective:
    """sum_d w_d KL_d, w_d = beta once latent d is open and beta_high before (Jeong and Song 2019, arXiv 1905.09432).

    The continuous part of that paper, CascadeVAE-C: information cascades through the latents. As in the authors' code,
    latent 0 is open from the first step and the next one opens every `period` steps, in order. There beta is 0.1,
    beta_high 10 and the period 20,000; the field has used 1, 10 and 6,000. With beta = beta_high it is the beta-VAE.
    """
    _check_not_negative(beta_high=beta_high)
    _check_at_least_one(period=period)

    def apply(params, memory, step, posterior, z, key):
        del params, z, key
        pressure = beta(step)
        kl_BxD = kl_per_latent(posterior)
        latents = kl_BxD.shape[1]
        count = jnp.minimum(1 + step // period, latents)
        weights_D = jnp.where(jnp.arange(latents) < count, pressure, beta_high)
        terms = {"regulariser": jnp.sum(weights_D * kl_BxD, axis=1), "beta": pressure}
        return terms | {"open_latents": count.astype(jnp.float32)}, memory

    return Objective(_nothing, apply)


def _kl_stairs(kl_start: float, kl_target: float, increment: float, period: int, ramp_steps: int = 0) -> Schedule:
    """The KL that a controller aims at, in nats: from kl_start, `increment` more every `period` steps, up to kl_target.

    ramp_steps: each rise is a line of so many steps from the start of its period; 0, a step.
    """
    _check_not_negative(kl_start=kl_start, kl_target=kl_target, increment=increment, ramp_steps=ramp_steps)
    _check_at_least_one(period=period)
    if ramp_steps > period:
        raise ValueError(f"objective.ramp_steps must not exceed period, got {ramp_steps} and {period}")

    def schedule(step):
        # The rise under way counts in part, none in the first period: it has nothing to rise from.
        missing = 1.0 - jnp.minimum(step % period / ramp_steps, 1.0) if ramp_steps else 0.0
        rises = jnp.maximum(step // period - missing, 0.0)
        return jnp.minimum(kl_start + increment * rises, kl_target)

    return schedule


def control_vae(
    beta: Schedule,
    kl_target: float = 18.0,
    kl_start: float = 0.5,
    increment: float = 0.15,
    period: int = 5000,
    kp: float = 0.01,
    ki: float = 0.001,
    beta_max: float = math.inf,
) -> Objective:
    """A PI controller that holds the KL at a target (Shao et al. 2020, ControlVAE, arXiv 2004.05988).

    weight = kp / (1 + exp(e)) - ki * sum of e + beta, e = target(step) - KL in nats, KL the mean over the batch and
    the sum over all steps up to this one. beta(step) is the smallest weight, beta_max the largest (where they cross,
    the smallest wins); terms['beta'] is the weight used.

    The target rises from kl_start by `increment` every `period` steps up to kl_target. All defaults are those of the
    authors' code for dSprites (their beta_min is 1, and no beta_max).

    Anti-windup: the sum stops where the weight meets a limit, and leaves it with the first error of the other sign.
    The authors' code holds it after every weight below the smallest, whichever way it would go, and so may stay there.

    memory: {'integral': float32 []}, -ki * sum of e.
    """
    _check_not_negative(kp=kp, ki=ki)
    if not beta_max > 0:
        raise ValueError(f"objective.beta_max must be above 0, got {beta_max}")
    target = _kl_stairs(kl_start, kl_target, increment, period)

    def init(key):
        del key
        return (), {"integral": jnp.zeros((), jnp.float32)}

    def apply(params, memory, step, posterior, z, key):
        del params, z, key
        smallest, aim = beta(step), target(step)
        largest = jnp.maximum(smallest, beta_max)
        error = aim - _measured_kl(posterior)
        proportional = kp * jax.nn.sigmoid(-error)
        integral = jnp.clip(memory["integral"] - ki * error, -proportional, largest - smallest - proportional)
        weight = smallest + (proportional + integral)
        return {"regulariser": weight * _kl(posterior), "beta": weight, "kl_target": aim}, {"integral": integral}

    return Objective(init, apply, latents_alike=True)


def dynamic_vae(
    beta: Schedule,
    kl_target: float = 20.0,
    kl_start: float = 0.5,
    increment: float = 0.15,
    period: int = 6000,
    ramp_steps: int = 1000,
    kp: float = 0.01,
    ki: float = 0.005,
    beta_start: float = 50.0,
    window: int = 5,
) -> Objective:
    """An incremental PI controller under which the weight falls (Shao et al. 2020, DynamicVAE, arXiv 2009.06795).

    weight_t = weight_{t-1} + kp * (sigmoid(-e_t) - sigmoid(-e_{t-1})) - ki * e_t, not below beta(step), from beta_start
    and with e = 0 before the first step. e = target(step) - KL in nats, KL the mean over the batch and over the last
    `window` steps. terms['beta'] is the weight used.

    The target rises from kl_start by `increment` in the first ramp_steps of every period but the first, up to
    kl_target: steps and ramps at once, the paper's hybrid annealing. All defaults are those of the authors' code for
    dSprites, where the smallest weight is 0.1; beta_start is 90 for SmallNORB and 100 for MNIST there.

    Two choices of this project: the weight is remembered as it was used, so nothing winds up below the smallest; and
    before `window` steps are done the mean is over those there are, where the authors' code fills up with zeros.

    memory: {'beta': float32 [], 'error': float32 [], 'kls': float32 [window], 'seen': int32 []}.
    """
    _check_not_negative(kp=kp, ki=ki, beta_start=beta_start)
    _check_at_least_one(window=window, ramp_steps=ramp_steps)
    target = _kl_stairs(kl_start, kl_target, increment, period, ramp_steps)

    def init(key):
        del key
        zero = jnp.zeros((), jnp.float32)
        kls = jnp.zeros(window, jnp.float32)
        weight = jnp.full((), beta_start, jnp.float32)
        return (), {"beta": weight, "error": zero, "kls": kls, "seen": jnp.zeros((), jnp.int32)}

    def apply(params, memory, step, posterior, z, key):
        del params, z, key
        aim = target(step)
        kls = jnp.append(memory["kls"][1:], _measured_kl(posterior))
        seen = jnp.minimum(memory["seen"] + 1, window)
        error = aim - jnp.sum(kls) / seen
        change = kp * (jax.nn.sigmoid(-error) - jax.nn.sigmoid(-memory["error"])) - ki * error
        weight = jnp.maximum(memory["beta"] + change, beta(step))
        after = {"beta": weight, "error": error, "kls": kls, "seen": seen}
        return {"regulariser": weight * _kl(posterior), "beta": weight, "kl_target": aim}, after

    return Objective(init, apply, latents_alike=True)


def factor_vae(
    beta: Schedule,
    latents: int,
    *,
    gamma: float = 10.0,
    width: int = 1000,
    depth: int = 6,
    discriminator_learning_rate: float = 1e-4,
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
    _check_not_negative(gamma=gamma, discriminator_learning_rate=discriminator_learning_rate)
    _check_at_least_one(width=width, depth=depth)
    critic = Discriminator(width, depth)

    def init(key):
        return critic.init(key, jnp.zeros((1, latents)))["params"], ()

    def logits(params, z_BxD):
        return critic.apply({"params": params}, z_BxD)

    def apply(params, memory, step, posterior, z, key):
        pressure = beta(step)
        ratio_B = logits(jax.lax.stop_gradient(params), z)
        fixed = jax.lax.stop_gradient(z)
        keys = jax.random.split(key, z.shape[1])
        permuted = jax.vmap(jax.random.permutation, in_axes=(0, 1), out_axes=1)(keys, fixed)
        told_apart = jnp.mean(jax.nn.softplus(-logits(params, fixed)) + jax.nn.softplus(logits(params, permuted))) / 2
        terms = {
            "regulariser": pressure * _kl(posterior) + gamma * ratio_B,
            "beta": pressure,
            "total_correlation": jnp.mean(ratio_B),
            "objective_loss": told_apart,
        }
        return terms, memory

    return Objective(init, apply, optimizer=optax.adam(discriminator_learning_rate, b1=0.5, b2=0.9))


def devae(beta: Schedule, latents: int, *, betas: Sequence[float] = (10.0, 40.0)) -> Objective:
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
    _check_not_negative(**{f"betas[{k}]": value for k, value in enumerate(betas)})

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

    def apply(params, memory, step, posterior, z, key):
        del z, key
        pressure = beta(step)
        kl_KxB = jnp.sum(kl_per_latent(further(params, posterior)), axis=2)
        weighted_B = pressure * _kl(posterior) + jnp.asarray(betas) @ kl_KxB
        terms = {"regulariser": weighted_B / (1 + len(betas)), "beta": pressure}
        return terms | {f"kl_space_{k + 1}": jnp.mean(kl_KxB[k]) for k in range(len(betas))}, memory

    return Objective(init, apply, spaces=spaces)


def qlae(beta: Schedule, latents: int, *, num_values: int = 10) -> Objective:
    """A quantised-latent autoencoder: QLAE (Hsu et al. 2023, arXiv 2305.18378).

    Each latent has its own codebook of scalars. The encoder's mean is replaced by the nearest of them, the gradient
    passes straight through, and two squared distances summed over latents, under the pressure beta(step), pull codebook
    and encoder together (quantisation and commitment). There is no noise and no KL. The other half of the method is a
    high weight decay: config.optimizer.weight_decay, 0.1 in the paper.

    beta: the authors' weight of 0.001 on means over pixels and latents is, in sums over 4,096 pixels and 10 latents,
    0.41. num_values: of each codebook, 10 for dSprites there; at first evenly spaced from -0.5 to 0.5.

    What is scored are the quantised codes. In place of a KL, which a deterministic code does not have, 'kl_per_latent'
    tells the entropy of the values used in the batch, in nats: the KL to the best prior. As a posterior a code is as
    wide as the spacing of an even codebook, for figures to have something to draw.
    """
    if num_values < 2:
        raise ValueError(f"objective.num_values must be at least 2, got {num_values}")
    logvar = math.log(1 / (num_values - 1) ** 2 / 12)

    def init(key):
        del key
        return {"values": jnp.tile(jnp.linspace(-0.5, 0.5, num_values), (latents, 1))}, ()

    def nearest(params, mean_BxD):
        """Quantised codes [B, D] and the indices of their values."""
        index_BxD = jnp.argmin(jnp.abs(mean_BxD[..., None] - params["values"]), axis=-1)
        return params["values"][jnp.arange(latents), index_BxD], index_BxD

    def spaces(params, posterior, noise_BxD):
        del noise_BxD
        quantised, _ = nearest(params, posterior.mean)
        return (posterior.mean + jax.lax.stop_gradient(quantised - posterior.mean))[None]

    def represent(params, posterior):
        quantised, _ = nearest(params, posterior.mean)
        return Posterior(quantised, jnp.full_like(quantised, logvar))

    def apply(params, memory, step, posterior, z, key):
        del z, key
        pressure = beta(step)
        quantised, index_BxD = nearest(params, posterior.mean)
        pulled = jnp.square(jax.lax.stop_gradient(posterior.mean) - quantised)
        committed = jnp.square(posterior.mean - jax.lax.stop_gradient(quantised))
        used_DxV = jnp.mean(jax.nn.one_hot(index_BxD, num_values), axis=0)
        entropy_D = -jnp.sum(jax.scipy.special.xlogy(used_DxV, used_DxV), axis=1)
        terms = {
            "regulariser": pressure * jnp.sum(pulled + committed, axis=1),
            "beta": pressure,
            "kl": jnp.sum(entropy_D),
            "kl_per_latent": entropy_D,
        }
        return terms, memory

    return Objective(init, apply, spaces=spaces, represent=represent, reach=0.5)


OBJECTIVES = {
    "annealed_vae": annealed_vae,
    "beta_tcvae": beta_tcvae,
    "beta_vae": beta_vae,
    "cascade_vae_c": cascade_vae_c,
    "control_vae": control_vae,
    "deft": beta_vae,  # what DEFT adds stands in the stages and in the optimiser
    "devae": devae,
    "dip_vae_i": dip_vae_i,
    "dip_vae_ii": dip_vae_ii,
    "dynamic_vae": dynamic_vae,
    "factor_vae": factor_vae,
    "qlae": qlae,
}


def get(name: str, beta: Schedule, *, latents: int, num_images: int, **kwargs) -> Objective:
    """The objective called `name` under the pressure `beta`, for D = `latents` and a set of `num_images` images.

    name: a key of OBJECTIVES, or 'module:function' of a function of your own which takes beta, and latents or
      num_images where it needs them, and returns an Objective.
    Raises ValueError with the known names, or with the field that the objective does not have.
    """
    function = options.own(name, "objective") or options.choose(OBJECTIVES, name, "objective")
    given = {"beta": beta, "latents": latents, "num_images": num_images}
    taken = inspect.signature(function).parameters
    return options.call(function, kwargs, "objective", **{key: given[key] for key in given if key in taken})
