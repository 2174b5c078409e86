"""Runs every training of a study that is not finished, on the workers of a Dask cluster."""

import contextlib
import dataclasses
import json
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

from deft_jax.runtime import buckets, parallel
from deft_jax.runtime.config_file import save_or_check_config
from deft_jax.runtime.files import read_object, write_atomically
from deft_jax.runtime.locks import lock_workdir
from deft_jax.runtime.paths import is_address
from deft_jax.runtime.progress import Progress
from deft_jax.runtime.signals import Interrupted, Signals
from deft_jax.runtime.validation import ConfigErrors, collect_faults
from deft_jax.studies import tables
from deft_jax.studies.config import StudyConfig, parse_study
from deft_jax.studies.run_record import RunRecord, is_finished
from deft_jax.training import tracking
from deft_jax.training.config import TrainingConfig


def run(
    config: Any,
    workdir: str | pathlib.Path,
    jobs: int | None = None,
    *,
    scheduler: str | None = None,
    resources: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Runs a study to its end.

    The workdir receives config.json, the study at its scale, and study.json and table.md, the summary and its tables,
    with the runs and seeds of earlier calls. Each training has a folder NAME/seed_S: `run`, its workdir; run.json, its
    scores; log.txt, what it printed. Runs, seeds and metrics of later calls are added to those there.

    Args:
      config: a ConfigDict, a mapping of the same fields, or a StudyConfig.
      workdir: of the study, a folder that all workers see under the same path; without a scheduler also an address
        gs://... or s3://...
      jobs: runs at a time on this machine, each with its share of the cores. Default: one per core, or one on an
        accelerator.
      scheduler: of a Dask cluster that does the runs, tcp://HOST:PORT or the path of its scheduler file. Default:
        None, a cluster of processes on this machine.
      resources: that each run needs of its worker, such as {'GPU': 1}: see `dask worker --resources`. Default: None.

    Returns:
      The summary of the runs of this call, as of `tables.summarise`.

    Raises:
      ConfigErrors: the study or one of its runs does not fit; one line per fault, before anything is trained.
      ValueError: the workdir holds another study, another command runs it, or a worker does not see it.
      Interrupted: after SIGTERM or SIGINT, when every run under way has saved its state.
      ChildProcessError: some runs have failed three times; the others are finished, and the tables written.
      OSError: there is no scheduler, or it has gone.
    """
    if scheduler is not None and jobs is not None:
        raise ValueError("--jobs is for this machine; start as many workers for --scheduler as there are to be")
    if scheduler is None and resources:
        raise ValueError("--resources is for the workers of a --scheduler")
    if scheduler is not None and is_address(workdir):
        raise ValueError("--workdir must be a folder that all workers of --scheduler see, not an address in a bucket: "
                         "its local copy is on this machine only")  # fmt: skip
    if scheduler is not None:
        from deft_jax.studies import cluster  # Dask takes time to load

        cluster.check_scheduler(scheduler)
    study = parse_study(config)
    _check_data(study)
    with buckets.working_copy(workdir, "--workdir") as folder:
        for name in {run.tracking for run in study.runs.values()}:
            tracking.check(name, [folder.absolute()])
        return _run(study.with_absolute_paths(), folder.absolute(), jobs, scheduler, resources)


def _run(
    study: StudyConfig,
    workdir: pathlib.Path,
    jobs: int | None,
    scheduler: str | None,
    resources: Mapping[str, float] | None,
) -> dict[str, Any]:
    """`run` in a local folder."""
    with lock_workdir(workdir):
        earlier = read_object(workdir / "study.json") or {}
        _save_or_check_study(workdir, study)
        failed = _run_all(study, workdir, jobs, scheduler, resources)
        summary = tables.summarise(study, workdir)
        everything = tables.merged(earlier, summary)
        write_atomically(workdir / "study.json", json.dumps(everything, indent=2) + "\n")
        write_atomically(workdir / "table.md", tables.markdown_tables(everything) + "\n")
    print(f"\n{tables.markdown_tables(summary)}")
    if failed:
        print(*("", *(f"{name}: {reason}" for name, reason in failed.items())), sep="\n", flush=True)
        raise ChildProcessError(f"{len(failed)} runs have failed three times; the same command tries them again")
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
    trackers = [f"runs.{name}.tracking" for name in mapping["runs"]]
    free = ["only", "pack", "seeds", "scales", *new_runs, *trackers, *(["metrics"] if scored_alike else [])]
    save_or_check_config(workdir, mapping, free)


def _section(saved: Mapping[str, Any], name: str) -> dict[str, Any]:
    return saved[name] if isinstance(saved.get(name), dict) else {}


def _run_all(
    study: StudyConfig,
    workdir: pathlib.Path,
    jobs: int | None,
    scheduler: str | None,
    resources: Mapping[str, float] | None,
) -> dict[str, str]:
    """Does the runs that are left; name -> reason of those that were given up."""
    runs = study.expand_runs()
    left = {name: run for name, run in runs.items() if not is_finished(workdir / name, study.metrics)}
    num_finished, failed = len(runs) - len(left), dict[str, str]()
    print(f"{len(runs)} runs, {num_finished} finished", flush=True)
    if not left:
        return failed
    from deft_jax.studies import cluster

    size = study.pack or (len(left) if _has_accelerator(scheduler, resources) else 1)
    groups = packs(left, size)
    progress = Progress(len(runs), num_finished, sys.stdout, unit="run")

    def report(name: str, reason: str | None) -> None:
        nonlocal num_finished
        if reason is not None:
            failed[name] = reason
            progress.write(f"{name} has failed {cluster.ATTEMPTS} times: {reason}")
            return
        num_finished += 1
        record = RunRecord.read(workdir / name)
        progress.update(num_finished, [f"{name}: {record.headline() if record is not None else ''}"])

    # What a process of a run needs: the scale and the changes in `set` are already applied to the runs.
    mapping = dataclasses.replace(study, scale=None, scales={}, set=None).to_mapping()
    order = (mapping, str(workdir))
    if scheduler is None:
        jobs = min(jobs or parallel.default_jobs(), len(groups))
        connection, shares = cluster.local_client(jobs), cluster.share_cores(jobs)
    else:
        connection, shares = cluster.joined_client(scheduler, str(workdir), resources), None
    with connection as client, Signals() as signals, contextlib.closing(progress):
        cluster.run_packs(client, order, groups, signals, report, shares=shares, resources=resources)
        if signals.received is not None:
            raise Interrupted(f"stopped with {num_finished} of {len(runs)} runs finished; the same command goes on")
    return failed


def _has_accelerator(scheduler: str | None, resources: Mapping[str, float] | None) -> bool:
    """Whether runs are done on accelerators; workers of a cluster have one if the runs request a resource."""
    if scheduler is not None:
        return bool(resources)
    import jax

    return jax.default_backend() != "cpu"


def packs(runs: Mapping[str, TrainingConfig], size: int) -> list[list[str]]:
    """Names of the runs that share a program: consecutive seeds of one run, at most `size` of them."""
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
