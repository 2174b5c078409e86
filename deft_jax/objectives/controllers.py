"""Objectives whose KL weight is set by a controller, which is their state: ControlVAE and DynamicVAE."""

import math
from typing import Annotated

import jax
import jax.numpy as jnp
from pydantic import Field

from deft_jax.models.posterior import Posterior
from deft_jax.objectives.base import Objective, PyTree, Schedule, Terms, kl, measured_kl
from deft_jax.runtime.validation import Count, NonNegative


def _kl_stairs(kl_start: float, kl_target: float, increment: float, period: int, ramp_steps: int = 0) -> Schedule:
    """The KL that a controller aims at, in nats: from kl_start, `increment` more every `period` steps, up to kl_target.

    ramp_steps: steps over which each rise is linear, from the start of its period; 0 for a jump.
    """
    if ramp_steps > period:
        raise ValueError(f"objective.ramp_steps must be at most objective.period = {period}, got {ramp_steps}")

    def schedule(step: jax.Array | int) -> jax.Array:
        # The rise under way counts in part. There is none in the first period, which has no value to rise from.
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
    beta_max: Annotated[float, Field(gt=0)] = math.inf,
) -> Objective:
    """ControlVAE: a PI controller keeps the KL at a target. Shao et al. 2020, arXiv 2004.05988.

    weight_t = beta(t) + kp / (1 + exp(e_t)) - ki * sum_{s <= t} e_s, with e_t = target(t) - KL_t in nats and KL_t the
    batch mean. The target is kl_start, plus `increment` every `period` steps, up to kl_target.

    Anti-windup: the sum stops changing where the weight meets a limit, and leaves the limit with the first error of the
    other sign. The authors' code keeps the sum after every weight below the smallest, whatever the sign of the error,
    and so may stay there. All defaults are those of the authors' code for dSprites, where the smallest weight is 1 and
    there is no largest one.

    Args:
      beta: step -> smallest weight.
      kl_target: last target of the KL, in nats.
      kl_start: first target, in nats.
      increment: rise of the target, in nats.
      period: steps between two rises.
      kp: gain of the proportional part.
      ki: gain of the integral part.
      beta_max: largest weight; where it lies below beta(step), the weight is beta(step).

    Returns:
      The objective. Its state is {'integral': float32 []}, -ki * sum of e. It logs 'beta', the weight in use, and
      'kl_target', the target in nats.

    Example:
      >>> objective = control_vae(lambda step: jnp.float32(1.0), kl_start=2.0, kp=0.4, ki=0.01)
      >>> posterior = Posterior(mean=jnp.array([[2.0]]), logvar=jnp.zeros((1, 1)))  # the KL is on target, 2 nats
      >>> params, state = objective.init(jax.random.key(0))
      >>> terms, state = objective.apply(params, state, 0, posterior, posterior.mean, jax.random.key(0))
      >>> round(float(terms["beta"]), 6), abs(float(state["integral"]))  # 1 + kp / 2
      (1.2, 0.0)
    """
    target = _kl_stairs(kl_start, kl_target, increment, period)

    def init(key: jax.Array) -> tuple[PyTree, PyTree]:
        del key
        return (), {"integral": jnp.zeros((), jnp.float32)}

    def apply(
        params: PyTree, objective_state: PyTree, step: jax.Array, posterior: Posterior, z: jax.Array, key: jax.Array
    ) -> tuple[Terms, PyTree]:
        del params, z, key
        smallest, kl_now = beta(step), target(step)
        largest = jnp.maximum(smallest, beta_max)
        error = kl_now - measured_kl(posterior)
        proportional = kp * jax.nn.sigmoid(-error)
        integral = jnp.clip(objective_state["integral"] - ki * error, -proportional, largest - smallest - proportional)
        weight = smallest + (proportional + integral)
        return {"regulariser": weight * kl(posterior), "beta": weight, "kl_target": kl_now}, {"integral": integral}

    return Objective(init, apply, rotation_safe=True)


