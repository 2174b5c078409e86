"""Checkpoints of a run: orbax, written in the background, the last few kept, each with the digest of its numbers."""

import asyncio
import contextlib
import errno
import functools
import hashlib
import json
import logging
import os
import pathlib
import shutil
import threading

import jax
import numpy as np
import orbax.checkpoint as ocp

from deft_jax.runtime.errors import CannotWrite
from deft_jax.runtime.progress import warn
from deft_jax.training.state import TrainState

_UNFINISHED = "orbax-checkpoint-tmp"  # in the name of what orbax has not written in full
_METADATA = "_CHECKPOINT_METADATA"
_BETA = "beta"
_DIGEST = "sha256"  # in the metadata; orbax 0.12 checks its indices, and takes changed numbers for good ones
_REASONS = {name: os.strerror(name) for name in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)}


class Damaged(ValueError):
    """A checkpoint that cannot be read, or whose numbers are not those that were saved."""


class Checkpoints:
    """The checkpoints in one directory, one a step. A save is atomic: half-written ones are never seen again.

    Nothing in the directory is changed before the first save: a run that still writes there may be read from.
    """

    def __init__(self, directory: str | pathlib.Path, keep: int):
        """directory: created when first saved to. keep: how many of the newest stay, at least 1."""
        if keep < 1:
            raise ValueError(f"checkpoints.keep must be at least 1, got {keep}")
        self._directory, self._keep = pathlib.Path(directory).absolute(), keep
        self._manager: ocp.CheckpointManager | None = None
        self._good: set[int] = set()  # steps that were saved or restored here
        self._failed = False

    def _opened(self) -> ocp.CheckpointManager:
        """What writes."""
        if self._manager is None:
            _quiet()
            self._directory.mkdir(parents=True, exist_ok=True)
            self._clean()
            options = ocp.CheckpointManagerOptions(
                max_to_keep=self._keep, create=False, multiprocessing_options=_alone()
            )
            self._manager = ocp.CheckpointManager(self._directory, options=options)
        return self._manager

    def _clean(self) -> None:
        """Deletes what was not written, or not deleted, in full."""
        for path in self._directory.glob(f"*{_UNFINISHED}*"):
            shutil.rmtree(path, ignore_errors=True)

    @property
    def latest(self) -> int | None:
        """Step of the newest checkpoint, None if there is none; waits for the write under way."""
        self.wait()
        return max(self.steps, default=None)

    @property
    def steps(self) -> list[int]:
        """Steps of all checkpoints that are written, readable or not, in order."""
        try:
            return sorted(int(path.name) for path in self._directory.iterdir() if path.name.isdecimal())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def save(self, state: TrainState, beta: float | None = None) -> None:
        """Starts writing `state` (one device's copy) under its step; does nothing if that was done here.

        beta: of the step, which `beta` returns.
        Raises CannotWrite where it, or the save before it, cannot be written.
        """
        step = int(state.step)
        if step in self._good:
            return
        with self._naming():
            manager = self._opened()
            if step in self.steps:
                self.set_aside(step)
            # A copy of its own: the buffers of the state are donated to the next step while orbax is still writing.
            copy = jax.tree.map(lambda leaf: np.array(leaf, copy=True), state)
            manager.save(step, args=ocp.args.StandardSave(copy), custom_metadata={_DIGEST: _digest(copy), _BETA: beta})
        self._good.add(step)

    def restore(self, like: TrainState, step: int | None = None) -> TrainState:
        """The checkpoint of `step`, or the newest that is readable, as numpy arrays in the structure of `like`.

        Newer ones that are damaged are passed over with a warning, and left as they are.
        Raises ValueError where there is none, or none is readable; Damaged where that of `step` is not.
        """
        if step is not None:
            return self._read(like, step)
        faults, there = [], self.steps
        for saved in reversed(there):
            try:
                state = self._read(like, saved)
            except Damaged as error:
                if (self._directory / str(saved)).exists():  # else it was deleted by the run that writes here
                    faults.append(str(error))
                continue
            for fault in faults:
                warn(f"{fault}; going back to step {saved}")
            return state
        if self.steps != there:
            return self.restore(like)
        raise ValueError(none_readable(self._directory, faults))

    def _read(self, like: TrainState, step: int) -> TrainState:
        if step not in self.steps:
            raise ValueError(f"no checkpoint of step {step} in {self._directory}; there are {self.steps}")
        folder = self._directory / str(step)
        template = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
        try:
            metadata = json.loads((folder / _METADATA).read_text())
            wanted = (metadata.get("custom_metadata") or {}).get(_DIGEST)
            state = _restored(folder / "default", template)
            if wanted not in (None, _digest(state)):  # None: saved before there were digests
                raise ValueError("its numbers are not those that were saved")
            if int(state.step) != step:
                raise ValueError(f"it holds step {state.step}")
        except Exception as error:
            raise Damaged(f"the checkpoint {folder} cannot be read ({_shortly(error)})") from error
        self._good.add(step)
        return state

    def beta(self, step: int) -> float | None:
        """The beta that was saved with the checkpoint of a step, None where there is none."""
        try:
            metadata = json.loads((self._directory / str(step) / _METADATA).read_text())
            return (metadata.get("custom_metadata") or {}).get(_BETA)
        except (OSError, ValueError, AttributeError):
            return None

    def drop_after(self, step: int) -> None:
        """Makes way for a run that goes on from `step`: later checkpoints are deleted, but those not read set aside."""
        self._clean()
        for later in [saved for saved in self.steps if saved > step]:
            if later in self._good:
                self._delete(later)
            else:
                self.set_aside(later)

    def _delete(self, step: int) -> None:
        # Under another name first: one that is deleted in part is never taken for a damaged one.
        gone = self._directory / f"{step}.{_UNFINISHED}"
        os.replace(self._directory / str(step), gone)
        shutil.rmtree(gone, ignore_errors=True)
        self._forget(step)

    def set_aside(self, step: int) -> None:
        """Renames the checkpoint of this step to damaged_STEP, in place of one from earlier."""
        aside = self._directory / f"damaged_{step}"
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(self._directory / str(step), aside)
        self._forget(step)

    def _forget(self, step: int) -> None:
        self._good.discard(step)
        if self._manager is not None:
            self._manager.reload()

    def check(self) -> None:
        """Raises CannotWrite if a write in the background has failed."""
        if self._manager is not None:
            with self._naming():
                self._manager.check_for_errors()

    def wait(self) -> None:
        """Waits for the write under way; raises CannotWrite if it fails."""
        if self._manager is not None:
            with self._naming():
                self._manager.wait_until_finished()

    @contextlib.contextmanager
    def _naming(self):
        """Within it, whatever fails becomes a CannotWrite: orbax and tensorstore raise many things for a full disk."""
        try:
            yield
        except CannotWrite:
            raise
        except Exception as error:
            self._failed = True
            told = " ".join(str(part) for part in _chain(error))
            number = getattr(error, "errno", None) or next((n for n, text in _REASONS.items() if text in told), None)
            reason = _REASONS.get(number) or getattr(error, "strerror", None) or _shortly(error)
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
                self._clean()


