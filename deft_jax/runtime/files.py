"""Atomic writes, JSON files, and values in types that JSON knows."""

import contextlib
import json
import os
import pathlib
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from deft_jax.runtime.errors import reraise_as_cannot_write


def write_atomically(path: pathlib.Path, content: str | bytes, *, several_writers: bool = False) -> None:
    """Writes a file such that readers see the old content or the new one, also after a power failure.

    Args:
      path: the file; missing folders are created.
      content: all of it.
      several_writers: as of `replacing`.

    Raises:
      CannotWrite: the file could not be written; its old content is kept and no other file is left behind.
    """
    with reraise_as_cannot_write(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, several_writers=several_writers) as temporary:
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes a value as indented JSON, atomically.

    Raises:
      CannotWrite: as `write_atomically`.
    """
    write_atomically(path, json.dumps(to_jsonable(value), indent=2) + "\n")


@contextlib.contextmanager
def replacing(path: pathlib.Path, *, several_writers: bool = False) -> Iterator[pathlib.Path]:
    """Yields a temporary path beside `path`; what was written there replaces `path` at the end.

    If the block fails, the temporary file is removed and `path` is unchanged.

    Args:
      path: the file, in an existing folder.
      several_writers: whether several processes may write it at once, because no lock keeps them out. The temporary
        file then has a name of its own, and stays if the process is killed; otherwise the next write reuses it.
    """
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}.tmp" if several_writers else f"{path.name}.tmp")
    try:
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def to_jsonable(value: Any) -> Any:
    """The same value in types that JSON knows: arrays become lists, numpy scalars numbers."""
    if isinstance(value, Mapping):
        return {key: to_jsonable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [to_jsonable(entry) for entry in value]
    if hasattr(value, "tolist"):
        return np.asarray(value).tolist()
    return value


def read_object(path: pathlib.Path) -> dict[str, Any] | None:
    """The object in a JSON file.

    Returns:
      The object; None if there is no such file.

    Raises:
      ValueError: the file cannot be read, is not JSON, or holds something else than an object.
    """
    try:
        value = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {path}: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"cannot read {path}: it holds no JSON object")
    return value
