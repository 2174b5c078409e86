"""One process of a study: trains and scores the runs that are neither finished nor leased by another process."""

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from deft_jax.runtime.files import to_jsonable
from deft_jax.runtime.signals import Signals
from deft_jax.studies.config import StudyConfig
from deft_jax.studies.lease import Lease
from deft_jax.studies.run_record import RunRecord, is_finished
from deft_jax.training.config import TrainingConfig


def work(study: StudyConfig, workdir: pathlib.Path, report: Callable[[str], None]) -> None:
    """Does every run of a study that is not finished and that no other process has.

    Args:
      study: the study.
      workdir: its folder.
      report: called with one line per run that ends.

    Raises:
      Interrupted: after SIGTERM or SIGINT, when the runs under way have saved their state.
    """
    runs = study.expand_runs()

    def is_left(name: str) -> bool:
        return not is_finished(workdir / name, study.metrics)

    with Signals() as signals:
        for names in packs(study, runs):
            if signals.received is not None:
                raise signals.interrupted(0, 0)
            candidates = {name: Lease(workdir / name) for name in names if is_left(name)}
            leases = {name: lease for name, lease in candidates.items() if lease.take()}
            try:
                # Another process may have finished one a moment ago. Runs at different steps cannot share a program.
                steps = {name: _newest_checkpoint(workdir / name) for name in leases if is_left(name)}
                for step in dict.fromkeys(steps.values()):
                    together = {name: runs[name] for name in steps if steps[name] == step}
                    _train_and_score(study, together, workdir, report)
            finally:
                for lease in leases.values():
                    lease.release()


def packs(study: StudyConfig, runs: Mapping[str, TrainingConfig]) -> list[list[str]]:
    """Names of the runs that share a program: consecutive seeds of one run, at most `study.pack` of them."""
    size = study.pack
    if size is None:
        import jax

        size = 1 if jax.default_backend() == "cpu" else len(runs)
    grouped: list[list[str]] = []
    previous: tuple[str, int] | None = None
    for path, run in runs.items():
        name = path.rpartition("/")[0]
        if previous == (name, run.seed - 1) and len(grouped[-1]) < size:
            grouped[-1].append(path)
        else:
            grouped.append([path])
        previous = (name, run.seed)
    return grouped


def _newest_checkpoint(directory: pathlib.Path) -> int:
    """The step of a run's newest checkpoint, -1 without any."""
    names = (path.name for path in (directory / "run" / "checkpoints").glob("*"))
    return max((int(name) for name in names if name.isdigit()), default=-1)


def _train_and_score(
    study: StudyConfig, runs: Mapping[str, TrainingConfig], workdir: pathlib.Path, report: Callable[[str], None]
) -> None:
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
            report(f"{name}: diverged: {summary.diverged}")
            continue
        begin = time.perf_counter()
        with _logged(workdir / name):
            scores = _scores(study, workdir / name / "run")
        summary.scoring_seconds += time.perf_counter() - begin
        summary.step, summary.scores = results[name]["step"], scores
        summary.write(workdir / name)
        headlines = [next(iter(numbers.items())) for numbers in scores.values() if numbers]
        text = "  ".join(f"{score} {value:.3f}" for score, value in headlines)
        report(f"{name}: {text}  {summary.training_seconds:.0f} s")


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
            return {name: session.run(run, workdir / name / "run")}
        except FloatingPointError as error:
            return {name: {"diverged": str(error)}}
    by_seed = {run.seed: name for name, run in runs.items()}
    workdirs = {seed: workdir / name / "run" for seed, name in by_seed.items()}
    results = session.run_together(next(iter(runs.values())), workdirs)
    return {by_seed[seed]: result for seed, result in results.items()}


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
