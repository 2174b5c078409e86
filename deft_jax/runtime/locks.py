"""The lock of a workdir: one process at a time writes there."""

import contextlib
import errno
import json
import os
import pathlib
import socket

from deft_jax.runtime.errors import CannotWrite, reraise_as_cannot_write
from deft_jax.runtime.progress import warn

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None


_LOCK = ".lock"


_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class WorkdirLock:
    """The right of this process to write to a workdir, until it is released or the process ends, however it ends.

    A lock of the operating system on the file .lock, which tells others who holds it. Where the file system has no
    locks, a warning is all.
    """

    def __init__(self, workdir: pathlib.Path):
        """Makes the folder if need be. Raises ValueError in one line where another run holds it; CannotWrite."""
        self._path, self._file = workdir / _LOCK, None
        with reraise_as_cannot_write(workdir):
            workdir.mkdir(parents=True, exist_ok=True)
            while self._file is None:
                file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
                try:
                    if not self._locked(file, workdir):
                        return
                    # Whoever held it before may have deleted the file between our opening and our locking it.
                    if _same(file, self._path):
                        self._file, file = file, None
                finally:
                    if file is not None:
                        os.close(file)
        told = json.dumps({"host": socket.gethostname(), "process": os.getpid()})
        with contextlib.suppress(OSError):  # on a full disk others are not told who it is
            os.ftruncate(self._file, 0)
            os.write(self._file, told.encode())

    def _locked(self, file: int, workdir: pathlib.Path) -> bool:
        """Whether `file` is locked now; False, with a warning, where that cannot be."""
        try:
            if fcntl is None:
                raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            told = f"{workdir} is in use by {_holder(file)}; wait for it, or choose another workdir"
            raise ValueError(told) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            warn(f"{workdir} cannot be locked ({error.strerror}); let no other run write there")
            return False
        return True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.release()

    def release(self) -> None:
        """Gives the workdir back."""
        if self._file is None:
            return
        # Deleted while it is held: nobody else can have locked the file that goes.
        with contextlib.suppress(OSError):
            self._path.unlink()
        os.close(self._file)
        self._file = None


def lock_workdir(workdir: pathlib.Path) -> WorkdirLock:
    """A workdir's lock. Raises ValueError in one line where it is in use or read-only, CannotWrite on a full disk."""
    try:
        return WorkdirLock(workdir)
    except CannotWrite as error:
        if error.is_full:
            raise
        raise ValueError(f"cannot write into the workdir {workdir}: {error.strerror}") from None


def _same(file: int, path: pathlib.Path) -> bool:
    """Whether an open file is the one that stands under this path."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _holder(file: int) -> str:
    """Who has written into the lock file, in words."""
    try:
        held = json.loads(os.pread(file, 1000, 0))
        return f"process {held['process']} on {held['host']}"
    except (OSError, ValueError, TypeError, KeyError):
        return "another process"
