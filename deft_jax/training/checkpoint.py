"""Checkpoints of a run: orbax, written in the background, the last few kept, each with the digest of its numbers."""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from deft_jax.runtime.errors import FULL_ERRNOS, CannotWrite
from deft_jax.runtime.progress import warn
from deft_jax.training import orbax_io

_UNFINISHED = "orbax-checkpoint-tmp"  # in the name of what orbax has not written completely
_METADATA = "_CHECKPOINT_METADATA"
_BETA = "beta"
_DIGEST = "sha256"  # in the metadata: orbax 0.12 checks its index, but not the numbers
_REASONS = {number: os.strerror(number) for number in FULL_ERRNOS}


class HasStep(Protocol):
    """A pytree that counts its updates: the state of a training, or of the trials of an annealing test."""

    step: Any


State = TypeVar("State", bound=HasStep)


class DamagedCheckpoint(ValueError):
    """A checkpoint that cannot be read, or whose numbers differ from those that were saved."""


class Checkpoints:
    """The checkpoints in one directory, one per step. A save is atomic: an incomplete one is never restored.

    Nothing in the directory is changed before the first save, so a run that still writes there may be read from.
    """

    def __init__(self, directory: str | pathlib.Path, keep: int):
        """
        Args:
          directory: created by the first save.
          keep: how many of the newest checkpoints stay, at least 1.
        """
        if keep < 1:
            raise ValueError(f"checkpoints.keep must be at least 1, got {keep}")
        self._directory, self._keep = pathlib.Path(directory).absolute(), keep
        self._manager: ocp.CheckpointManager | None = None
        self._valid: set[int] = set()  # steps that were saved or restored by this object
        self._failed = False

    def _open_manager(self) -> ocp.CheckpointManager:
        """The manager that writes, created at the first call."""
        if self._manager is None:
            orbax_io.mute_log()
            self._directory.mkdir(parents=True, exist_ok=True)
            self._remove_unfinished()
            options = ocp.CheckpointManagerOptions(
                max_to_keep=self._keep, create=False, multiprocessing_options=orbax_io.this_process_only()
            )
            self._manager = ocp.CheckpointManager(self._directory, options=options)
        return self._manager

    def _remove_unfinished(self) -> None:
        for path in self._directory.glob(f"*{_UNFINISHED}*"):
            shutil.rmtree(path, ignore_errors=True)

    @property
    def latest(self) -> int | None:
        """Step of the newest checkpoint, None if there is none; waits for the write under way."""
        self.wait()
        return max(self.steps, default=None)

    @property
    def steps(self) -> list[int]:
        """Steps of all completely written checkpoints, readable or not, in ascending order."""
        try:
            return sorted(int(path.name) for path in self._directory.iterdir() if path.name.isdecimal())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def save(self, state: HasStep, beta: float | None = None) -> None:
        """Starts to write a state under its step; does nothing if this object has saved or restored that step.

        Args:
          state: of one device.
          beta: of the step, see `beta`.

        Raises:
          CannotWrite: this state, or the one saved before it, cannot be written.
        """
        step = int(state.step)
        if step in self._valid:
            return
        with self._errors():
            manager = self._open_manager()
            if step in self.steps:
                self.set_aside(step)
            # A copy: the buffers of the state are donated to the next step while orbax is still writing.
            copy = jax.tree.map(lambda leaf: np.array(leaf, copy=True), state)
            manager.save(step, args=ocp.args.StandardSave(copy), custom_metadata={_DIGEST: _digest(copy), _BETA: beta})
        self._valid.add(step)

    def restore(self, like: State, step: int | None = None) -> State:
        """A saved state, as numpy arrays.

        Args:
          like: a state of the same structure, shapes and types.
          step: of the checkpoint. Default: None, the newest that is readable; newer ones that are damaged are skipped
            with a warning, and stay as they are.

        Raises:
          DamagedCheckpoint: the checkpoint of `step` is not readable.
          ValueError: there is no checkpoint, or none is readable.
        """
        if step is not None:
            return self._read(like, step)
        faults, steps = [], self.steps
        for candidate in reversed(steps):
            try:
                state = self._read(like, candidate)
            except DamagedCheckpoint as error:
                if (self._directory / str(candidate)).exists():  # else the run that writes here has deleted it
                    faults.append(str(error))
                continue
            for fault in faults:
                warn(f"{fault}; going back to step {candidate}")
            return state
        if self.steps != steps:
            return self.restore(like)
        raise ValueError(none_readable(self._directory, faults))

    def _read(self, like: State, step: int) -> State:
        if step not in self.steps:
            raise ValueError(f"no checkpoint of step {step} in {self._directory}; there are {self.steps}")
        folder = self._directory / str(step)
        template = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
        try:
            digest = _metadata(folder).get(_DIGEST)
            state = orbax_io.read(folder / "default", template)
            if digest not in (None, _digest(state)):  # None: saved by a version without digests
                raise ValueError("its numbers are not those that were saved")
            if int(state.step) != step:
                raise ValueError(f"it holds step {state.step}")
        except Exception as error:
            raise DamagedCheckpoint(f"the checkpoint {folder} cannot be read ({_shorten(error)})") from error
        self._valid.add(step)
        return state

    def beta(self, step: int) -> float | None:
        """The beta that was saved with the checkpoint of a step, None if there is none."""
        try:
            return _metadata(self._directory / str(step)).get(_BETA)
        except (OSError, ValueError, AttributeError):
            return None

    def drop_after(self, step: int) -> None:
        """Deletes the checkpoints after `step`; those that were not restored are set aside instead."""
        self._remove_unfinished()
        for later in [saved for saved in self.steps if saved > step]:
            if later in self._valid:
                self._delete(later)
            else:
                self.set_aside(later)

    def _delete(self, step: int) -> None:
        # Renamed first: what an interruption leaves of it is then not taken for a damaged checkpoint.
        renamed = self._directory / f"{step}.{_UNFINISHED}"
        os.replace(self._directory / str(step), renamed)
        shutil.rmtree(renamed, ignore_errors=True)
        self._forget(step)

    def set_aside(self, step: int) -> None:
        """Renames the checkpoint of this step to damaged_STEP, replacing an earlier one."""
        aside = self._directory / f"damaged_{step}"
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(self._directory / str(step), aside)
        self._forget(step)

    def _forget(self, step: int) -> None:
        self._valid.discard(step)
        if self._manager is not None:
            self._manager.reload()

    def check(self) -> None:
        """Raises CannotWrite if a write in the background has failed."""
        if self._manager is not None:
            with self._errors():
                self._manager.check_for_errors()

    def wait(self) -> None:
        """Waits for the write under way; raises CannotWrite if it fails."""
        if self._manager is not None:
            with self._errors():
                self._manager.wait_until_finished()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turns any exception into CannotWrite: orbax and tensorstore raise many types for a full disk."""
        try:
            yield
        except CannotWrite:
            raise
        except Exception as error:
            self._failed = True
            text = " ".join(str(part) for part in _causes(error))
            number = getattr(error, "errno", None)
            if number is None:
                number = next((number for number, reason in _REASONS.items() if reason in text), None)
            reason = _REASONS.get(number or 0) or getattr(error, "strerror", None) or _shorten(error)
            raise CannotWrite(number, reason, f"a checkpoint into {self._directory}") from error

    def close(self) -> None:
        """Waits for the writes under way; raises CannotWrite if they fail."""
        if self._manager is None:
            return
        try:
            if not self._failed:
                self.wait()
        finally:
            with contextlib.suppress(Exception):
                self._manager.close()
            self._manager = None
            if self._failed:
                self._remove_unfinished()


def none_readable(place: object, faults: Sequence[str]) -> str:
    """The message where no checkpoint is left to resume from."""
    if not faults:
        return f"no checkpoint in {place}"
    others = f", nor {len(faults) - 1} older" if len(faults) > 1 else ""
    return f"{faults[0]}{others}; nothing was changed: bring one back from a copy, or choose another workdir"


def _metadata(folder: pathlib.Path) -> dict[str, Any]:
    """What `save` has added to a checkpoint."""
    return json.loads((folder / _METADATA).read_text()).get("custom_metadata") or {}


def _digest(state: HasStep) -> str:
    """SHA-256 of the names, types, shapes and bytes of all leaves."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        leaf = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype.str} {leaf.shape}\n".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _shorten(error: Exception) -> str:
    """The beginning of a message, in one line."""
    text = " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())
    return text if len(text) <= 120 else f"{text[:117]}..."
