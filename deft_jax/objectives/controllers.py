"""Objectives whose KL weight is set by a controller: ControlVAE and DynamicVAE."""

import math

import jax
import jax.numpy as jnp
from optax import Schedule

from deft_jax.objectives.base import Objective, check_at_least_one, check_not_negative, kl, measured_kl
from deft_jax.runtime.validation import Count, NonNegative, NonNegativeInt


def _kl_stairs(kl_start: float, kl_target: float, increment: float, period: int, ramp_steps: int = 0) -> Schedule:
    """The KL that a controller aims at, in nats: from kl_start, `increment` more every `period` steps, up to kl_target.

    ramp_steps: each rise is a line of so many steps from the start of its period; 0, a step.
    """
    check_not_negative(kl_start=kl_start, kl_target=kl_target, increment=increment, ramp_steps=ramp_steps)
    check_at_least_one(period=period)
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
    kl_target: NonNegative = 18.0,
    kl_start: NonNegative = 0.5,
    increment: NonNegative = 0.15,
    period: Count = 5000,
    kp: NonNegative = 0.01,
    ki: NonNegative = 0.001,
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

    objective_state: {'integral': float32 []}, -ki * sum of e.
    """
    check_not_negative(kp=kp, ki=ki)
    if not beta_max > 0:
        raise ValueError(f"objective.beta_max must be above 0, got {beta_max}")
    target = _kl_stairs(kl_start, kl_target, increment, period)

    def init(key):
        del key
        return (), {"integral": jnp.zeros((), jnp.float32)}

    def apply(params, objective_state, step, posterior, z, key):
        del params, z, key
        smallest, aim = beta(step), target(step)
        largest = jnp.maximum(smallest, beta_max)
        error = aim - measured_kl(posterior)
        proportional = kp * jax.nn.sigmoid(-error)
        integral = jnp.clip(objective_state["integral"] - ki * error, -proportional, largest - smallest - proportional)
        weight = smallest + (proportional + integral)
        return {"regulariser": weight * kl(posterior), "beta": weight, "kl_target": aim}, {"integral": integral}

    return Objective(init, apply, rotation_safe=True)


def dynamic_vae(
    beta: Schedule,
    kl_target: NonNegative = 20.0,
    kl_start: NonNegative = 0.5,
    increment: NonNegative = 0.15,
    period: Count = 6000,
    ramp_steps: NonNegativeInt = 1000,
    kp: NonNegative = 0.01,
    ki: NonNegative = 0.005,
    beta_start: NonNegative = 50.0,
    window: Count = 5,
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

    objective_state: {'beta': float32 [], 'error': float32 [], 'kls': float32 [window], 'seen': int32 []}.
    """
    check_not_negative(kp=kp, ki=ki, beta_start=beta_start)
    check_at_least_one(window=window, ramp_steps=ramp_steps)
    target = _kl_stairs(kl_start, kl_target, increment, period, ramp_steps)

    def init(key):
        del key
        zero = jnp.zeros((), jnp.float32)
        kls = jnp.zeros(window, jnp.float32)
        weight = jnp.full((), beta_start, jnp.float32)
        return (), {"beta": weight, "error": zero, "kls": kls, "seen": jnp.zeros((), jnp.int32)}

    def apply(params, objective_state, step, posterior, z, key):
        del params, z, key
        aim = target(step)
        kls = jnp.append(objective_state["kls"][1:], measured_kl(posterior))
        seen = jnp.minimum(objective_state["seen"] + 1, window)
        error = aim - jnp.sum(kls) / seen
        change = kp * (jax.nn.sigmoid(-error) - jax.nn.sigmoid(-objective_state["error"])) - ki * error
        weight = jnp.maximum(objective_state["beta"] + change, beta(step))
        after = {"beta": weight, "error": error, "kls": kls, "seen": seen}
        return {"regulariser": weight * kl(posterior), "beta": weight, "kl_target": aim}, after

    return Objective(init, apply, rotation_safe=True)
