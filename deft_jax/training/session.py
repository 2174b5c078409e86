"""A training from its configuration to its results: train, log, evaluate, save checkpoints, resume."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax

from deft_jax import data
from deft_jax.evaluation import decoder as evaluation_decoder
from deft_jax.evaluation import encoder as evaluation_encoder
from deft_jax.runtime.files import to_jsonable
from deft_jax.runtime.jax_settings import pinned
from deft_jax.runtime.paths import local_path
from deft_jax.runtime.signals import Signals
from deft_jax.runtime.validation import ConfigErrors, collect_faults
from deft_jax.training import build, distributed, tracking
from deft_jax.training.config import TrainingConfig, parse_training
from deft_jax.training.experiment import Experiment
from deft_jax.training.loop import TrainingLoop
from deft_jax.training.run_writer import RunWriter
from deft_jax.training.runner import Runner, check_batch_size, check_shares
from deft_jax.training.summary import print_summary, write_seed_summary
from deft_jax.training.workdirs import exclusive_workdirs, working_copy


@pinned()
def run(
    config: Any,
    workdir: str | pathlib.Path,
    devices: Sequence[jax.Device] | None = None,
    *,
    remarks: bool = True,
    group: tracking.Group | None = None,
) -> dict[str, Any]:
    """Trains to the end of a configuration, from the last checkpoint in the workdir.

    The workdir, a folder or an address gs://... or s3://..., receives config.json, metrics.jsonl, tensorboard/,
    checkpoints/, figures/ and results.json. The same call resumes an interrupted run and reaches the same parameters.
    SIGTERM and SIGINT save the state at the end of the current dispatch and raise Interrupted.

    With config.num_seeds = n, n runs with consecutive seeds from config.seed train in one program, distributed over
    the devices if their number divides n. Each has a workdir seed_S inside `workdir` as if it were the only one, and
    equals that run to float tolerance; one that diverges does not stop the others. results.json then holds the scores
    of every seed, their mean and standard deviation.

    Args:
      config: a TrainingConfig, or what `parse_training` takes.
      workdir: where the run writes.
      devices: they share each batch. Default: None, all, including those of other processes (distributed.py).
      remarks: whether to print the remarks of the data set.
      group: in which a tracker shows the run. Default: None, of several seeds their workdir.

    Returns:
      What results.json holds; {} in processes other than process 0.

    Raises:
      ValueError: the configuration is invalid or not that of the workdir or of the other processes, another run writes
        there, or no checkpoint there is readable.
      FloatingPointError: the loss is no longer finite; the last finite checkpoint is kept.
      CannotWrite: the disk is full; when there is space again, the same call resumes.
      Interrupted: a signal was received, and the state saved.
    """
    config = _with_absolute_paths(parse_training(config))
    distributed.check_alike(_without_paths(config))
    with working_copy(workdir) as folder:
        return _run(config, folder, devices, remarks, group)


def _run(
    config: TrainingConfig,
    workdir: pathlib.Path,
    devices: Sequence[jax.Device] | None,
    remarks: bool,
    group: tracking.Group | None,
) -> dict[str, Any]:
    """`run` in a local folder."""
    experiment = _build(config, len(devices or jax.devices()) if config.num_seeds is None else 1)
    if config.num_seeds is None:
        distributed.connect()
        runner, runs = Runner(experiment, devices), {workdir: config}
        with exclusive_workdirs(runs, experiment.source):
            writers, results = _train(experiment, runner, config, runs, group, remarks=remarks)
            return print_summary(writers[0], results[0]) if writers and results[0] is not None else {}
    seeds = list(range(config.seed, config.seed + config.num_seeds))
    runs = single_seed_configs(config, {seed: workdir / f"seed_{seed}" for seed in seeds})
    runner = Runner(experiment, devices, replicas=len(seeds))
    with exclusive_workdirs({workdir: config} | runs, experiment.source):
        group = group or tracking.Group(workdir.absolute().name, workdir)
        writers, results = _train(experiment, runner, config, runs, group, remarks=remarks)
        return write_seed_summary(workdir, seeds, writers, results)


@pinned()
def run_together(
    config: Any,
    workdirs: Mapping[int, str | pathlib.Path],
    devices: Sequence[jax.Device] | None = None,
    *,
    group: tracking.Group | None = None,
) -> dict[int, dict[str, Any]]:
    """Trains runs of several seeds in one program, as `run` does with num_seeds, each in the workdir given for it.

    Args:
      config: of any of them; its seed and num_seeds are ignored.
      workdirs: seed -> workdir, a local folder.
      devices: Default: None, all.
      group: in which a tracker shows the runs.

    Returns:
      seed -> what its results.json holds, or {'diverged': reason}.

    Raises:
      ValueError, CannotWrite, Interrupted: as `run`.
    """
    config = _with_absolute_paths(parse_training(config))
    if not workdirs:
        raise ValueError("workdirs must have at least one seed")
    runs = single_seed_configs(config, workdirs)
    experiment = _build(next(iter(runs.values())), 1)
    runner = Runner(experiment, devices, replicas=len(runs))
    with exclusive_workdirs(runs, experiment.source):
        writers, results = _train(experiment, runner, config, runs, group, all_may_diverge=True)
    return {
        seed: result if result is not None else {"diverged": writer.diverged}
        for seed, writer, result in zip(workdirs, writers, results, strict=True)
    }


def single_seed_configs(
    config: TrainingConfig, workdirs: Mapping[int, str | pathlib.Path]
) -> dict[pathlib.Path, TrainingConfig]:
    """workdir -> the configuration of a run of its seed only."""
    return {local_path(workdir, "workdirs"): config.with_seed(seed) for seed, workdir in workdirs.items()}


def _with_absolute_paths(config: TrainingConfig) -> TrainingConfig:
    """The configuration with absolute paths: the run can then be resumed from any folder."""
    options = data.with_absolute_paths(config.data.name, config.data.options)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, options=options))


def _without_paths(config: TrainingConfig) -> dict[str, Any]:
    """The configuration as JSON knows it, without paths of data, which may differ from host to host."""
    values = to_jsonable(config.to_mapping())
    paths = data.path_options(config.data.name)
    return values | {"data": {name: value for name, value in values["data"].items() if name not in paths}}


def _build(config: TrainingConfig, num_devices: int) -> Experiment:
    """The experiment. Raises ConfigErrors with every fault that needs the data set or the devices.

    num_devices: that share a batch.
    """
    source = build.load_source(config)
    lines: list[str] = []
    experiment = None
    with collect_faults(lines):
        experiment = build.build(config, source)
    with collect_faults(lines):
        if experiment is None:
            check_batch_size(config.batch_size, num_devices)
        else:
            check_shares(experiment, num_devices)
    with collect_faults(lines):
        build.check_metrics(config, source)
    if lines or experiment is None:
        raise ConfigErrors(lines)
    return experiment


def _train(
    experiment: Experiment,
    runner: Runner,
    config: TrainingConfig,
    runs: Mapping[pathlib.Path, TrainingConfig],
    group: tracking.Group | None,
    all_may_diverge: bool = False,
    remarks: bool = True,
) -> tuple[list[RunWriter], list[dict[str, Any] | None]]:
    """Trains in workdirs that are locked; returns the writers and the results, None for a run that has diverged.

    all_may_diverge: whether to return normally if all runs diverge; otherwise FloatingPointError is raised.
    """
    encoder = evaluation_encoder.Encoder(experiment.source, experiment.encode)
    decoder = evaluation_decoder.Decoder(experiment.source, experiment.model)
    writers: list[RunWriter] = []
    with _closing(writers):
        for workdir, run_config in runs.items() if distributed.is_first_process() else ():
            same_seed = run_config.seed == experiment.seed
            of_run = experiment if same_seed else dataclasses.replace(experiment, seed=run_config.seed)
            writers.append(RunWriter(run_config, workdir, of_run, encoder, decoder, group))
        training = TrainingLoop(config, experiment, runner, writers)
        for remark in experiment.source.remarks if remarks else ():
            training.progress.write(f"data: {remark}")
        if remarks and (experiment.model.kind != "conv" or "padded" in experiment.model.summary):
            training.progress.write(f"model: {experiment.model.summary}")
        try:
            with Signals() as signals:
                training.train(signals)
        except FloatingPointError:
            if not all_may_diverge or any(writer.diverged is None for writer in writers):
                raise
            return writers, [None] * len(writers)
        results = training.finish()
        distributed.any_process(False)  # the others wait for process 0, which still evaluates and draws
    return writers, results


@contextlib.contextmanager
def _closing(writers: list[RunWriter]) -> Iterator[None]:
    """Closes all writers at the end; raises the first error."""
    first: BaseException | None = None
    try:
        yield
    except BaseException as error:
        first = error
    for writer in writers:
        try:
            writer.close()
        except Exception as error:
            first = first or error
    if first is not None:
        raise first
