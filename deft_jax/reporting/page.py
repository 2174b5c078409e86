"""The report: one HTML page of trainings, annealing tests and studies."""

import pathlib
from collections.abc import Sequence
from html import escape

from deft_jax.reporting.annealing_page import annealing_sections
from deft_jax.reporting.elements import contents, page, section
from deft_jax.reporting.runs import Run, read_runs
from deft_jax.reporting.scores import comparison, groups_of
from deft_jax.reporting.training_page import training_sections
from deft_jax.runtime.files import write_atomically
from deft_jax.runtime.jax_settings import pinned
from deft_jax.runtime.paths import local_path
from deft_jax.training.metrics_log import read_records


def titled(runs: Sequence[Run]) -> list[Run]:
    """The runs with their folders' names, or with the whole paths where two would share a name."""
    names = [run.title for run in runs]
    return [run._replace(title=str(run.workdir)) if names.count(run.title) > 1 else run for run in runs]


@pinned()
def report(workdirs: Sequence[str | pathlib.Path], out: str | pathlib.Path) -> pathlib.Path:
    """Writes the page of these workdirs and returns its path.

    Raises ValueError in one line where a folder holds no run, a training no checkpoint, or out is a file of another
    kind; nothing is written then.
    """
    out = local_path(out, "--out")
    if not all(map(str, workdirs)):
        raise ValueError("the name of a workdir is empty; give the workdir of a run")
    workdirs = [local_path(workdir, "DIR") for workdir in workdirs]
    if out.is_dir():
        raise ValueError(f"{out} is a folder; give the name of the page to write")
    if not _is_page(out):
        raise ValueError(f"{out} is there and is no HTML page; give another name for the page to write")
    try:
        told = [read_runs(workdir) for workdir in workdirs]
    except OSError as error:
        raise ValueError(f"cannot read {error.filename}: {error.strerror or error}") from None
    shown = titled([run for runs in told for run in _one_each(runs)])
    entries, parts = [], []
    for index, run in enumerate(shown):
        anchor = f"run-{index}"
        make = training_sections if run.kind == "training" else annealing_sections
        try:
            sections = make(anchor, run)
        except KeyError as error:
            raise ValueError(f"{run.workdir} lacks the entry {error}; was it made by another version?") from error
        body = "".join(section(f"{anchor}-{place}", *told) for place, told in enumerate(sections))
        kind = "training" if run.kind == "training" else "annealing test"
        parts.append(f'<article id="{anchor}"><h2>{escape(run.title)} <small>{kind}</small></h2>{body}</article>')
        entries.append((anchor, run.title, [heading for heading, _ in sections]))
    everything = titled([run for runs in told for run in runs])
    trainings = [run for run in everything if run.kind == "training"]
    if len(trainings) > 1:
        steps = [run.results.get("step") or _last_step(run) for run in trainings]
        parts.insert(0, f'<article id="scores"><h2>Scores</h2>{comparison(trainings, steps)}</article>')
        entries.insert(0, ("scores", "Scores", []))
    title = everything[0].title if len(everything) == 1 else f"{len(everything)} runs"
    try:
        write_atomically(out, page(f"DEFT: {title}", contents(entries), parts))
    except OSError as error:
        raise ValueError(f"cannot write {out}: {error.strerror or error}") from None
    return out


def _is_page(path: pathlib.Path) -> bool:
    """Whether a file may be replaced by a page: there is none, or it is empty or a page itself."""
    try:
        with path.open("rb") as file:
            head = file.read(100).lstrip().lower()
    except OSError:  # none there, or writing will say what is wrong
        return True
    return not head or head.startswith(b"<!doctype html")


def _one_each(runs: Sequence[Run]) -> list[Run]:
    """The first run of each configuration; runs that differ in the seed alone share one."""
    return [runs[group[0]] for group in groups_of([run.config for run in runs])]


def _last_step(run: Run) -> int | None:
    records = read_records(run.workdir / "metrics.jsonl")
    return records[-1]["step"] if records else None
