"""A workdir as its small files tell it."""

import pathlib
from typing import NamedTuple

from deft_jax.runtime.files import read_object


class Run(NamedTuple):
    """A workdir as its small files tell it. kind: 'training' or 'annealing'. results: {} where there are none yet."""

    title: str
    workdir: pathlib.Path
    kind: str
    config: dict
    results: dict


def read_run(workdir: str | pathlib.Path) -> Run:
    """The run of a workdir; its checkpoint is not read. Raises ValueError in one line where there is none."""
    workdir = pathlib.Path(workdir)
    if not workdir.is_dir():
        raise ValueError(f"{workdir} is {'no folder' if workdir.exists() else 'not there'}; give the workdir of a run")
    config = read_object(workdir / "config.json")
    if config is None:
        what = "holds no run: it has no config.json" if any(workdir.iterdir()) else "is empty"
        raise ValueError(f"{workdir} {what}; give the --workdir of a training or of an annealing test")
    title = workdir.resolve().name
    if "stages" in config:
        return Run(title, workdir, "training", config, read_object(workdir / "results.json") or {})
    if "instruments" not in config:
        raise ValueError(f"{workdir} is no run: its config.json has neither stages nor instruments")
    results = read_object(workdir / "freezing.json")
    if results is None:
        raise ValueError(f"{workdir} has no freezing.json yet; run its annealing test until an instrument is done")
    return Run(title, workdir, "annealing", config, results)


def read_runs(workdir: str | pathlib.Path) -> list[Run]:
    """The runs of a workdir: itself, those of its seeds where it holds several, or the finished ones of a study.

    Raises ValueError in one line where there is none.
    """
    workdir = pathlib.Path(workdir)
    config = read_object(workdir / "config.json") if workdir.is_dir() else None
    if config is None or not ("runs" in config or config.get("num_seeds")):
        return [read_run(workdir)]
    found = sorted(workdir.glob("**/results.json" if "runs" in config else "seed_*/results.json"), key=_seed_last)
    if not found:
        raise ValueError(f"{workdir} holds no finished run yet")
    names = [path.parent.relative_to(workdir) for path in found]
    return [
        read_run(path.parent)._replace(title=str(name.parent if name.name == "run" else name))
        for path, name in zip(found, names, strict=True)
    ]


def _seed_last(path: pathlib.Path):
    """Sorts by names, and by the number of the seed among equal ones."""
    return [(part.rpartition("_")[0], int(number)) if (number := part.rpartition("_")[2]).isdigit() else (part, 0)
            for part in path.parts]  # fmt: skip
