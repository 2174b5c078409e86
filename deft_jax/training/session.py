"""A training from its configuration to its results: run(config, workdir): train, log, evaluate, checkpoint, resume."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from deft_jax import data
from deft_jax.data.description import check_unchanged, same_images
from deft_jax.data.source import Source
from deft_jax.evaluation import encoder as evaluation_encoder
from deft_jax.runtime.config_file import check_config, save_or_check_config
from deft_jax.runtime.files import read_object
from deft_jax.runtime.jax_settings import pinned
from deft_jax.runtime.locks import lock_workdir
from deft_jax.runtime.paths import local_path
from deft_jax.runtime.signals import Signals
from deft_jax.training import build, distributed
from deft_jax.training.config import RESUMABLE_CHANGES, DataConfig, TrainingConfig, parse_training
from deft_jax.training.experiment import Experiment
from deft_jax.training.loop import TrainingLoop
from deft_jax.training.run_writer import RunWriter
from deft_jax.training.runner import Runner
from deft_jax.training.summary import print_summary, write_seed_summary


@pinned()
def run(config, workdir: str | pathlib.Path, devices=None, *, remarks: bool = True) -> dict:
    """Trains to the end of the configuration, from where the workdir stands; returns what results.json holds.

    workdir receives config.json, metrics.jsonl, tensorboard/, checkpoints/, figures/ and results.json. Called again
    with the same configuration it goes on from the last checkpoint and reaches the same parameters. SIGTERM and
    SIGINT save at the end of the current dispatch and raise Interrupted.

    devices: to share each batch; all there are unless given, those of other processes too (distributed.py). Process 0
    alone writes, and returns something else than {}. remarks: whether those of the data set are printed.
    Raises ValueError where the configuration does not fit, is not that of the workdir, another run writes there, or no
    checkpoint there can be read; FloatingPointError where the loss is no longer finite, with the last good checkpoint
    kept; CannotWrite, an OSError, on a full disk: when there is space again, the same call goes on.

    config.periodic_metrics, if given, names metrics to compute on the way:
    {'dci': {'every': 10_000, 'model': 'linear'}}; the other fields are the metric's own. Their records in
    metrics.jsonl have the kind 'score'.

    config.num_seeds = n, if given, trains n runs in one program, with the seeds from config.seed on, spread over the
    devices where n divides. Each has a workdir of its own, seed_S, as if it had been trained alone, and equals that
    run to float tolerance; one that diverges stops alone. results.json then holds every seed's scores, their mean and
    deviation.
    """
    config = _parsed(config)
    workdir = local_path(workdir, "--workdir")
    built = _built(config)
    if config.num_seeds is None:
        runner, runs = Runner(built, devices), {workdir: config}
        with exclusive_workdirs(runs, built.source):
            records, results = _train(built, runner, config, runs, remarks=remarks)
            return print_summary(records[0], results[0]) if records else {}
    seeds = list(range(config.seed, config.seed + config.num_seeds))
    runs = single_seed_configs(config, {seed: workdir / f"seed_{seed}" for seed in seeds})
    runner = Runner(built, devices, replicas=len(seeds))
    with exclusive_workdirs({workdir: config} | runs, built.source):
        return write_seed_summary(workdir, seeds, *_train(built, runner, config, runs, remarks=remarks))


@pinned()
def run_together(config, workdirs: Mapping[int, str | pathlib.Path], devices=None) -> dict[int, dict]:
    """Trains the runs of several seeds in one program, as `run` does with num_seeds, each in a workdir of its own.

    config: of any of them; its seed and num_seeds are not looked at. workdirs: seed -> workdir.
    Returns seed -> what its results.json holds, or {'diverged': why}. Raises what `run` raises, but FloatingPointError.
    """
    config = _parsed(config)
    if not workdirs:
        raise ValueError("there must be one seed at least")
    runs = single_seed_configs(config, workdirs)
    built = _built(next(iter(runs.values())))
    runner = Runner(built, devices, replicas=len(runs))
    with exclusive_workdirs(runs, built.source):
        records, results = _train(built, runner, config, runs, all_may_diverge=True)
    return {
        seed: {"diverged": record.diverged} if record.diverged is not None else found
        for seed, record, found in zip(workdirs, records, results, strict=True)
    }


def moved_paths(workdir: pathlib.Path, config: DataConfig, source: Source) -> list[str]:
    """Fields 'data.OPTION' in which a configuration may differ from that of its workdir.

    Where the same images lie is no part of what a run is: all paths if the images are the same by their digest, else
    those that name the same file.
    """
    names = data.path_options(config.name)
    if not same_images(source, workdir):
        held = (read_object(workdir / "config.json") or {}).get("data")
        usable = isinstance(held, Mapping) and held.get("name") == config.name
        held = data.with_absolute_paths(config.name, held) if usable else {}
        names = tuple(name for name in names if name in held and held[name] == config.options.get(name))
    return [f"data.{name}" for name in names]


def _parsed(config: Any) -> TrainingConfig:
    """The configuration with absolute paths: the run can be gone on with from anywhere."""
    config = parse_training(config)
    options = data.with_absolute_paths(config.data.name, config.data.options)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, options=options))


def _built(config: TrainingConfig) -> Experiment:
    built = build.build(config)
    build.check_metrics(config, built.source)
    return built


def single_seed_configs(
    config: TrainingConfig, workdirs: Mapping[int, str | pathlib.Path]
) -> dict[pathlib.Path, TrainingConfig]:
    """workdir -> the configuration of that seed alone."""
    return {pathlib.Path(workdir): config.with_seed(seed) for seed, workdir in workdirs.items()}


def _train(
    built: Experiment, runner: Runner, config, runs: Mapping[pathlib.Path, dict], all_may_diverge=False, remarks=True
):
    """Trains in workdirs that are claimed: the records of the runs, and their results.

    all_may_diverge: whether that is no fault; each record says why, and all results are None.
    """
    encoder = evaluation_encoder.Encoder(built.source, built.encode)
    records: list[RunWriter] = []
    with _closing(records):
        for workdir, alone in runs.items() if distributed.is_first_process() else ():
            own = built if alone.seed == built.seed else dataclasses.replace(built, seed=alone.seed)
            records.append(RunWriter(alone, workdir, own, encoder))
        training = TrainingLoop(config, built, runner, records)
        for remark in built.source.remarks if remarks else ():
            training.progress.say(f"data: {remark}")
        try:
            with Signals() as signals:
                training.train(signals)
        except FloatingPointError:
            if not all_may_diverge or any(record.diverged is None for record in records):
                raise
            return records, [None] * len(records)
        results = training.finish()
        distributed.any_process(False)  # the others wait for what process 0 still scores and draws
    return records, results


@contextlib.contextmanager
def _closing(records: list[RunWriter]):
    """Closes all records at the end. Of all that fails, what failed first is raised."""
    failed = None
    try:
        yield
    except BaseException as error:
        failed = error
    for record in records:
        try:
            record.close()
        except Exception as error:
            failed = failed or error
    if failed is not None:
        raise failed


@contextlib.contextmanager
def exclusive_workdirs(runs: Mapping[pathlib.Path, TrainingConfig], source: Source):
    """Within it, process 0 alone writes to these workdirs, each of which holds the configuration of its run.

    All processes raise what process 0 does: ValueError for a workdir of another run, or of one that is under way, or
    that cannot be written to, CannotWrite for a full disk. Nothing has changed then.
    """
    refused, locks = None, []
    try:
        if distributed.is_first_process():
            free = {}
            for workdir, config in runs.items():
                check_unchanged(source, workdir)
                read_object(workdir / "results.json")  # refused now if it is damaged
                free[workdir] = (*RESUMABLE_CHANGES, *moved_paths(workdir, config.data, source))
                check_config(workdir, config.to_mapping(), free[workdir])
            for workdir in runs:
                locks.append(lock_workdir(workdir))
            for workdir, config in runs.items():
                save_or_check_config(workdir, config.to_mapping(), free[workdir])
    except (ValueError, OSError) as error:
        refused = error
    try:
        if distributed.any_process(refused is not None):
            raise refused or ValueError("process 0 has refused the workdir")
        yield
    finally:
        for held in reversed(locks):
            held.release()
