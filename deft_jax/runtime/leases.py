"""The lease of a folder in a bucket: one process at a time writes there.

A bucket has no locks that end with their process. The lease is an object that its holder rewrites every few seconds;
one that is no longer rewritten has expired, and whoever waits for it may take it over.
"""

import _thread
import contextlib
import json
import os
import pathlib
import signal
import socket
import threading
import time
import uuid
from typing import Any

from deft_jax.runtime.progress import warn

NAME = ".lock"
RENEWED = 15.0
"""Seconds between two renewals by the holder."""
EXPIRES = 60.0
"""Seconds without a renewal after which another process may take a lease over."""


class Lease:
    """The lease of one folder, held until it is released, or until EXPIRES after the process has ended.

    Where its holder was a process of this machine that has ended, it is taken over at once. A holder that was cut off
    from the bucket for so long that another process took the lease over ends with SIGTERM, so that it saves its state.

    Attributes:
      lost: who has taken it over, None while it is held.
    """

    lost: str | None = None

    def __init__(self, filesystem: Any, root: str, address: str):
        """Takes the lease; waits where it is not known whether its holder is alive.

        Args:
          filesystem: of fsspec.
          root: path of the folder there.
          address: of the folder, for messages.

        Raises:
          ValueError: another process has it.
          Exception: of any type, where the bucket cannot be read or written.
        """
        self._filesystem, self._path, self._address = filesystem, f"{root}/{NAME}", address
        self._content = {"host": socket.gethostname(), "process": os.getpid(), "machine": _machine(),
                         "token": uuid.uuid4().hex}  # fmt: skip
        self._renewals, self._turn = 0, threading.RLock()
        self._acquire()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def _acquire(self) -> None:
        seen, unchanged, pause = None, 0.0, min(1.0, RENEWED / 4)
        while True:
            holder = self._read()
            if holder is None:
                # Some stores do not know the condition and overwrite: what is there now decides.
                with contextlib.suppress(FileExistsError):
                    self._filesystem.pipe_file(self._path, self._bytes(), mode="create")
                    if (self._read() or {}).get("token") == self._content["token"]:
                        return
            elif _has_ended(holder) or (holder == seen and unchanged > EXPIRES):
                self._remove()
            elif seen is None:
                seen = holder
                warn(f"{self._address} is marked as in use by {_name(holder)}; waiting up to {EXPIRES:.0f} s to see "
                     "whether that is still so")  # fmt: skip
            elif holder != seen:
                raise ValueError(
                    f"{self._address} is in use by {_name(holder)}; wait for it, or choose another workdir"
                )
            else:
                time.sleep(pause)
                unchanged += pause  # not the time of requests: a bucket that does not answer keeps the holder out too

    def _renew(self) -> None:
        while not self._ending.wait(RENEWED):
            with contextlib.suppress(Exception), self._turn:  # a failed request: the next renewal is in time
                self.check()
                if self.lost is not None:
                    _thread.interrupt_main(signal.SIGTERM)
                    return
                self._renewals += 1
                self._filesystem.pipe_file(self._path, self._bytes())

    def check(self) -> None:
        """Sets `lost` if another process has taken the lease over; raises any exception if it cannot be read."""
        with self._turn:  # not while this process renews it, which not every store does in one piece
            holder = self._read()
        if holder is not None and holder.get("token") != self._content["token"]:
            self.lost = _name(holder)

    def release(self) -> None:
        """Ends the lease; whoever waits for it has it at once."""
        self._ending.set()
        self._thread.join()
        with contextlib.suppress(Exception):  # the bucket cannot be reached: it expires
            self.check()
            if self.lost is None:
                self._remove()

    def _bytes(self) -> bytes:
        return json.dumps(self._content | {"renewals": self._renewals}).encode()

    def _read(self) -> dict[str, Any] | None:
        try:
            content = self._filesystem.cat_file(self._path)
        except FileNotFoundError:
            return None
        try:
            holder = json.loads(content)
        except ValueError:
            holder = None
        return holder if isinstance(holder, dict) else {"token": repr(content)}

    def _remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._filesystem.rm_file(self._path)


def _name(holder: dict[str, Any]) -> str:
    if "process" not in holder:
        return "another process"
    return f"process {holder['process']} on {holder.get('host')}"


def _machine() -> str | None:
    """What identifies the processes that this one can see: host, its start, namespace; None where it is not known."""
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _has_ended(holder: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine that is no longer there."""
    machine, process = _machine(), holder.get("process")
    if machine is None or holder.get("machine") != machine or not isinstance(process, int):
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False
