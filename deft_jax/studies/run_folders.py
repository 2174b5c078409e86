"""Folders that stand for several trainings."""

import pathlib

from deft_jax.runtime.files import read_object


def runs_of(workdir: pathlib.Path) -> list[pathlib.Path]:
    """The workdirs of the trainings that a folder stands for: itself, or those of its seeds or of its study.

    Raises:
      ValueError: the folder is that of several seeds or of a study and holds no run.
    """
    try:
        config = read_object(workdir / "config.json") or {}
    except ValueError:  # reported when the workdir itself is read
        return [workdir]
    if not ("runs" in config or config.get("num_seeds")):
        return [workdir]
    configs = workdir.glob("**/run/config.json" if "runs" in config else "seed_*/config.json")
    runs = sorted((path.parent for path in configs), key=_by_number)
    if not runs:
        raise ValueError(f"{workdir} holds no run yet")
    return runs


def _by_number(path: pathlib.Path) -> list[tuple[str, int, str]]:
    """Sorts seed_10 behind seed_9."""
    parts = [part.rpartition("_") for part in path.parts]
    return [(name, int(end), "") if end.isdecimal() else ("_".join((name, end)), 0, "") for name, _, end in parts]
