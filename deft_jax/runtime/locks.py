"""Locks: one process at a time writes to a workdir, and one at a time changes a file that several add to."""

import contextlib
import errno
import functools
import json
import os
import pathlib
import socket
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import filelock

from deft_jax.runtime.errors import CannotWrite, reraise_as_cannot_write
from deft_jax.runtime.files import read_object, write_json
from deft_jax.runtime.progress import warn

_LOCK = ".lock"
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_CHANGES = 60.0  # seconds for which a file may be locked by other processes that change it


class Lock:
    """An exclusive lock on a folder or a file, held until it is released or the process ends, however it ends.

    It is a lock of the operating system on a file of its own, which names the process that holds it. Soft locks, which
    are files that only exist, are not used: they would stay after a process was killed.
    """

    def __init__(self, path: pathlib.Path, locked: pathlib.Path, wait: float, advice: str):
        """Creates the file, and its folder if necessary, and locks it; only warns if the file system has no locks.

        Args:
          path: of the file that is there while the lock is held.
          locked: the folder or file that is locked, for messages.
          wait: seconds for which it may be locked by another process.
          advice: what to do instead of waiting, for the message.

        Raises:
          ValueError: another process has the lock.
          CannotWrite: the folder or the file cannot be created.
        """
        self._path = path
        self._lock = filelock.FileLock(path, timeout=wait, fallback_to_soft=False, thread_local=False)
        with reraise_as_cannot_write(locked):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire()
            except filelock.Timeout:
                raise ValueError(f"{locked} is in use by {_holder(path)}; wait for it, or {advice}") from None
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                _warn_once(f"{locked} cannot be locked ({error.strerror}); let no other run write there")
                return
        with contextlib.suppress(OSError):  # on a full disk, the message to others does not name this process
            path.write_text(json.dumps({"host": socket.gethostname(), "process": os.getpid()}))

    def __enter__(self) -> "Lock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Removes the file and releases the lock."""
        if self._lock.is_locked:
            # While it is still locked: whoever has opened the removed file and locks it now notices, and tries again.
            with contextlib.suppress(OSError):
                self._path.unlink()
            self._lock.release()


class WorkdirLock(Lock):
    """The lock of a workdir, on the file .lock in it."""

    def __init__(self, workdir: pathlib.Path, wait: float = 0.0):
        """Creates the folder if necessary and locks it; only warns if the file system has no locks.

        Args:
          workdir: the folder.
          wait: seconds for which it may be locked by another process.

        Raises:
          ValueError: another run has the lock.
          CannotWrite: the folder or the file cannot be created.
        """
        super().__init__(workdir / _LOCK, workdir, wait, "choose another workdir")


def lock_file(path: pathlib.Path, wait: float = _CHANGES) -> Lock:
    """The lock of one file, on the hidden file .NAME.lock beside it, for a `with` block.

    Args:
      path: the file, there or not; its folder is created if necessary.
      wait: seconds for which it may be locked by another process.

    Raises:
      ValueError: another process has the lock.
      CannotWrite: its folder cannot be written to.
    """
    return Lock(path.with_name(f".{path.name}{_LOCK}"), path, wait, "end it")


def update_object(path: pathlib.Path, change: Callable[[dict[str, Any]], Mapping[str, Any]]) -> dict[str, Any]:
    """Changes the object in a JSON file to which several processes may add at the same time.

    Args:
      path: the file, there or not.
      change: from the object, {} where there is no file, to the new one.

    Returns:
      The new object.

    Raises:
      ValueError: the file cannot be read or holds no object, or another process has been changing it for a minute.
      CannotWrite: as `files.write_json`.
    """
    with lock_file(path):
        values = dict(change(read_object(path) or {}))
        write_json(path, values)
    return values


def lock_workdir(workdir: pathlib.Path, wait: float = 0.0) -> WorkdirLock:
    """The lock of a workdir.

    Args:
      workdir: the folder; it is created if necessary.
      wait: seconds for which it may be locked by another process.

    Raises:
      ValueError: another run has it, or the folder is read-only.
      CannotWrite: the disk is full.
    """
    try:
        return WorkdirLock(workdir, wait)
    except CannotWrite as error:
        if error.is_full:
            raise
        raise ValueError(f"cannot write into the workdir {workdir}: {error.strerror}") from None


@functools.cache
def _warn_once(message: str) -> None:
    warn(message)


def _holder(path: pathlib.Path) -> str:
    """The process named in a lock file."""
    try:
        holder = json.loads(path.read_text())
        return f"process {holder['process']} on {holder['host']}"
    except (OSError, ValueError, TypeError, KeyError):
        return "another process"
