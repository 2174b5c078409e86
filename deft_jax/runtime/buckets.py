"""Workdirs in a bucket, gs://BUCKET/FOLDER or s3://BUCKET/FOLDER: a local copy that is kept the same as the bucket.

Objects can neither be appended to nor renamed, and there are no locks. A command therefore works in a local copy:
what the bucket holds is downloaded first, and what changes is uploaded at every new checkpoint, every minute, and at
the end. Objects are replaced whole. A checkpoint is uploaded after the records up to it, and its own metadata last:
without those it is not read. An older checkpoint is removed after the newer one is complete. A process that is killed at
any moment leaves a workdir in the bucket from which the same command resumes.

The same functions take local folders, and do nothing with those.
"""

import contextlib
import logging
import os
import pathlib
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from deft_jax.runtime.errors import CannotWrite
from deft_jax.runtime.leases import NAME as LEASE
from deft_jax.runtime.leases import Lease
from deft_jax.runtime.paths import is_address, local_path, register_copy, shown, split_address
from deft_jax.runtime.progress import warn

_PACKAGES = {"gs": "gcsfs", "s3": "s3fs"}  # scheme -> package; the extra has the name of the scheme
_LOGS = ("gcsfs", "s3fs", "fsspec", "google", "botocore", "aiobotocore", "asyncio")
_POLL = 1.0  # seconds between two looks for a new checkpoint
_EVERY = 60.0  # seconds between uploads of what else has changed
_RETRY = 10.0  # seconds after an upload that failed

# The folder of a checkpoint, and the file in it without which it is not complete.
_CHECKPOINT = re.compile(r"(?:.*/)?(?:checkpoints|trials\w*)/\d+(?=/)")
_MARKER = "_CHECKPOINT_METADATA"
_NOT_COPIED = re.compile(r"(?:.*/)?(?:\.lock|[^/]*\.tmp|[^/]*orbax-checkpoint-tmp[^/]*(?:/.*)?)")
Signature = tuple[int, int]  # size in bytes, time of the last change in ns


class _Place(NamedTuple):
    """A path in a bucket: its file system, its path there, and its address."""

    filesystem: Any
    path: str
    address: str


def _place(address: str | os.PathLike[str], field: str) -> _Place:
    """Raises ValueError where the address is wrong, a library is missing, or there are no credentials."""
    scheme, path = split_address(address, field)
    normal = f"{scheme}://{path}"
    try:
        import fsspec

        for name in _LOGS:  # every error that they log is also raised
            logging.getLogger(name).setLevel(logging.CRITICAL)
        return _Place(fsspec.filesystem(scheme, skip_instance_cache=True, use_listings_cache=False), path, normal)
    except ImportError:
        package = _PACKAGES[scheme]
        raise ValueError(f"{field} {normal} needs {package}: pip install {package}, or 'deft_jax[{scheme}]'") from None
    except Exception as error:
        raise ValueError(f"{field} {normal} cannot be opened ({_shorten(error)})") from None


@contextlib.contextmanager
def working_copy(workdir: str | os.PathLike[str], field: str) -> Iterator[pathlib.Path]:
    """The folder in which a command works, for a `with` block.

    Args:
      workdir: a local folder, which is returned as it is; or an address, of which a local copy is returned that only
        this process may change, and whose changes are uploaded.
      field: what it is, for messages: '--workdir'.

    Raises:
      ValueError: the address is wrong, a library or credentials are missing, the bucket is not there or cannot be read
        or written, another process works there, or it has taken the place over.
      CannotWrite: at the end of the block, what is left could not be uploaded; it stays in the local copy.
    """
    if not is_address(workdir):
        yield local_path(workdir, field)
        return
    place = _place(workdir, field)
    with _readable(place, field):
        lease = Lease(place.filesystem, place.path, place.address)
    mirror, taken = None, None
    try:
        with _readable(place, field):
            mirror = _Mirror(place, lease)
        with _addresses_in_errors():
            yield mirror.folder
    except Exception as error:
        taken = error
        if lease.lost is None:
            raise
    finally:
        try:
            if mirror is not None:
                mirror.close()
        finally:
            lease.release()
        if lease.lost is not None:
            raise ValueError(f"{place.address} was taken over by {lease.lost}, and nothing more is written") from taken


@contextlib.contextmanager
def reading_copy(workdir: str | os.PathLike[str], field: str) -> Iterator[pathlib.Path]:
    """The folder from which a command reads, for a `with` block; it may be in use by another process.

    Args:
      workdir: a local folder, which is returned as it is; or an address, of which a local copy is returned.
      field: what it is, for messages.

    Raises:
      ValueError: as of `working_copy`.
    """
    if not is_address(workdir):
        yield local_path(workdir, field)
        return
    place = _place(workdir, field)
    with _temporary_folder(place) as folder:
        with _readable(place, field):
            _download(place, folder)
        with _addresses_in_errors():
            yield folder


@contextlib.contextmanager
def output_file(path: str | os.PathLike[str], field: str) -> Iterator[pathlib.Path]:
    """The local file to read and to write in place of one that may be in a bucket, for a `with` block.

    Raises:
      ValueError: the address is wrong, or the bucket cannot be read or written.
    """
    if not is_address(path):
        yield local_path(path, field)
        return
    place = _place(path, field)
    with _temporary_folder(place) as file:
        file.rmdir()
        with _readable(place, field), contextlib.suppress(FileNotFoundError):
            place.filesystem.get_file(place.path, str(file))
        with _addresses_in_errors():
            yield file
        with _readable(place, field):
            place.filesystem.put_file(str(file), place.path)


