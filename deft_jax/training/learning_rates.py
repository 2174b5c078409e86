"""Learning rates: how fast each part of a model learns in each stage.

| label         | parameters                          | learning rate at a step of the run                             |
|---------------|-------------------------------------|----------------------------------------------------------------|
| group_g       | encoder of latent group g           | before stage g: 0; in it: eta(step); after it: gamma eta(step) |
| calibration_g | scale and shift of a frozen group   | eta(step) from stage g + 1 on (`model.calibrate`)              |
| decoder       | decoder                             | eta(step) of the decoder                                       |
| objective     | parameters of the objective, if any | its own, or that of the decoder                                |

eta is `optimizer.learning_rate`, or `decoder_learning_rate`, with `optimizer.decay` over all steps of the run. Stage g
opens group g. optimizer.py assigns the labels to parameters, and gives each label its Adam.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax

from deft_jax.training import schedules
from deft_jax.training.schedules import Schedule, Stages

DECAYS: Mapping[str, Callable[[float, int], Schedule]] = {
    "constant": lambda value, total_steps: schedules.constant(value),
    "cosine": schedules.cosine,
}
"""Value of `optimizer.decay` -> (learning rate at step 0, total steps) -> schedule."""


class LearningRate(NamedTuple):
    """The learning rate of a label in one stage.

    Attributes:
      schedule: updates of this label so far -> learning rate. A label's count begins when it becomes active.
      active: whether the label learns in this stage.
    """

    schedule: Schedule
    active: bool


def learning_rates(
    stages: Stages,
    stage: int,
    num_groups: int,
    learning_rate: Schedule,
    decoder_learning_rate: Schedule,
    gamma: float,
) -> dict[str, LearningRate]:
    """The learning rate of every label in one stage. Wu et al. 2022, section 4.2.

    The schedules cover all stages; `stage` only decides which labels are active, so that Adam's moments of the others
    stay as they are.

    Args:
      stages: of the run.
      stage: index of the current one.
      num_groups: encoder groups; those without a stage never learn.
      learning_rate: step of the run -> learning rate of the group that the stage has opened.
      decoder_learning_rate: step of the run -> learning rate of the decoder.
      gamma: factor on the learning rate of groups whose stage is over; 0 freezes them.
    """

    # A label that has become active stays so, or stops for good: its count plus its first step is the step of the run.
    def from_start(schedule: Schedule, start: int) -> Schedule:
        return lambda count: schedule(count + start)

    rates = {"decoder": LearningRate(decoder_learning_rate, True)}
    for group in range(num_groups):
        start = stages.starts[group] if group < len(stages) else stages.total_steps
        rate = group_learning_rate(learning_rate, gamma, stages.starts, group)
        learns = stage == group or (stage > group and gamma > 0)
        rates[f"group_{group}"] = LearningRate(from_start(rate, start), learns)
        end = stages.end(group) if group < len(stages) else stages.total_steps
        rates[f"calibration_{group}"] = LearningRate(from_start(learning_rate, end), stage > group)
    return rates


def group_learning_rate(base: Schedule, gamma: float, starts: Sequence[int], group: int) -> Schedule:
    """Learning rate of an encoder group: 0 before its stage, base(step) in it, gamma * base(step) after it.

    Args:
      base: step of the run -> learning rate.
      gamma: factor after the group's stage.
      starts: first step of each stage.
      group: index of the group; one without a stage has learning rate 0 throughout.
    """
    factors = [0.0] * len(starts)
    if group < len(starts):
        factors[group] = 1.0
        factors[group + 1 :] = [gamma] * (len(starts) - group - 1)
    factor = schedules.piecewise(factors, starts)

    def schedule(step: int | jax.Array) -> jax.Array:
        return factor(step) * base(step)

    return schedule
