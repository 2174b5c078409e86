"""Resuming several runs of one program at the same step."""

from collections.abc import Sequence
from typing import Protocol

from deft_jax.runtime.progress import warn
from deft_jax.training.checkpoint import Checkpoints, DamagedCheckpoint, none_readable
from deft_jax.training.state import TrainState


class Resumable(Protocol):
    """A run with checkpoints; diverged: why it has ended, None while it has not."""

    checkpoints: Checkpoints
    diverged: str | None


def restore_common_step(
    runs: Sequence[Resumable], states: Sequence[TrainState]
) -> tuple[int | None, list[TrainState]]:
    """Restores the newest step at which all runs that have not diverged have a readable checkpoint.

    Newer checkpoints that are damaged are skipped with a warning, and stay as they are.

    Args:
      runs: all runs of the program.
      states: of each before the first step.

    Returns:
      The step, None without checkpoints; and the states, those given for runs that have diverged or if there is no
      checkpoint.

    Raises:
      ValueError: there are checkpoints, but no step is readable for all runs.
    """
    active = [index for index, run in enumerate(runs) if run.diverged is None]
    steps = [set(runs[index].checkpoints.steps) for index in active]
    common = sorted(set.intersection(*steps), reverse=True) if steps else []
    faults = []
    for step in common:
        restored = list(states)
        try:
            for index in active:
                restored[index] = runs[index].checkpoints.restore(states[index], step)
        except DamagedCheckpoint as error:
            faults.append(str(error))
            continue
        for fault in faults:
            warn(f"{fault}; going back to step {step}")
        return step, restored
    if faults:
        raise ValueError(none_readable("the workdir", faults))
    return None, list(states)