def read_text(path: str | os.PathLike[str], field: str) -> str:
    """The text of a file, which may be in a bucket.

    Raises:
      OSError: a local file cannot be read.
      ValueError: it is not text, or an object cannot be read.
    """
    if not is_address(path):
        return pathlib.Path(path).read_text()
    place = _place(path, field)
    with _readable(place, field):
        return place.filesystem.cat_file(place.path).decode()


@contextlib.contextmanager
def _readable(place: _Place, field: str) -> Iterator[None]:
    """Turns any exception but ValueError into a ValueError: the libraries of buckets raise many types."""
    try:
        yield
    except FileNotFoundError:
        raise ValueError(f"{field} {place.address}: there is no such bucket or object") from None
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"{field} {place.address} cannot be read and written ({_shorten(error)})") from None


@contextlib.contextmanager
def _addresses_in_errors() -> Iterator[None]:
    """Names addresses instead of local copies in the exceptions of a block."""
    try:
        yield
    except Exception as error:
        error.args = tuple(shown(part) if isinstance(part, str) else part for part in error.args)
        if isinstance(error, OSError) and isinstance(error.filename, str):
            error.filename = shown(error.filename)
        raise


@contextlib.contextmanager
def _temporary_folder(place: _Place) -> Iterator[pathlib.Path]:
    """A folder of the name that the address ends in."""
    with tempfile.TemporaryDirectory(prefix="deft_jax_", ignore_cleanup_errors=True) as parent:
        folder = pathlib.Path(parent) / place.path.rpartition("/")[2]
        folder.mkdir()
        register_copy(folder, place.address)
        yield folder


def _download(place: _Place, folder: pathlib.Path) -> list[str]:
    """Downloads all objects into an empty folder; returns the names of those of incomplete checkpoints, left out."""
    for _ in range(5):
        found = place.filesystem.find(place.path, detail=True)
        names = {}
        for path, about in found.items():
            name = path.removeprefix(f"{place.path}/")
            if name == path:
                raise ValueError(f"{place.address} is an object, not a folder")
            if about.get("type") == "file" and not name.endswith("/") and not _NOT_COPIED.fullmatch(name):
                names[name] = path
        if names and "config.json" not in names:
            raise ValueError(f"{place.address} holds {len(names)} objects but no run: there is no config.json; give the "
                             "workdir of a run, or one that is empty")  # fmt: skip
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
    return checkpoint is None or f"{checkpoint[0]}/{_MARKER}" in names


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


class _Mirror:
    """A local copy of a folder in a bucket, whose changes a thread uploads.

    Attributes:
      folder: the copy.
    """

    def __init__(self, place: _Place, lease: Lease):
        """Downloads the folder. Raises any exception of the file system."""
        self._place, self._lease = place, lease
        self._parent = pathlib.Path(tempfile.mkdtemp(prefix="deft_jax_"))
        self.folder = self._parent / place.path.rpartition("/")[2]
        self.folder.mkdir()
        try:
            self._left_over = _download(place, self.folder)
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
            except Exception as error:
                if not is_failing:
                    warn(f"{self._place.address} is behind ({_shorten(error)}); trying again")
                is_failing = True
                self._ending.wait(_RETRY)

    @staticmethod
    def _markers(found: dict[str, Signature]) -> dict[str, Signature]:
        return {name: mark for name, mark in found.items() if name.endswith(f"/{_MARKER}")}

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
            self._lease.check()
            if self._lease.lost is not None:
                return
            self._put([name for name in others if name == "config.json"], found, outgoing)
            self._put([name for name in others if name != "config.json"], found, outgoing)
            for folder, names in whole.items():
                marker = f"{folder}/{_MARKER}"
                self._remove([marker] if marker in self._uploaded else [])  # another checkpoint of the same step
                self._put([name for name in names if name != marker], found, outgoing)
                self._put([marker], found, outgoing)
            gone = [name for name in self._uploaded if name not in found]
            self._remove([name for name in gone if name.endswith(f"/{_MARKER}")])
            self._remove([name for name in gone if not name.endswith(f"/{_MARKER}")])
            self._remove([name for name in self._left_over if name not in self._uploaded])
            self._left_over = []

    def _take(self, names: list[str], outgoing: str, copy: Any) -> bool:
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
            sources = [os.path.join(outgoing, name) for name in names]
            self._place.filesystem.put(sources, [f"{self._place.path}/{name}" for name in names])
            self._uploaded |= {name: found[name] for name in names}

    def _remove(self, names: list[str]) -> None:
        if names:
            with contextlib.suppress(FileNotFoundError):
                self._place.filesystem.rm([f"{self._place.path}/{name}" for name in names])
            for name in names:
                self._uploaded.pop(name, None)

    def close(self) -> None:
        """Uploads what is left and removes the copy.

        Raises:
          CannotWrite: it could not be uploaded, and stays where it is.
        """
        self._ending.set()
        self._thread.join()
        try:
            if self._lease.lost is None:
                self._upload()
        except BaseException as error:
            reason = f"{_shorten(error)}; what is not there yet is in {self.folder}"
            if not isinstance(error, Exception):
                warn(f"{self._place.address} is behind: {reason}")
                raise
            raise CannotWrite(getattr(error, "errno", None), reason, self._place.address) from error
        shutil.rmtree(self._parent, ignore_errors=True)


def _shorten(error: BaseException) -> str:
    """An exception in one line of at most 200 characters, without the addresses of requests."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."