def none_readable(place, faults) -> str:
    """What is said where no checkpoint is left to go on from."""
    if not faults:
        return f"no checkpoint in {place}"
    others = f", nor {len(faults) - 1} older" if len(faults) > 1 else ""
    return f"{faults[0]}{others}; nothing was changed: bring one back from a copy, or choose another workdir"


def _digest(state) -> str:
    """SHA-256 of the names, types, shapes and bytes of all leaves."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        leaf = np.asarray(leaf)
        found.update(f"{jax.tree_util.keystr(path)} {leaf.dtype.str} {leaf.shape}\n".encode())
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()


def _alone() -> ocp.options.MultiprocessingOptions:
    """Of several processes that train together one reads and writes, and the others are not asked to take part."""
    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    own = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process_{own}"
    )


def _restored(folder: pathlib.Path, template):
    """What orbax reads from a folder."""
    _quiet()
    alone = _alone()
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
    checkpointer = ocp.Checkpointer(handler, multiprocessing_options=alone)
    with contextlib.closing(checkpointer):
        return checkpointer.restore(folder, args=ocp.args.StandardRestore(template))


@functools.cache
def _quiet() -> None:
    """Keeps off stderr what orbax and tensorstore print there of a fault beside raising it; from now on."""
    call = asyncio.BaseEventLoop.call_soon_threadsafe

    def unless_closed(loop, *args, **kwargs):
        # Where one leaf cannot be read or written, those under way find the loop that waited for them closed, and each
        # would print a traceback, from a thread of tensorstore, also after the last line of the command.
        if loop.is_closed() and isinstance(threading.current_thread(), threading._DummyThread):
            return None
        return call(loop, *args, **kwargs)

    asyncio.BaseEventLoop.call_soon_threadsafe = unless_closed
    ours = str(pathlib.Path(ocp.__file__).parent)
    logging.getLogger("absl").addFilter(lambda record: not record.pathname.startswith(ours))
    never = "exception was never retrieved"  # of the leaves after the first that fails
    logging.getLogger("asyncio").addFilter(lambda record: never not in record.getMessage())


def _chain(error):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _shortly(error) -> str:
    """The beginning of a message, in one line."""
    text = " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())
    return text if len(text) <= 120 else f"{text[:117]}..."
