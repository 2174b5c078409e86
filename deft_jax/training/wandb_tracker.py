"""Weights & Biases as a tracker of runs: https://docs.wandb.ai.

The variables of the library choose the rest: WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY, WANDB_RUN_GROUP and others.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from deft_jax.training.tracking import Status, TrackedRun

PROJECT = "deft_jax"  # where WANDB_PROJECT is not set

_WITHOUT_SERVER = ("offline", "dryrun", "disabled")


def check() -> None:
    """Raises ValueError if runs are to be sent to a server to which the user is not logged in."""
    import wandb

    if wandb.setup().settings.mode in _WITHOUT_SERVER:
        return
    if not wandb.login(prompt=False):
        raise ValueError("tracking = 'wandb' is not logged in: run `wandb login` or set WANDB_API_KEY, or set "
                         "WANDB_MODE=offline and upload later by `wandb sync`")  # fmt: skip


class WandbTracker:
    """A run of Weights & Biases; its files are in the folder `wandb` of the workdir."""

    def open(self, run: TrackedRun, sent: int) -> int:
        """See tracking.Tracker."""
        import wandb

        # Several seeds are several runs of one process.
        settings = wandb.Settings(silent=True, console="off", disable_git=True, save_code=False, reinit="create_new")
        self._wandb = wandb
        self._run: Any = wandb.init(
            dir=str(run.workdir),
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            group=os.environ.get("WANDB_RUN_GROUP") or run.group,
            name=run.name,
            id=run.key,
            resume="allow",
            config=dict(run.config),
            allow_val_change=True,
            settings=settings,
        )
        if self._run.settings.mode in _WITHOUT_SERVER:
            return sent
        # The run of the server is the truth where it has nothing: earlier steps may have been written offline.
        return max(sent, self._run.step - 1) if self._run.step else -1

    def log(self, step: int, scalars: Mapping[str, float], figures: Sequence[pathlib.Path]) -> None:
        """See tracking.Tracker."""
        images = {f"figures/{path.stem}": self._wandb.Image(str(path)) for path in figures}
        if scalars:
            self._run.log({**scalars, **images}, step=step, commit=True)
        else:  # a step that is there takes no more, so figures of the last one are at the next
            self._run.log(images)

    def summarise(self, step: int, scores: Mapping[str, float]) -> None:
        """See tracking.Tracker."""
        self._run.summary.update(dict(scores))

    def close(self, status: Status) -> None:
        """See tracking.Tracker."""
        self._run.finish(exit_code=0 if status == "finished" else 1)
