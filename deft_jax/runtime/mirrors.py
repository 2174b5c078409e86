"""Local copies of folders in a bucket, and a thread that uploads what changes there.

What the bucket holds is downloaded first, and what changes is uploaded at every new checkpoint, every minute, and at
the end. Objects are replaced whole. A checkpoint is uploaded after the records up to it, and its own metadata last:
without those it is not read. An older checkpoint is removed after the newer one is complete. A process that is killed
at any moment leaves a workdir in the bucket from which the same command resumes.
"""

import contextlib
import os
import pathlib
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from deft_jax.runtime.errors import CannotWrite
from deft_jax.runtime.leases import Lease
from deft_jax.runtime.paths import forget_copy, register_copy
from deft_jax.runtime.progress import warn

_POLL = 1.0  # seconds between two looks for a new checkpoint
_EVERY = 60.0  # seconds between uploads of what else has changed
_RETRY = 10.0  # seconds after an upload that failed

# The folder of a checkpoint, and the file in it without which it is not complete.
_CHECKPOINT = re.compile(r"(?:.*/)?(?:checkpoints|trials\w*)/\d+(?=/)")
MARKER = "_CHECKPOINT_METADATA"
_NOT_COPIED = re.compile(r"(?:.*/)?(?:(?:\.[^/]*)?\.lock|[^/]*\.tmp|[^/]*orbax-checkpoint-tmp[^/]*(?:/.*)?)")
Signature = tuple[int, int]  # size in bytes, time of the last change in ns


class _LeaseLost(Exception):
    """Another process has taken the place over."""


class Place(NamedTuple):
    """A path in a bucket: its file system, its path there, and its address."""

    filesystem: Any
    path: str
    address: str


def download(place: Place, folder: pathlib.Path) -> list[str]:
    """Downloads all objects into an empty folder; returns the names of those of incomplete checkpoints, left out."""
    for _ in range(5):
        found = place.filesystem.find(place.path, detail=True)
        names = {}
        for path, about in found.items():
            name = path.removeprefix(f"{place.path}/")
            if about.get("type") == "file" and not name.endswith("/") and not _NOT_COPIED.fullmatch(name):
                names[name] = path
        if names and "config.json" not in names:
            raise ValueError(f"{place.address} holds {len(names)} objects but no run: there is no config.json; give "
                             "the workdir of a run, or one that is empty")  # fmt: skip
        if any({"", ".", ".."} & set(name.split("/")) for name in names):
            raise ValueError(f"{place.address} has objects with . or .. in their names")
        incomplete = [name for name in names if not _is_complete(name, names)]
        wanted = [name for name in names if name not in set(incomplete)]
        try:
            if wanted:
                place.filesystem.get([names[name] for name in wanted], [str(folder / name) for name in wanted])
            return incomplete
        except FileNotFoundError:  # the run that writes there has removed a checkpoint meanwhile
            shutil.rmtree(folder)
            folder.mkdir()
    raise ValueError(f"{place.address} changes faster than it is read; try again")


def _is_complete(name: str, names: Iterable[str]) -> bool:
    """Whether a file belongs to no checkpoint, or to one that is complete. names: a set or a mapping of all."""
    checkpoint = _CHECKPOINT.match(name)
    return checkpoint is None or f"{checkpoint[0]}/{MARKER}" in names


def _scan(folder: pathlib.Path) -> dict[str, Signature]:
    """name -> signature of the files that are copied."""
    found = {}
    for parent, folders, files in os.walk(folder):
        inner = os.path.relpath(parent, folder)
        prefix = "" if inner == "." else f"{pathlib.PurePath(inner).as_posix()}/"
        folders[:] = [name for name in folders if not _NOT_COPIED.fullmatch(name)]
        for name in files:
            if not _NOT_COPIED.fullmatch(name):
                with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile
                    about = os.stat(os.path.join(parent, name))
                    found[prefix + name] = (about.st_size, about.st_mtime_ns)
    return found


