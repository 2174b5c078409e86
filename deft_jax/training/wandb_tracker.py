"""Weights & Biases as a tracker of runs: https://docs.wandb.ai.

The variables of the library choose the rest: WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY, WANDB_RUN_GROUP and others.
"""

import contextlib
import json
import os
import pathlib
import struct
from collections.abc import Iterator, Mapping, Sequence
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

        has_files, steps = any(_files(run.workdir, run.key)), set(local_steps(run.workdir, run.key))
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
            return max(steps, default=-1) if has_files else sent
        return self._run.step - 1  # what the server has; steps written offline are not there

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


def local_steps(workdir: pathlib.Path, key: str) -> Iterator[int]:
    """The steps in the files of a run: of those that were sent, a killed process has not written the last ones.

    The library has no function that reads its files. Each is a log in LevelDB's format
    (https://github.com/google/leveldb/blob/main/doc/log_format.md) of messages of protobuf, after a header.

    Args:
      workdir: of the run.
      key: the id of the run.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    for path in _files(workdir, key):
        with contextlib.suppress(Exception):  # an incomplete message at the end
            for message in _messages(path.read_bytes()):
                record = Record.FromString(message)
                for item in record.history.item if record.HasField("history") else ():
                    if item.key == "_step" or list(item.nested_key) == ["_step"]:
                        yield int(json.loads(item.value_json))


def _files(workdir: pathlib.Path, key: str) -> list[pathlib.Path]:
    """The files of a run, one for each time that it was started, in their order."""
    return sorted((workdir / "wandb").glob(f"*run-*-{key}/run-{key}.wandb"))


def _messages(content: bytes) -> Iterator[bytes]:
    """The messages in a log; each is in one part, or in several over blocks of 32 KiB."""
    place, message = _FILE_HEADER, b""
    while place + _PART.size <= len(content):
        in_block = _BLOCK - place % _BLOCK
        if in_block < _PART.size:
            place += in_block
            continue
        _, length, kind = _PART.unpack_from(content, place)
        place += _PART.size
        message += content[place : place + length]
        place += length
        if kind in _LAST_PARTS:
            yield message
            message = b""


_FILE_HEADER, _BLOCK, _PART, _LAST_PARTS = 7, 2**15, struct.Struct("<IHB"), (1, 4)
