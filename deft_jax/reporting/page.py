"""The report: which runs of the given workdirs are shown, and the file that is written.

The sections of a run are listed in training_sections.py and annealing_sections.py.
"""

import contextlib
import pathlib
from collections.abc import Sequence

from deft_jax.reporting.annealing_sections import annealing_sections
from deft_jax.reporting.rendering import Article, Page, render
from deft_jax.reporting.runs import Run, distinct_titles, read_runs
from deft_jax.reporting.score_comparison import compare_scores, group_by_configuration
from deft_jax.reporting.training_sections import training_sections
from deft_jax.runtime import pretrained
from deft_jax.runtime.files import write_atomically
from deft_jax.runtime.jax_settings import pinned
from deft_jax.runtime.paths import local_path
from deft_jax.training.metrics_log import read_records


@pinned()
def report(
    workdirs: Sequence[str | pathlib.Path], out: str | pathlib.Path, *, live: bool = True
) -> pathlib.Path:
    """Writes one HTML page of these workdirs.

    Of runs that differ in the seed only, the first is shown; the scores of all trainings are compared.

    Args:
      workdirs: of trainings, annealing tests, studies, or several seeds; folders, addresses gs://... or s3://...,
        or names of models that come with the package.
      out: the page to write; an older page is replaced.
      live: whether decoders go into the page, which then decodes in the browser.

    Returns:
      The path of the page.

    Raises:
      ValueError: a folder holds no run, a training has no checkpoint, or out is a file of another kind; nothing is
        written then.
    """
    out = _check_output(out)
    if not all(map(str, workdirs)):
        raise ValueError("the name of a workdir is empty; give the workdir of a run")
    with contextlib.ExitStack() as copies:
        folders = [copies.enter_context(pretrained.reading_copy(workdir, "DIR")) for workdir in workdirs]
        _write(folders, out, live)
    return out


def _write(folders: Sequence[pathlib.Path], out: pathlib.Path, live: bool) -> None:
    """`report` of local folders."""
    try:
        runs_of_folder = [read_runs(folder) for folder in folders]
    except OSError as error:
        raise ValueError(f"cannot read {error.filename}: {error.strerror or error}") from None
    runs = distinct_titles([run for runs in runs_of_folder for run in runs])
    shown = distinct_titles([run for runs in runs_of_folder for run in _first_of_each_configuration(runs)])
    articles = [_article(f"run-{index}", run, live) for index, run in enumerate(shown)]
    trainings = [run for run in runs if run.kind == "training"]
    comparison = compare_scores(trainings, [_last_step(run) for run in trainings]) if len(trainings) > 1 else None
    title = runs[0].title if len(runs) == 1 else f"{len(runs)} runs"
    try:
        write_atomically(out, render(Page(f"DEFT: {title}", comparison, articles)), several_writers=True)
    except OSError as error:
        raise ValueError(f"cannot write {out}: {error.strerror or error}") from None


def _article(anchor: str, run: Run, live: bool) -> Article:
    """The sections of a run."""
    try:
        if run.kind == "training":
            return Article(anchor, run.title, "training", training_sections(run, live))
        return Article(anchor, run.title, "annealing test", annealing_sections(run))
    except KeyError as error:
        raise ValueError(f"{run.workdir} lacks the entry {error}; was it written by another version?") from error


def _check_output(out: str | pathlib.Path) -> pathlib.Path:
    """The path of the page. Raises ValueError where it is a folder, or a file that is not a page."""
    path = local_path(out, "--out")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the name of the page to write")
    try:
        with path.open("rb") as file:
            head = file.read(100).lstrip().lower()
    except OSError:  # there is no file, or writing will raise the error
        return path
    if head and not head.startswith(b"<!doctype html"):
        raise ValueError(f"{path} is there and is no HTML page; give another name for the page to write")
    return path


def _first_of_each_configuration(runs: Sequence[Run]) -> list[Run]:
    return [runs[group[0]] for group in group_by_configuration([run.config for run in runs])]


def _last_step(run: Run) -> int | None:
    """The step that a training has reached."""
    if run.results.get("step"):
        return run.results["step"]
    records = read_records(run.workdir / "metrics.jsonl")
    return records[-1]["step"] if records else None