class Mirror:
    """A local copy of a folder in a bucket, whose changes a thread uploads.

    Attributes:
      folder: the copy.
    """

    def __init__(self, place: Place, lease: Lease):
        """Downloads the folder. Raises any exception of the file system."""
        self._place, self._lease = place, lease
        self._parent = pathlib.Path(tempfile.mkdtemp(prefix="deft_jax_"))
        self.folder = self._parent / place.path.rpartition("/")[2]
        self.folder.mkdir()
        try:
            self._left_over = download(place, self.folder)
        except BaseException:
            shutil.rmtree(self._parent, ignore_errors=True)
            raise
        register_copy(self.folder, place.address)
        self._uploaded = _scan(self.folder)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        """Uploads at every new checkpoint and every minute, until the end."""
        checkpoints, last, is_failing = self._markers(self._uploaded), time.monotonic(), False
        while not self._ending.wait(_POLL) and self._lease.lost is None:
            markers = self._markers(_scan(self.folder))
            if markers == checkpoints and time.monotonic() - last < _EVERY:
                continue
            try:
                self._upload()
                checkpoints, last, is_failing = markers, time.monotonic(), False
            except _LeaseLost:
                return
            except Exception as error:
                if not is_failing:
                    warn(f"{self._place.address} is behind ({shorten(error)}); trying again")
                is_failing = True
                self._ending.wait(_RETRY)

    @staticmethod
    def _markers(found: dict[str, Signature]) -> dict[str, Signature]:
        return {name: mark for name, mark in found.items() if name.endswith(f"/{MARKER}")}

    def _upload(self) -> None:
        """Makes the bucket equal to the copy, in an order in which it can be left at any moment."""
        with tempfile.TemporaryDirectory(dir=self._parent, ignore_cleanup_errors=True) as outgoing:
            # Checkpoints first: the records that are taken after them reach at least as far.
            found = _scan(self.folder)
            changed = [name for name in found if self._uploaded.get(name) != found[name]]
            checkpoints: dict[str, list[str]] = {}
            for name in changed:
                if (match := _CHECKPOINT.match(name)) and _is_complete(name, found):
                    checkpoints.setdefault(match[0], []).append(name)
            whole = {folder: names for folder, names in checkpoints.items() if self._take(names, outgoing, os.link)}
            others = [name for name in changed if not _CHECKPOINT.match(name)]
            others = [name for name in others if self._take([name], outgoing, shutil.copy2)]
            self._put([name for name in others if name == "config.json"], found, outgoing)
            self._put([name for name in others if name != "config.json"], found, outgoing)
            for folder, names in whole.items():
                marker = f"{folder}/{MARKER}"
                self._remove([marker] if marker in self._uploaded else [])  # another checkpoint of the same step
                self._put([name for name in names if name != marker], found, outgoing)
                self._put([marker], found, outgoing)
            gone = [name for name in self._uploaded if name not in found]
            self._remove([name for name in gone if name.endswith(f"/{MARKER}")])
            self._remove([name for name in gone if not name.endswith(f"/{MARKER}")])
            self._remove([name for name in self._left_over if name not in self._uploaded])
            self._left_over = []

    def _take(self, names: list[str], outgoing: str, copy: Callable[[pathlib.Path, str], Any]) -> bool:
        """Takes files to upload, which may change or go meanwhile; returns whether all are there."""
        try:
            for name in names:
                target = os.path.join(outgoing, name)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                copy(self.folder / name, target)
        except FileNotFoundError:
            return False
        return True

    def _put(self, names: list[str], found: dict[str, Signature], outgoing: str) -> None:
        if names:
            self._check_lease()
            sources = [os.path.join(outgoing, name) for name in names]
            self._place.filesystem.put(sources, [f"{self._place.path}/{name}" for name in names])
            self._uploaded |= {name: found[name] for name in names}

    def _remove(self, names: list[str]) -> None:
        if names:
            self._check_lease()
        for name in names:
            # One by one: `rm` takes a list, but *, ? and [ in a path for a pattern, which other runs may match.
            with contextlib.suppress(FileNotFoundError):
                self._place.filesystem.rm_file(f"{self._place.path}/{name}")
            self._uploaded.pop(name, None)

    def _check_lease(self) -> None:
        """Raises _LeaseLost if another process has the place: this one may have been suspended since the last look."""
        self._lease.check()
        if self._lease.lost is not None:
            raise _LeaseLost(f"{self._place.address} was taken over by {self._lease.lost}")

    def close(self) -> None:
        """Uploads what is left and removes the copy.

        Raises:
          CannotWrite: it could not be uploaded, and stays where it is.
          ValueError: another process has taken the place over; what is not there stays in the copy.
        """
        self._ending.set()
        self._thread.join()
        try:
            if self._lease.lost is None:
                self._upload()
        except _LeaseLost:
            pass
        except BaseException as error:
            forget_copy(self.folder)
            reason = f"{shorten(error)}; what is not there yet is in {self.folder}"
            if not isinstance(error, Exception):
                warn(f"{self._place.address} is behind: {reason}")
                raise
            raise CannotWrite(getattr(error, "errno", None), reason, self._place.address) from error
        if self._lease.lost is not None:
            message = f"{self._place.address} was taken over by {self._lease.lost}, and nothing more is written there"
            if _scan(self.folder) != self._uploaded:
                forget_copy(self.folder)
                raise ValueError(f"{message}; what is not there is in {self.folder}")
            shutil.rmtree(self._parent, ignore_errors=True)
            raise ValueError(message)
        shutil.rmtree(self._parent, ignore_errors=True)


def shorten(error: BaseException) -> str:
    """An exception in one line of at most 200 characters, without the addresses of requests."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."
