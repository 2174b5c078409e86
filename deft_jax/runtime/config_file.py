"""config.json of a workdir: written once, compared with each later start."""

import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deft_jax.runtime.errors import CannotWrite
from deft_jax.runtime.files import read_object, to_jsonable, write_json
from deft_jax.runtime.messages import short_repr


def save_or_check_config(workdir: pathlib.Path, config: Mapping[str, Any], free: Sequence[str] = ()) -> None:
    """Writes config.json, or checks that the existing one belongs to the same run and updates the free fields.

    Args:
      workdir: of the run.
      config: its configuration.
      free: paths of fields that may differ, for example 'log_every' or 'data.path'.

    Raises:
      ValueError: config.json differs in other fields or cannot be read, or the workdir is read-only.
      CannotWrite: the disk is full.
    """
    values = check_config(workdir, config, free)
    try:
        write_json(workdir / "config.json", values)
    except CannotWrite as error:
        if error.is_full:
            raise
        raise ValueError(f"cannot write into the workdir {workdir}: {error.strerror}") from None


def check_config(workdir: pathlib.Path, config: Mapping[str, Any], free: Sequence[str] = ()) -> dict[str, Any]:
    """Checks as `save_or_check_config` does, without writing.

    Returns:
      What `save_or_check_config` would write.

    Raises:
      ValueError: config.json differs in other fields than those in `free`, or cannot be read.
    """
    values = json.loads(json.dumps(to_jsonable(config.to_dict() if hasattr(config, "to_dict") else config)))
    saved = read_object(workdir / "config.json")
    if saved is not None:
        different = sorted(_differences(saved, values, free))
        if different:
            raise ValueError(
                f"{workdir} holds a run of another configuration ({'; '.join(different)}); "
                "choose another workdir, or the configuration in its config.json"
            )
    return values


def _differences(
    old: Mapping[str, Any], new: Mapping[str, Any], free: Sequence[str], prefix: str = ""
) -> Iterator[str]:
    """One text per field that differs."""
    for name in sorted(set(old) | set(new)):
        if prefix + name in free:
            continue
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after, free, f"{prefix}{name}.")
        elif before != after:
            yield f"{prefix}{name} is {short_repr(before)} there and {short_repr(after)} here"
