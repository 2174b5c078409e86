"""Schedules: functions from the step to a value (beta, a learning rate), and the stages of a run.

A stage lasts from its start to the start of the next one. Both rules for its end, a number of steps and a threshold
that the falling beta passes, depend on the step only. The starts are therefore known before training.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

Schedule = Callable[[int | jax.Array], jax.Array]
"""step (int, or int32 array []) -> float32 array []."""


@dataclasses.dataclass(frozen=True)
class Stages:
    """The beta of a run, and the steps at which its stages start.

    Attributes:
      beta: step -> weight of the KL, against a reconstruction loss summed over pixels, both in nats.
      starts: first step of each stage; starts[0] = 0.
      total_steps: steps of the whole run; the last stage ends there.
      rotation_every: steps between two rotations of the open group onto independent axes (latent_rotation.py). None:
        no rotations.
    """

    beta: Schedule
    starts: tuple[int, ...]
    total_steps: int
    rotation_every: int | None = None

    def __len__(self) -> int:
        return len(self.starts)

    def at(self, step: int) -> int:
        """The stage of the update that starts from `step` (a host integer)."""
        return int(np.searchsorted(self.starts, step, side="right")) - 1

    def end(self, stage: int) -> int:
        """First step after `stage`."""
        return self.starts[stage + 1] if stage + 1 < len(self.starts) else self.total_steps

    def rotates_at(self, step: int) -> bool:
        """Whether latents are rotated after `step` updates: every rotation_every steps, at neither end of a stage."""
        since = step - self.starts[self.at(step)]
        return self.rotation_every is not None and since > 0 and since % self.rotation_every == 0

    def next_rotation(self, step: int) -> int:
        """The next step after `step` at which latents are rotated or the stage ends."""
        stage = self.at(step)
        if self.rotation_every is None:
            return self.end(stage)
        since = step - self.starts[stage]
        return min(step + self.rotation_every - since % self.rotation_every, self.end(stage))


def constant(value: float) -> Schedule:
    """step -> value."""
    return optax.constant_schedule(value)


def cosine(value: float, total_steps: int, final: float = 0.0) -> Schedule:
    """From `value` at step 0 along half a cosine to `final` * value at total_steps, and constant after it.

    optax.cosine_decay_schedule differs in the last bit, which would change published runs.
    """

    def schedule(step: int | jax.Array) -> jax.Array:
        done = jnp.clip(step / total_steps, 0.0, 1.0)
        return value * (final + (1.0 - final) * 0.5 * (1.0 + jnp.cos(jnp.pi * done)))

    return schedule


def piecewise(values: Sequence[float], starts: Sequence[int]) -> Schedule:
    """values[k] from starts[k] up to starts[k + 1]; starts[0] is 0."""
    return optax.join_schedules([optax.constant_schedule(value) for value in values], list(starts[1:]))


def exponential_fall(start: float, end: float, rate: float, total_steps: int) -> Schedule:
    """start * exp(-rate * step / total_steps) + end, the schedule of DEFT's annealing test."""
    return lambda step: start * jnp.exp(-rate * step / total_steps) + end


def geometric_fall(start: float, end: float, total_steps: int) -> Schedule:
    """start * (end / start)^(step / total_steps): the logarithm of beta falls linearly."""
    return lambda step: start * jnp.exp(jnp.log(end / start) * jnp.clip(step / total_steps, 0.0, 1.0))


def linear_fall(start: float, end: float, total_steps: int) -> Schedule:
    """From `start` at step 0 linearly to `end` at total_steps, and constant after it.

    optax.linear_schedule differs in the last bit, which would change published annealing tests.
    """
    return lambda step: start + (end - start) * jnp.clip(step / total_steps, 0.0, 1.0)


def _check_betas(betas: Sequence[float], name: str) -> None:
    if not len(betas):
        raise ValueError(f"{name} is empty; give one value per stage, from high to low")
    if any(not math.isfinite(beta) or beta < 0 for beta in betas):
        raise ValueError(f"{name} must be finite and not negative, got {tuple(betas)}")
    if any(later >= earlier for earlier, later in itertools.pairwise(betas)):
        raise ValueError(f"{name} must fall from stage to stage, got {tuple(betas)}")


def fixed_stages(betas: Sequence[float], steps: int | Sequence[int], total_steps: int) -> Stages:
    """Stages of a fixed number of steps, each at its own beta (Wu et al. 2022, algorithm 1).

    Args:
      betas: one per stage, strictly falling.
      steps: length of every stage (a number, or a sequence of one), or one length per stage; the last stage lasts to
        total_steps, whatever its length here.
      total_steps: of the whole run.

    Raises:
      ValueError: betas do not fall, or total_steps ends before the last stage starts.
    """
    _check_betas(betas, "stages.betas")
    lengths = list(steps) if isinstance(steps, Sequence) else [int(steps)]
    lengths = lengths * len(betas) if len(lengths) == 1 else lengths
    if len(lengths) != len(betas):
        raise ValueError(f"stages.steps has {len(lengths)} lengths for {len(betas)} betas; give one per stage or one")
    if any(length < 1 for length in lengths):
        raise ValueError(f"stages.steps must be at least 1, got {tuple(lengths)}")
    starts = tuple(itertools.accumulate(lengths[:-1], initial=0))
    _check_total(starts, total_steps)
    return Stages(piecewise(betas, starts), starts, total_steps)


def exponential_stages(
    start: float, end: float, rate: float, thresholds: Sequence[float], total_steps: int
) -> Stages:
    """Stages of an exponential fall of beta: stage k + 1 opens when beta has passed thresholds[k].

    beta(step) = start * exp(-rate * step / total_steps) + end.

    Args:
      start, end, rate: of the exponential, see above.
      thresholds: betas, strictly falling.
      total_steps: of the whole run.

    Raises:
      ValueError: thresholds do not fall, lie above the first beta, or are not reached within total_steps.
    """
    if not (start > 0 and end >= 0 and rate > 0):
        raise ValueError(
            f"an exponential fall of beta needs start > 0, end >= 0 and rate > 0, got {start}, {end}, {rate}"
        )
    if start + end > float(np.finfo(np.float32).max):
        raise ValueError(f"stages.start + stages.end, the first beta, exceeds float32, got {start:g} + {end:g}")
    starts = [0]
    if len(thresholds):
        _check_betas(thresholds, "stages.thresholds")
        if thresholds[0] >= start + end:
            raise ValueError(
                f"stages.thresholds must lie below the first beta, {start + end:g}, got {tuple(thresholds)}"
            )
    for threshold in thresholds:
        last = start * math.exp(-rate) + end
        if threshold <= last:
            raise ValueError(f"stages.thresholds must lie above the last beta, {last:g}, got {threshold:g}")
        above = start / (threshold - end)
        if not math.isfinite(above):
            raise ValueError(f"the threshold {threshold:g} lies too close to stages.end = {end:g}")
        starts.append(math.ceil(total_steps / rate * math.log(above)))
    _check_total(starts, total_steps)
    return Stages(exponential_fall(start, end, rate, total_steps), tuple(starts), total_steps)


def _check_total(starts: Sequence[int], total_steps: int) -> None:
    if total_steps <= starts[-1]:
        raise ValueError(
            f"total_steps = {total_steps} ends before the last stage starts at step {starts[-1]}; raise it, or "
            "start the last stage earlier (stages.steps, stages.thresholds)"
        )
    if any(later <= earlier for earlier, later in itertools.pairwise(starts)):
        raise ValueError(f"two stages start at the same step: {tuple(starts)}; increase the distance of the thresholds")
