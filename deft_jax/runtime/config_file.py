"""config.json of a workdir: written once, compared with each later start."""

import json
import pathlib
from collections.abc import Sequence

from deft_jax.runtime.errors import CannotWrite
from deft_jax.runtime.files import read_object, to_jsonable, write_atomically
from deft_jax.runtime.messages import short_repr


def save_or_check_config(workdir: pathlib.Path, config, free: Sequence[str] = ()) -> None:
    """Writes config.json, or checks that the one there is of the same run; fields in `free` may differ.

    config: a ConfigDict or a mapping. Raises ValueError that names what is different, or why the workdir cannot be
    read or written to; CannotWrite on a full disk.
    """
    wanted = check_config(workdir, config, free)
    try:
        write_atomically(workdir / "config.json", json.dumps(wanted, indent=2) + "\n")
    except CannotWrite as error:
        if error.is_full:
            raise
        raise ValueError(f"cannot write into the workdir {workdir}: {error.strerror}") from None


def check_config(workdir: pathlib.Path, config, free: Sequence[str] = ()) -> dict:
    """What `claim` would write; raises ValueError as it does, and changes nothing."""
    wanted = json.loads(json.dumps(to_jsonable(config.to_dict() if hasattr(config, "to_dict") else config)))
    held = read_object(workdir / "config.json")
    if held is not None:
        different = sorted(_differences(held, wanted, free))
        if different:
            raise ValueError(
                f"{workdir} holds a run of another configuration ({'; '.join(different)}); "
                "choose another workdir, or the configuration in its config.json"
            )
    return wanted


def _differences(old, new, free, prefix=""):
    for name in sorted(set(old) | set(new)):
        if prefix + name in free:
            continue
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after, free, f"{prefix}{name}.")
        elif before != after:
            yield f"{prefix}{name} is {short_repr(before)} there and {short_repr(after)} here"
