"""Runs every training of a study that is not finished, in processes of this machine."""

import json
import pathlib
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing.queues import Queue
from queue import Empty
from typing import Any

from deft_jax.runtime import cli, parallel
from deft_jax.runtime.config_file import save_or_check_config
from deft_jax.runtime.files import read_object, write_atomically
from deft_jax.runtime.paths import local_path
from deft_jax.runtime.signals import Interrupted, Signals
from deft_jax.runtime.validation import ConfigErrors, collect_faults
from deft_jax.studies import tables
from deft_jax.studies.config import StudyConfig, parse_study
from deft_jax.studies.run_record import is_finished
from deft_jax.studies.worker import work


def run(config: Any, workdir: str | pathlib.Path, jobs: int | None = None) -> dict[str, Any]:
    """Runs a study to its end.

    The workdir receives config.json, the study at its scale, and study.json and table.md, the summary and its tables,
    with the runs and seeds of earlier calls. Each training has a folder NAME/seed_S: `run`, its workdir; run.json, its
    scores; log.txt, what it printed. Runs, seeds and metrics of later calls are added to those there.

    Args:
      config: a ConfigDict, a mapping of the same fields, or a StudyConfig.
      workdir: of the study; several machines may share it.
      jobs: processes on this machine, each with its share of the cores. Default: one per core, or one on an
        accelerator.

    Returns:
      The summary of the runs of this call, as of `tables.summarise`.

    Raises:
      ConfigErrors: the study or one of its runs does not fit; one line per fault, before anything is trained.
      ValueError: the workdir holds another study.
      Interrupted: after SIGTERM or SIGINT, when every run under way has saved its state.
      ChildProcessError: a process of the study failed.
    """
    study = parse_study(config)
    _check_data(study)
    study = study.with_absolute_paths()
    workdir = local_path(workdir, "--workdir")
    earlier = read_object(workdir / "study.json") or {}
    _save_or_check_study(workdir, study)

    left = _unfinished(study, workdir)
    total = len(study.expand_runs())
    print(f"{total} runs, {total - len(left)} finished", flush=True)
    if left:
        _run_processes(study, workdir, min(jobs or parallel.default_jobs(), len(left)), total)
    summary = tables.summarise(study, workdir)
    everything = tables.merged(earlier, summary)
    write_atomically(workdir / "study.json", json.dumps(everything, indent=2) + "\n")
    write_atomically(workdir / "table.md", tables.markdown_tables(everything) + "\n")
    print(f"\n{tables.markdown_tables(summary)}")
    return summary


def _check_data(study: StudyConfig) -> None:
    """Raises ConfigErrors where a run does not fit its data set, or a metric cannot be computed on it."""
    from deft_jax.evaluation.sample import LabelledSample
    from deft_jax.training import build

    lines: list[str] = []
    for name, run_config in study.runs.items():
        with collect_faults(lines, f"runs.{name}"):
            source = build.load_source(run_config)
            with collect_faults(lines, f"runs.{name}"):
                build.build(run_config, source)
            with collect_faults(lines, f"runs.{name}"):
                build.check_metrics(run_config, source)
            sample = LabelledSample(source, study.num_samples, seed=0)  # the seed of scoring.evaluate
            for metric, options in study.metrics.items():
                with collect_faults(lines, f"runs.{name}: metrics.{metric}"):
                    sample.check(metric, options)
    if lines:
        raise ConfigErrors(lines)


def _save_or_check_study(workdir: pathlib.Path, study: StudyConfig) -> None:
    """Adds the study to config.json, or raises ValueError where that is of a study with other numbers."""
    saved = read_object(workdir / "config.json") or {}
    mapping, runs, metrics = study.to_mapping(), _section(saved, "runs"), _section(saved, "metrics")
    new_runs = [f"runs.{name}" for name in mapping["runs"] if name not in runs]
    scored_alike = all(metrics.get(name, options) == options for name, options in mapping["metrics"].items())
    mapping["runs"] = runs | mapping["runs"]
    free = ["only", "pack", "seeds", "scales", *new_runs, *(["metrics"] if scored_alike else [])]
    save_or_check_config(workdir, mapping, free)


def _section(saved: Mapping[str, Any], name: str) -> dict[str, Any]:
    return saved[name] if isinstance(saved.get(name), dict) else {}


def _unfinished(study: StudyConfig, workdir: pathlib.Path) -> list[str]:
    return [name for name in study.expand_runs() if not is_finished(workdir / name, study.metrics)]


def _run_processes(study: StudyConfig, workdir: pathlib.Path, jobs: int, total: int) -> None:
    """Does the study in `jobs` processes, and prints one line per run that ends."""
    queue: Queue[str | _Ended] = parallel.SPAWN.Queue()
    processes = [
        parallel.SPAWN.Process(target=_process, args=(study, workdir, share, queue))
        for share in parallel.share_cores(jobs)
    ]
    failures, num_open, is_stopping = [], jobs, False
    with Signals() as signals:
        for process in processes:
            process.start()
        while num_open:
            if signals.received is not None and not is_stopping:
                is_stopping = True
                for process in processes:
                    process.terminate()  # SIGTERM, at which each saves its run
            try:
                message = queue.get(timeout=1.0)
            except Empty:
                if not any(process.is_alive() for process in processes) and queue.empty():
                    break
                continue
            if isinstance(message, str):
                print(f"[{total - len(_unfinished(study, workdir))}/{total}] {message}", flush=True)
                continue
            num_open -= 1
            if message.failure is not None:
                failures.append(message.failure)
        for process in processes:
            process.join()
        if signals.received is not None:
            finished = total - len(_unfinished(study, workdir))
            raise Interrupted(f"stopped with {finished} of {total} runs finished; the same command goes on")
    statuses = [process.exitcode for process in processes if process.exitcode]
    if failures or statuses:
        raise ChildProcessError(failures[0] if failures else f"a process of the study ended with status {statuses[0]}")


class _Ended:
    """The last message of a process of the study."""

    def __init__(self, failure: str | None = None):
        self.failure = failure


def _process(study: StudyConfig, workdir: pathlib.Path, cores: Sequence[int], queue: "Queue[str | _Ended]") -> None:
    """One of several processes: puts its lines, and at last _Ended, into the queue."""
    parallel.use_cores(cores)
    try:
        cli.keep_programs()
        work(study, workdir, queue.put)
        queue.put(_Ended())
    except Interrupted:
        queue.put(_Ended())
    except Exception as error:
        if not isinstance(error, ValueError | OSError):
            traceback.print_exc()
        queue.put(_Ended(" ".join(str(error).split()) or type(error).__name__))
