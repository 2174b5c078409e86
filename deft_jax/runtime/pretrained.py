"""Models that come with the package, by name: `quickstart` stands for a folder of deft_jax/pretrained/.

A name is looked up only where it is a bare word and nothing of that name lies in the current folder, so a workdir of
one's own always wins; `./quickstart` never names a model of the package. Their folders are only read.
"""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from deft_jax.runtime import buckets
from deft_jax.runtime.errors import CannotWrite
from deft_jax.runtime.files import read_object, write_atomically
from deft_jax.runtime.locks import lock_file
from deft_jax.runtime.paths import register_copy

FOLDER = pathlib.Path(__file__).parents[1] / "pretrained"


def names() -> list[str]:
    """The names of the models that come with the package, in alphabetical order.

    Example:
      >>> "quickstart" in names()
      True
    """
    return sorted(path.parent.name for path in FOLDER.glob("*/config.json"))


def folder_of(workdir: str | os.PathLike[str]) -> pathlib.Path | None:
    """The folder of a model that comes with the package.

    Args:
      workdir: as given by the user.

    Returns:
      The folder; None where it is no such name, or where something of that name lies in the current folder.
    """
    name = os.fspath(workdir).rstrip("/")
    if name not in names() or pathlib.Path(name).exists():
        return None
    register_copy(FOLDER / name, name)
    return FOLDER / name


def or_names() -> str:
    """The end of a message on a workdir that is not there: which names could be given in its place."""
    return f", or, where nothing here has its name, a model that comes with the package: {', '.join(names())}"


@contextlib.contextmanager
def reading_copy(workdir: str | os.PathLike[str], field: str) -> Iterator[pathlib.Path]:
    """The folder from which a command reads, for a `with` block.

    Args:
      workdir: the name of a model that comes with the package, or what `buckets.reading_copy` takes.
      field: what it is, for messages: '--workdir'.

    Raises:
      ValueError: as of `buckets.reading_copy`.
    """
    folder = folder_of(workdir)
    if folder is None:
        with buckets.reading_copy(workdir, field) as path:
            yield path
        return
    with buckets.addresses_in_errors():
        yield folder


@contextlib.contextmanager
def scoring_copy(workdir: str | os.PathLike[str], field: str) -> Iterator[pathlib.Path]:
    """The folder in which a model is scored, for a `with` block.

    Args:
      workdir: the name of a model that comes with the package: a copy is yielded, and the results.json that is left
        there goes to NAME.results.json in the current folder, from which earlier scores are taken. Or what
        `buckets.working_copy` takes.
      field: what it is, for messages.

    Raises:
      ValueError: NAME.results.json cannot be read or written, or another process scores the model into it; and as of
        `buckets.working_copy`.
    """
    folder = folder_of(workdir)
    if folder is None:
        with buckets.working_copy(workdir, field) as path:
            yield path
        return
    kept = pathlib.Path(f"{folder.name}.results.json")
    target = kept.absolute()
    if not os.access(target.parent, os.W_OK):
        raise ValueError(f"cannot write {target}: its folder is read-only; change to another one")
    folder_of_copy = tempfile.TemporaryDirectory(prefix="deft_jax_", ignore_cleanup_errors=True)
    with lock_file(kept, wait=0.0), folder_of_copy as parent:
        earlier = read_object(kept)
        copy = pathlib.Path(parent) / folder.name
        shutil.copytree(folder, copy)
        results = copy / "results.json"
        if earlier is not None:
            shutil.copyfile(target, results)
        before = results.read_bytes()
        register_copy(results, str(kept))
        register_copy(copy, folder.name)
        try:
            with buckets.addresses_in_errors():
                yield copy
        finally:
            if results.read_bytes() != before:
                _keep(results, target)


def _keep(results: pathlib.Path, target: pathlib.Path) -> None:
    """Writes the scores of a copy into the current folder."""
    try:
        write_atomically(target, results.read_bytes())
    except CannotWrite as error:
        raise ValueError(str(error)) from None
