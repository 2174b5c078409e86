"""The lock of a workdir: one process at a time writes there."""

import contextlib
import errno
import json
import os
import pathlib
import socket
from types import TracebackType

import filelock

from deft_jax.runtime.errors import CannotWrite, reraise_as_cannot_write
from deft_jax.runtime.progress import warn

_LOCK = ".lock"
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class WorkdirLock:
    """An exclusive lock on a workdir, held until it is released or the process ends, however it ends.

    It is a lock of the operating system on the file .lock, which names the process that holds it. Soft locks, which
    are files that only exist, are not used: they would stay after a process was killed.
    """

    def __init__(self, workdir: pathlib.Path, wait: float = 0.0):
        """Creates the folder if necessary and locks it; only warns if the file system has no locks.

        Args:
          workdir: the folder.
          wait: seconds for which it may be locked by another process.

        Raises:
          ValueError: another run has the lock.
          CannotWrite: the folder or the file cannot be created.
        """
        self._path = workdir / _LOCK
        self._lock = filelock.FileLock(self._path, timeout=wait, fallback_to_soft=False, thread_local=False)
        with reraise_as_cannot_write(workdir):
            workdir.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire()
            except filelock.Timeout:
                message = f"{workdir} is in use by {_holder(self._path)}; wait for it, or choose another workdir"
                raise ValueError(message) from None
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                warn(f"{workdir} cannot be locked ({error.strerror}); let no other run write there")
                return
        with contextlib.suppress(OSError):  # on a full disk, the message to others does not name this process
            self._path.write_text(json.dumps({"host": socket.gethostname(), "process": os.getpid()}))

    def __enter__(self) -> "WorkdirLock":
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


def _holder(path: pathlib.Path) -> str:
    """The process named in a lock file."""
    try:
        holder = json.loads(path.read_text())
        return f"process {holder['process']} on {holder['host']}"
    except (OSError, ValueError, TypeError, KeyError):
        return "another process"
