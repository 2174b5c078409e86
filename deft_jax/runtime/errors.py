"""Errors of the file system, in one line that names what could not be written."""

import contextlib
import errno
import os
from collections.abc import Iterator

# The device, a quota or a limit on file sizes is exhausted: the same command works again once there is space.
FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class CannotWrite(OSError):
    """A file could not be written; filename, strerror and errno are set, and the message is one line."""

    def __str__(self) -> str:
        return f"cannot write {self.filename}: {self.strerror}"

    @property
    def is_full(self) -> bool:
        """Whether space is exhausted."""
        return self.errno in FULL_ERRNOS


@contextlib.contextmanager
def reraise_as_cannot_write(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns an OSError raised within it into a CannotWrite that names `path`."""
    try:
        yield
    except CannotWrite:
        raise
    except OSError as error:
        raise CannotWrite(error.errno, error.strerror or str(error), str(path)) from error
