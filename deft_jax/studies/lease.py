"""The right of one process to do a run of a study that several machines share."""

import contextlib
import json
import os
import pathlib
import socket
import threading

_CLAIM = "claim.json"


_HEARTBEAT = 15.0  # seconds between two signs of life of whoever holds a claim


_STALE = 120.0  # seconds without one after which the claim is up for grabs


class Lease:
    """The right to work in a directory, for one process on one of several machines that share it.

    A file that only one can create, touched every few seconds; a file that nobody touches any more, because its owner
    was killed, may be taken over. Times are those of the file system, so clocks need not agree.
    """

    def __init__(self, directory: pathlib.Path, stale: float = _STALE, heartbeat: float = _HEARTBEAT):
        self._path, self._stale, self._heartbeat = directory / _CLAIM, stale, heartbeat
        self._over = threading.Event()

    def take(self) -> bool:
        """Whether the claim is ours now."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        told = json.dumps({"host": socket.gethostname(), "process": os.getpid()})
        mine = self._path.with_name(f".{_CLAIM}.{socket.gethostname()}.{os.getpid()}")
        mine.write_text(told)
        try:
            with contextlib.suppress(FileNotFoundError):
                if mine.stat().st_mtime - self._path.stat().st_mtime > self._stale:
                    # Renaming succeeds for one of those who try, and the others find the next claim fresh.
                    os.rename(self._path, mine.with_name(mine.name + ".stale"))
                    os.unlink(mine.with_name(mine.name + ".stale"))
            try:
                os.link(mine, self._path)
            except FileExistsError:
                return False
        finally:
            mine.unlink()
        threading.Thread(target=self._beat, daemon=True).start()
        return True

    def _beat(self):
        while not self._over.wait(self._heartbeat):
            with contextlib.suppress(OSError):
                os.utime(self._path)

    def release(self) -> None:
        """Gives the claim back."""
        self._over.set()
        self._path.unlink(missing_ok=True)
