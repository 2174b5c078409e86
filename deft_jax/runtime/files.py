"""Files that are never half-written, JSON objects read with clear errors, values in types that JSON knows."""

import contextlib
import json
import os
import pathlib
from collections.abc import Mapping

import numpy as np

from deft_jax.runtime.errors import reraise_as_cannot_write


def write_atomically(path: pathlib.Path, content: str | bytes) -> None:
    """Writes a file so that a reader sees the old one or the new one, never a part, also after a power failure.

    Raises CannotWrite, an OSError that names the file; the old one is there then, and nothing beside it.
    """
    temporary = path.with_name(path.name + ".tmp")
    with reraise_as_cannot_write(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def to_jsonable(value):
    """The same value in types that JSON knows: arrays become lists, numpy scalars numbers."""
    if isinstance(value, Mapping):
        return {key: to_jsonable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [to_jsonable(entry) for entry in value]
    if hasattr(value, "tolist"):
        return np.asarray(value).tolist()
    return value


def read_object(path: pathlib.Path) -> dict | None:
    """The object in a JSON file, None where there is no file; raises ValueError in one line where it is damaged."""
    try:
        held = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {path}: {error}") from None
    if not isinstance(held, dict):
        raise ValueError(f"cannot read {path}: it holds no JSON object")
    return held