def dynamic_vae(
    beta: Schedule,
    kl_target: NonNegative = 20.0,
    kl_start: NonNegative = 0.5,
    increment: NonNegative = 0.15,
    period: Count = 6000,
    ramp_steps: Count = 1000,
    kp: NonNegative = 0.01,
    ki: NonNegative = 0.005,
    beta_start: NonNegative = 50.0,
    window: Count = 5,
) -> Objective:
    """DynamicVAE: an incremental PI controller lowers the weight. Shao et al. 2020, arXiv 2009.06795.

    weight_t = max(weight_{t-1} + kp * (sigmoid(-e_t) - sigmoid(-e_{t-1})) - ki * e_t, beta(t)), with weight_{-1} =
    beta_start, e_{-1} = 0 and e_t = target(t) - KL_t in nats; KL_t is the mean over the batch and the last `window`
    steps. The target rises from kl_start by `increment` in the first ramp_steps of every period but the first, up to
    kl_target (the paper's hybrid annealing). All defaults are those of the authors' code for dSprites, where the
    smallest weight is 0.1; for SmallNORB its beta_start is 90, for MNIST 100.

    Two choices of this library: the state keeps the weight as it was used, so nothing winds up below the smallest; and
    in the first `window` steps the mean is over the steps so far, where the authors' code pads with zeros.

    Args:
      beta: step -> smallest weight.
      kl_target: last target of the KL, in nats.
      kl_start: first target, in nats.
      increment: each rise of the target, in nats.
      period: steps between the starts of two rises.
      ramp_steps: steps that a rise takes, at most `period`.
      kp: gain of the proportional part.
      ki: gain of the integral part.
      beta_start: weight before the first step.
      window: steps that the KL is averaged over.

    Returns:
      The objective. Its state is {'beta': float32 [], 'error': float32 [], 'kls': float32 [window], 'seen': int32 []};
      'seen' counts steps up to window. It logs 'beta', the weight in use, and 'kl_target', the target in nats.

    Raises:
      ValueError: ramp_steps exceeds the period.

    Example:
      >>> objective = dynamic_vae(lambda step: jnp.float32(0.1), kl_start=3.0, kp=0.0, ki=0.5, beta_start=10.0)
      >>> posterior = Posterior(mean=jnp.array([[2.0]]), logvar=jnp.zeros((1, 1)))  # the KL is 1 nat too low
      >>> params, state = objective.init(jax.random.key(0))
      >>> for step in range(3):
      ...     terms, state = objective.apply(params, state, step, posterior, posterior.mean, jax.random.key(0))
      ...     print(terms["beta"])
      9.5
      9.0
      8.5
    """
    target = _kl_stairs(kl_start, kl_target, increment, period, ramp_steps)

    def init(key: jax.Array) -> tuple[PyTree, PyTree]:
        del key
        zero = jnp.zeros((), jnp.float32)
        kls = jnp.zeros(window, jnp.float32)
        weight = jnp.full((), beta_start, jnp.float32)
        return (), {"beta": weight, "error": zero, "kls": kls, "seen": jnp.zeros((), jnp.int32)}

    def apply(
        params: PyTree, objective_state: PyTree, step: jax.Array, posterior: Posterior, z: jax.Array, key: jax.Array
    ) -> tuple[Terms, PyTree]:
        del params, z, key
        kl_now = target(step)
        kls = jnp.append(objective_state["kls"][1:], measured_kl(posterior))
        seen = jnp.minimum(objective_state["seen"] + 1, window)
        error = kl_now - jnp.sum(kls) / seen
        change = kp * (jax.nn.sigmoid(-error) - jax.nn.sigmoid(-objective_state["error"])) - ki * error
        weight = jnp.maximum(objective_state["beta"] + change, beta(step))
        new_state = {"beta": weight, "error": error, "kls": kls, "seen": seen}
        return {"regulariser": weight * kl(posterior), "beta": weight, "kl_target": kl_now}, new_state

    return Objective(init, apply, rotation_safe=True)
