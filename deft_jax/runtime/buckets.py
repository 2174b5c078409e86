"""Workdirs in a bucket, gs://BUCKET/FOLDER or s3://BUCKET/FOLDER, by local copies.

Objects can neither be appended to nor renamed, and there are no locks. A command that writes works in a copy that a
thread keeps the same as the bucket (mirrors.py), and holds a lease of the folder there (leases.py); one that reads
downloads it. The same functions take local folders, and do nothing with those.
"""

import contextlib
import errno
import logging
import os
import pathlib
import tempfile
from collections.abc import Iterator

from deft_jax.runtime.errors import CannotWrite
from deft_jax.runtime.leases import Lease
from deft_jax.runtime.mirrors import MARKER, Mirror, Place, download, shorten
from deft_jax.runtime.paths import is_address, local_path, register_copy, shown, split_address
from deft_jax.runtime.progress import warn

_PACKAGES = {"gs": "gcsfs", "s3": "s3fs"}  # scheme -> package; the extra has the name of the scheme
SAVED = (MARKER, "results.json", "run.json")
"""Files that a training or a study writes when something is done: a checkpoint, a training, a run of a study."""
_LOGS = ("gcsfs", "s3fs", "fsspec", "google", "botocore", "aiobotocore", "asyncio")


def _place(address: str | os.PathLike[str], field: str) -> Place:
    """Raises ValueError where the address is wrong, a library is missing, or there are no credentials."""
    scheme, path = split_address(address, field)
    normal = f"{scheme}://{path}"
    try:
        import fsspec

        for name in _LOGS:  # every error that they log is also raised
            logging.getLogger(name).setLevel(logging.CRITICAL)
        return Place(fsspec.filesystem(scheme, skip_instance_cache=True, use_listings_cache=False), path, normal)
    except ImportError:
        package = _PACKAGES[scheme]
        raise ValueError(f"{field} {normal} needs {package}: pip install {package}, or 'deft_jax[{scheme}]'") from None
    except Exception as error:
        raise ValueError(f"{field} {normal} cannot be opened ({shorten(error)})") from None


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
        _check_folder(place)
        lease = Lease(place.filesystem, place.path, place.address)
    try:
        with _readable(place, field):
            mirror = Mirror(place, lease)
        try:
            with addresses_in_errors():
                yield mirror.folder
        except BaseException as error:
            try:
                mirror.close()
            except CannotWrite as second:  # the first error is what the user must know
                warn(str(second))
            except ValueError as taken_over:  # for which the signal of the lease has ended the block
                if isinstance(error, Exception):
                    raise taken_over from error
                warn(str(taken_over))
            raise
        mirror.close()
    finally:
        lease.release()


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
            _check_folder(place)
            download(place, folder)
        with addresses_in_errors():
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
        with _readable(place, field):
            try:
                place.filesystem.get_file(place.path, str(file))
            except FileNotFoundError:
                _check_bucket(place)
        with addresses_in_errors():
            yield file
        with _readable(place, field):
            place.filesystem.put_file(str(file), place.path)


def read_text(path: str | os.PathLike[str], field: str) -> str:
    """The text of a file, which may be in a bucket.

    Raises:
      OSError: it cannot be read.
      ValueError: it is not text.
    """
    if not is_address(path):
        return pathlib.Path(path).read_text()
    try:
        place = _place(path, field)
        with _readable(place, field):
            content = place.filesystem.cat_file(place.path)
    except ValueError as error:
        raise OSError(errno.EIO, str(error)) from None
    return content.decode()


def saved_names(address: str | os.PathLike[str], field: str) -> list[str]:
    """The names below a folder in a bucket that tell how far its runs are: complete checkpoints and results, sorted.

    Raises:
      ValueError: as of `working_copy`.
    """
    place = _place(address, field)
    with _readable(place, field):
        found = (path.removeprefix(f"{place.path}/") for path in place.filesystem.find(place.path))
        return sorted(name for name in found if name.rpartition("/")[2] in SAVED)


@contextlib.contextmanager
def addresses_in_errors() -> Iterator[None]:
    """Names what the user has named, such as an address, instead of local copies in the exceptions of a block."""
    try:
        yield
    except Exception as error:
        error.args = tuple(shown(part) if isinstance(part, str) else part for part in error.args)
        if isinstance(error, OSError) and isinstance(error.filename, str):
            error.filename = shown(error.filename)
        raise


def _check_folder(place: Place) -> None:
    """Raises ValueError if the address is that of an object: others could be put below it all the same."""
    if place.filesystem.isfile(place.path):
        raise ValueError(f"{place.address} is a file, not a folder")


def _check_bucket(place: Place) -> None:
    """Raises FileNotFoundError if there is no such bucket; one that may be written but not listed passes."""
    try:
        place.filesystem.ls(place.path.partition("/")[0])
    except FileNotFoundError:
        raise
    except Exception:  # the right to list is not needed to write
        return


@contextlib.contextmanager
def _readable(place: Place, field: str) -> Iterator[None]:
    """Turns any exception into a ValueError that names the address: the libraries of buckets raise many types."""
    try:
        yield
    except FileNotFoundError:
        raise ValueError(f"{field} {place.address}: there is no such bucket or object") from None
    except Exception as error:
        if isinstance(error, ValueError) and place.address in str(error):
            raise
        raise ValueError(f"{field} {place.address} cannot be read and written ({shorten(error)})") from None


@contextlib.contextmanager
def _temporary_folder(place: Place) -> Iterator[pathlib.Path]:
    """A folder of the name that the address ends in."""
    with tempfile.TemporaryDirectory(prefix="deft_jax_", ignore_cleanup_errors=True) as parent:
        folder = pathlib.Path(parent) / place.path.rpartition("/")[2]
        folder.mkdir()
        register_copy(folder, place.address)
        yield folder
