"""Trains and scores runs of a study in this process."""

import contextlib
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deft_jax.runtime.files import to_jsonable
from deft_jax.runtime.locks import lock_workdir
from deft_jax.runtime.signals import Signals
from deft_jax.studies.config import StudyConfig
from deft_jax.studies.run_record import RunRecord, is_finished
from deft_jax.training.config import TrainingConfig

_WAIT = 600.0  # seconds that a process whose worker has died may take to save its state and to end


def work(study: StudyConfig, workdir: pathlib.Path, names: Sequence[str], signals: Signals) -> None:
    """Does those of some runs that are not finished, each from its newest checkpoint.

    Args:
      study: the study.
      workdir: its folder.
      names: 'NAME/seed_S' of the runs. Those at the same step share a program.
      signals: what this process has received.

    Raises:
      Interrupted: a signal was received, and the state saved.
    """
    runs = study.expand_runs()
    with contextlib.ExitStack() as locks:
        for name in names:
            locks.enter_context(lock_workdir(workdir / name, _WAIT))
        left = [name for name in names if not is_finished(workdir / name, study.metrics)]
        steps = {name: _newest_checkpoint(workdir / name) for name in left}
        for step in dict.fromkeys(steps.values()):  # runs at different steps cannot share a program
            if signals.received is not None:
                raise signals.interrupted(0, 0)
            _train_and_score(study, {name: runs[name] for name in left if steps[name] == step}, workdir)


def _newest_checkpoint(directory: pathlib.Path) -> int:
    """The step of a run's newest checkpoint, -1 without any."""
    names = (path.name for path in (directory / "run" / "checkpoints").glob("*"))
    return max((int(name) for name in names if name.isdigit()), default=-1)


def _train_and_score(study: StudyConfig, runs: Mapping[str, TrainingConfig], workdir: pathlib.Path) -> None:
    """Trains runs in one program and scores each; what they print goes to their log.txt."""
    import jax

    summaries = {name: RunRecord.read(workdir / name) or RunRecord() for name in runs}
    first, *others = runs
    for name in others:
        with (workdir / name / "log.txt").open("a") as log:
            print(f"trained in one program with {first}: see the log there", file=log)
    with _logged(workdir / first):
        begin = time.perf_counter()
        try:
            results = _train(runs, workdir)
        finally:
            for name, summary in summaries.items():
                summary.training_seconds += (time.perf_counter() - begin) / len(runs)
                summary.write(workdir / name)
    jax.clear_caches()  # the scoring, and the next run, have other programs
    for name, summary in summaries.items():
        if "diverged" in results[name]:
            summary.diverged = results[name]["diverged"]
            summary.write(workdir / name)
            continue
        begin = time.perf_counter()
        with _logged(workdir / name):
            scores = _scores(study, workdir / name / "run")
            _track_scores(runs[name], workdir, name, results[name]["step"], scores)
        summary.scoring_seconds += time.perf_counter() - begin
        summary.step, summary.scores = results[name]["step"], scores
        summary.write(workdir / name)


@contextlib.contextmanager
def _logged(directory: pathlib.Path) -> Iterator[None]:
    """Within it, what is printed goes to the run's log."""
    with (directory / "log.txt").open("a") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        yield


def _train(runs: Mapping[str, TrainingConfig], workdir: pathlib.Path) -> dict[str, dict[str, Any]]:
    """The results of each run, {'diverged': why} of one that diverged; several are trained together."""
    from deft_jax.training import session

    if len(runs) == 1:
        ((name, run),) = runs.items()
        try:
            return {name: session.run(run, workdir / name / "run", group=_group(workdir))}
        except FloatingPointError as error:
            return {name: {"diverged": str(error)}}
    by_seed = {run.seed: name for name, run in runs.items()}
    workdirs = {seed: workdir / name / "run" for seed, name in by_seed.items()}
    results = session.run_together(next(iter(runs.values())), workdirs, group=_group(workdir))
    return {by_seed[seed]: result for seed, result in results.items()}


def _group(workdir: pathlib.Path) -> Any:
    """The runs of a study, as a tracker shows them."""
    from deft_jax.training import tracking

    return tracking.Group(workdir.name, workdir)


def _track_scores(run: TrainingConfig, workdir: pathlib.Path, name: str, step: int, scores: Mapping[str, Any]) -> None:
    """Adds the scores to the tracked run."""
    from deft_jax.training import tracking

    if scores:
        tracking.log_scores(
            run.tracking, workdir / name / "run", run.to_mapping(), _group(workdir), step, {"scores": scores}
        )


def _scores(study: StudyConfig, directory: pathlib.Path) -> dict[str, dict[str, float]]:
    """Metric -> its single numbers; {} of one that could not be computed, for which results.json has the reason."""
    from deft_jax.studies import scoring

    if not study.metrics:
        return {}
    result = scoring.evaluate(directory, study.metrics, num_samples=study.num_samples, variants=("mean",))
    scores = result["scores"]["mean"]
    return to_jsonable({name: single_numbers(scores.get(name, {})) for name in study.metrics})


def single_numbers(scores: Mapping[str, Any]) -> dict[str, float]:
    """The single numbers of a metric's dict without counts, and the means over factors of NMI1 and NMI2."""
    import numpy as np

    from deft_jax.evaluation.scores import headlines

    means = {name: float(np.mean(scores[name])) for name in ("nmi1", "nmi2") if np.ndim(scores.get(name, 0)) == 1}
    return headlines({"": scores}) | means
