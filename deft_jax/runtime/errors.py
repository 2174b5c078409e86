"""Errors of the file system, in one line that names what could not be written."""

import contextlib
import errno
import os

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None


# A device without space, a quota, a limit on files: nothing is wrong with the command, which can be given again.
FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class CannotWrite(OSError):
    """What could not be written and why, in one line: filename, strerror and errno are set."""

    def __str__(self):
        return f"cannot write {self.filename}: {self.strerror}"

    @property
    def is_full(self) -> bool:
        """Whether it is for want of space."""
        return self.errno in FULL_ERRNOS


@contextlib.contextmanager
def reraise_as_cannot_write(path: str | os.PathLike):
    """Within it, an OSError becomes a CannotWrite that names `path`."""
    try:
        yield
    except CannotWrite:
        raise
    except OSError as error:
        raise CannotWrite(error.errno, error.strerror or str(error), str(path)) from error
