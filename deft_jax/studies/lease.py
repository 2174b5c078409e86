"""The right of one process to do a run of a study that several machines share."""

import contextlib
import json
import os
import pathlib
import socket
import threading

NAME = "lease.json"
_HEARTBEAT = 15.0  # seconds between two touches of the file by the process that has the lease
_STALE = 120.0  # seconds without a touch after which another process may take over


class Lease:
    """The right to work in a directory, for one process on one of several machines that share it.

    The lease is a file that only one process can create and that it touches every few seconds. When its process is
    killed, the file is no longer touched, and another process takes it over. Ages are differences of two times of the
    file system, so the clocks of the machines need not agree. filelock does not replace this: its locks of the
    operating system do not reach across machines on every shared file system, and its soft locks either stay when a
    process on another machine is killed or expire by the local clock while their process still works.
    """

    def __init__(self, directory: pathlib.Path, stale: float = _STALE, heartbeat: float = _HEARTBEAT):
        """A lease that is not yet taken.

        Args:
          directory: the folder of the run.
          stale: seconds without a heartbeat after which the lease of another process may be taken over.
          heartbeat: seconds between two touches of the file.
        """
        self._path, self._stale, self._heartbeat = directory / NAME, stale, heartbeat
        self._released = threading.Event()

    def take(self) -> bool:
        """Tries to take the lease; whether this process has it now."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        candidate = self._path.with_name(f".{NAME}.{socket.gethostname()}.{os.getpid()}")
        candidate.write_text(json.dumps({"host": socket.gethostname(), "process": os.getpid()}))
        try:
            with contextlib.suppress(FileNotFoundError):
                if candidate.stat().st_mtime - self._path.stat().st_mtime > self._stale:
                    # Renaming succeeds for one of several processes; the others find the next lease fresh.
                    os.rename(self._path, candidate.with_name(candidate.name + ".stale"))
                    os.unlink(candidate.with_name(candidate.name + ".stale"))
            try:
                os.link(candidate, self._path)
            except FileExistsError:
                return False
        finally:
            candidate.unlink()
        threading.Thread(target=self._beat, daemon=True).start()
        return True

    def _beat(self) -> None:
        while not self._released.wait(self._heartbeat):
            with contextlib.suppress(OSError):
                os.utime(self._path)

    def release(self) -> None:
        """Gives the lease back."""
        self._released.set()
        self._path.unlink(missing_ok=True)
