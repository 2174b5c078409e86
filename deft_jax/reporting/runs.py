"""Workdirs as their small files describe them: configuration and results, without checkpoints."""

import pathlib
from typing import Any, Literal, NamedTuple

from deft_jax.runtime import pretrained
from deft_jax.runtime.files import read_object


class Run(NamedTuple):
    """A workdir of one run.

    Attributes:
      title: name of its folder.
      workdir: the folder.
      kind: 'training' or 'annealing'.
      config: of config.json.
      results: of results.json or freezing.json; {} for a training that is not finished.
    """

    title: str
    workdir: pathlib.Path
    kind: Literal["training", "annealing"]
    config: dict[str, Any]
    results: dict[str, Any]


def read_run(workdir: str | pathlib.Path) -> Run:
    """The run of a workdir; its checkpoint is not read.

    Raises:
      ValueError: the folder is no run, or an annealing test without results.
    """
    workdir = pathlib.Path(workdir)
    if not workdir.is_dir():
        fault, names = ("no folder", "") if workdir.exists() else ("not there", pretrained.or_names())
        raise ValueError(f"{workdir} is {fault}; give the workdir of a run{names}")
    config = read_object(workdir / "config.json")
    if config is None:
        fault = "holds no run: it has no config.json" if any(workdir.iterdir()) else "is empty"
        raise ValueError(f"{workdir} {fault}; give the --workdir of a training or of an annealing test")
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
    """The runs of a workdir: itself, those of its seeds where it has several, or the finished ones of a study.

    Raises:
      ValueError: there is none.
    """
    workdir = pathlib.Path(workdir)
    config = read_object(workdir / "config.json") if workdir.is_dir() else None
    if config is None or not ("runs" in config or config.get("num_seeds")):
        return [read_run(workdir)]
    pattern = "**/results.json" if "runs" in config else "seed_*/results.json"
    folders = [path.parent for path in sorted(workdir.glob(pattern), key=_sort_key)]
    if not folders:
        raise ValueError(f"{workdir} holds no finished run yet")
    names = [folder.relative_to(workdir) for folder in folders]
    return [
        read_run(folder)._replace(title=str(name.parent if name.name == "run" else name))
        for folder, name in zip(folders, names, strict=True)
    ]


def distinct_titles(runs: list[Run]) -> list[Run]:
    """The runs, with the whole path as title where two would share one."""
    titles = [run.title for run in runs]
    return [run._replace(title=str(run.workdir)) if titles.count(run.title) > 1 else run for run in runs]


def _sort_key(path: pathlib.Path) -> list[tuple[str, int]]:
    """Sorts by names, and by the number at the end among equal ones: seed_2 before seed_10."""
    return [_split_number(part) for part in path.parts]


def _split_number(part: str) -> tuple[str, int]:
    name, _, number = part.rpartition("_")
    return (name, int(number)) if number.isdigit() else (part, 0)
