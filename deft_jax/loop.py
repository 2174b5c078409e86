"""run(config, workdir): train, log, evaluate, checkpoint, resume.

The loop only decides where the next stop is: a log line, an evaluation, a checkpoint or the end of a stage. All
arithmetic happens between two stops, in one dispatch of a compiled program (steps.py).
"""

import contextlib
import dataclasses
import inspect
import io
import json
import pathlib
import statistics
import time
from collections.abc import Mapping

import jax
import numpy as np

from deft_jax import data, evaluation, experiment, metrics, options, processes
from deft_jax.description import SourceDescription, check_unchanged, same_images
from deft_jax.interruption import Signals
from deft_jax.jax_settings import pinned
from deft_jax.logs import Progress, check_claim, claim, plain, read_object, write_atomically
from deft_jax.paths import local_path
from deft_jax.record import Record, resume
from deft_jax.source import Source
from deft_jax.steps import Experiment, Runner, init_state
from deft_jax.workdir import lock

# What a resumed run may set anew: it changes what is written down, not what is learned.
_FREE = ("log_every", "checkpoints", "evaluation", "evals")
_FIELDS = ("seed", "batch_size", "total_steps", "data", "model", "objective", "stages", "optimizer",
           "log_every", "checkpoints", "evaluation")  # fmt: skip
_OPTIONAL = ("evals", "num_seeds")
_SHOWN = ("beta", "loss", "reconstruction", "kl")
_COUNTS = ("log_every", "evaluation.every", "evaluation.num_samples", "checkpoints.every", "checkpoints.keep")


@pinned()
def build(config, source: Source | SourceDescription | None = None) -> Experiment:
    """The checked experiment of a configuration (a ConfigDict or a mapping of the same fields).

    source: the data set, or what a run has kept of it, in place of the one that the configuration describes.
    """
    config = config.to_dict() if hasattr(config, "to_dict") else config
    options.check_section("the configuration", config)
    missing = [field for field in _FIELDS if field not in config]
    if missing:
        raise ValueError(f"the configuration lacks {', '.join(missing)}; it needs {', '.join(_FIELDS)}")
    _check_counts(config)
    return experiment.build(
        seed=config["seed"],
        data_options=config["data"],
        model_options=config["model"],
        objective_options=config["objective"],
        stage_options=config["stages"],
        optimizer_options=config["optimizer"],
        batch_size=config["batch_size"],
        total_steps=config["total_steps"],
        source=source,
    )


def check_fields(config) -> None:
    """Raises ValueError in one line where a configuration has a field that nothing reads."""
    unknown = sorted(set(config) - {*_FIELDS, *_OPTIONAL})
    if unknown:
        listed = ", ".join(map(options.shown, unknown))
        raise ValueError(f"the configuration has no field {listed}; known: {', '.join(_FIELDS + _OPTIONAL)}")


@pinned()
def run(config, workdir: str | pathlib.Path, devices=None, *, remarks: bool = True) -> dict:
    """Trains to the end of the configuration, from where the workdir stands; returns what results.json holds.

    workdir receives config.json, metrics.jsonl, tensorboard/, checkpoints/, figures/ and results.json. Called again
    with the same configuration it goes on from the last checkpoint and reaches the same parameters. SIGTERM and
    SIGINT save at the end of the current dispatch and raise Interrupted.

    devices: to share each batch; all there are unless given, those of other processes too (processes.py). Process 0
    alone writes, and returns something else than {}. remarks: whether those of the data set are printed.
    Raises ValueError where the configuration does not fit, is not that of the workdir, another run writes there, or no
    checkpoint there can be read; FloatingPointError where the loss is no longer finite, with the last good checkpoint
    kept; CannotWrite, an OSError, on a full disk: when there is space again, the same call goes on.

    config.evals, if given, names metrics to compute on the way: {'dci': {'every': 10_000, 'model': 'linear'}}; the
    other fields are the metric's own. Their records in metrics.jsonl have the kind 'score'.

    config.num_seeds = n, if given, trains n runs in one program, with the seeds from config.seed on, spread over the
    devices where n divides. Each has a workdir of its own, seed_S, as if it had been trained alone, and equals that
    run to float tolerance; one that diverges stops alone. results.json then holds every seed's scores, their mean and
    deviation.
    """
    config = _plain_config(config)
    workdir = local_path(workdir, "--workdir")
    built = _checked(config)
    seeds = _seeds(config)
    if seeds is None:
        runner, runs = Runner(built, devices), {workdir: config}
        with _claimed(runs, built.source):
            records, results = _train(built, runner, config, runs, remarks=remarks)
            return _tell_one(records[0], results[0]) if records else {}
    runs = _alone(config, {seed: workdir / f"seed_{seed}" for seed in seeds})
    runner = Runner(built, devices, replicas=len(seeds))
    with _claimed({workdir: config} | runs, built.source):
        return _tell_several(workdir, seeds, *_train(built, runner, config, runs, remarks=remarks))


def _checked(config: Mapping) -> Experiment:
    """The experiment of a configuration of which everything has been looked at."""
    check_fields(config)
    built = build(config)
    _check_counts(config)
    _check_evals(config.get("evals") or {}, built.source, config["evaluation"]["num_samples"])
    return built


@pinned()
def run_together(config, workdirs: Mapping[int, str | pathlib.Path], devices=None) -> dict[int, dict]:
    """Trains the runs of several seeds in one program, as `run` does with num_seeds, each in a workdir of its own.

    config: of any of them; its seed and num_seeds are not looked at. workdirs: seed -> workdir.
    Returns seed -> what its results.json holds, or {'diverged': why}. Raises what `run` raises, but FloatingPointError.
    """
    config = _plain_config(config)
    if not workdirs:
        raise ValueError("there must be one seed at least")
    runs = _alone(config, workdirs)
    built = _checked(next(iter(runs.values())))
    for seed in workdirs:
        options.check_count("seed", seed, least=0)
    runner = Runner(built, devices, replicas=len(runs))
    with _claimed(runs, built.source):
        records, results = _train(built, runner, config, runs, all_may_diverge=True)
    return {
        seed: {"diverged": record.diverged} if record.diverged is not None else found
        for seed, record, found in zip(workdirs, records, results, strict=True)
    }


def moved_paths(workdir: pathlib.Path, config: Mapping, source: Source) -> list[str]:
    """Fields 'data.OPTION' in which a configuration may differ from that of its workdir.

    Where the same images lie is no part of what a run is: all paths if the images are the same by their digest, else
    those that name the same file (runs of earlier versions kept relative paths).
    """
    names = data.path_options(config["data"]["name"])
    if not same_images(source, workdir):
        held = (read_object(workdir / "config.json") or {}).get("data")
        usable = isinstance(held, Mapping) and held.get("name") == config["data"]["name"]
        held = data.with_absolute_paths(held) if usable else {}
        names = [name for name in names if name in held and held[name] == config["data"].get(name)]
    return [f"data.{name}" for name in names]


def _plain_config(config) -> dict:
    """A configuration as config.json holds it, with absolute paths: the run can be gone on with from anywhere."""
    config = plain(config.to_dict() if hasattr(config, "to_dict") else config)
    section = config.get("data") if isinstance(config, Mapping) else None
    if isinstance(section, Mapping) and isinstance(section.get("name"), str):
        config = config | {"data": data.with_absolute_paths(section)}
    return config


def _alone(config: Mapping, workdirs: Mapping[int, str | pathlib.Path]) -> dict[pathlib.Path, dict]:
    """workdir -> the configuration of that seed alone."""
    shared = {name: value for name, value in config.items() if name != "num_seeds"}
    return {pathlib.Path(workdir): shared | {"seed": seed} for seed, workdir in workdirs.items()}


def _train(
    built: Experiment, runner: Runner, config, runs: Mapping[pathlib.Path, dict], all_may_diverge=False, remarks=True
):
    """Trains in workdirs that are claimed: the records of the runs, and their results.

    all_may_diverge: whether that is no fault; each record says why, and all results are None.
    """
    encoder = evaluation.Encoder(built)
    records: list[Record] = []
    with _closing(records):
        for workdir, alone in runs.items() if processes.is_first() else ():
            own = built if alone["seed"] == built.seed else dataclasses.replace(built, seed=alone["seed"])
            records.append(Record(alone, workdir, own, encoder))
        training = _Training(config, built, runner, records)
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
        processes.any_of(False)  # the others wait for what process 0 still scores and draws
    return records, results


@contextlib.contextmanager
def _closing(records: list[Record]):
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
def _claimed(runs: dict, source: Source):
    """Within it, process 0 alone writes to these workdirs, each of which holds the configuration of its run.

    All processes raise what process 0 does: ValueError for a workdir of another run, or of one that is under way, or
    that cannot be written to, CannotWrite for a full disk. Nothing has changed then.
    """
    refused, locks = None, []
    try:
        if processes.is_first():
            free = {}
            for workdir, config in runs.items():
                check_unchanged(source, workdir)
                read_object(workdir / "results.json")  # refused now if it is damaged
                free[workdir] = (*_FREE, *moved_paths(workdir, config, source))
                check_claim(workdir, config, free[workdir])
            for workdir in runs:
                locks.append(lock(workdir))
            for workdir, config in runs.items():
                claim(workdir, config, free[workdir])
    except (ValueError, OSError) as error:
        refused = error
    try:
        if processes.any_of(refused is not None):
            raise refused or ValueError("process 0 has refused the workdir")
        yield
    finally:
        for held in reversed(locks):
            held.release()


def _seeds(config) -> list[int] | None:
    """The seeds of a run of several; None of an ordinary one."""
    count = config.get("num_seeds")
    if count is None:
        return None
    options.check_count("num_seeds", count)
    return list(range(config["seed"], config["seed"] + count))


def _tell_one(record: Record, results: dict) -> dict:
    """Prints what a run has reached."""
    if results["freezing_order"]:
        print("\nNormalised MI of the best latent with each factor at the end of each stage, in order of entering:")
        print(record.freezing_table(results["freezing_order"]))
    print(f"\n{record.reached()} after {results['step']} steps; figures: {record.workdir / 'figures'}")
    return results


def _tell_several(workdir: pathlib.Path, seeds, records, results) -> dict:
    """Writes and prints what the runs of several seeds have reached."""
    migs = {seed: found["mig"] for seed, found in zip(seeds, results, strict=True) if found and "mig" in found}
    told = {"seeds": seeds, "diverged": [s for s, r in zip(seeds, records, strict=True) if r.diverged is not None]}
    if migs:
        values = list(migs.values())
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        told["mig"] = {"mean": statistics.mean(values), "deviation": deviation, "seeds": migs}
        each = " ".join(f"{value:.3f}" for value in values)
        print(f"\nMIG {told['mig']['mean']:.3f} ± {deviation:.3f} over {len(values)} seeds: {each}")
    told["runs"] = [record.workdir.name for record in records]
    held = read_object(workdir / "results.json") or {}
    write_atomically(workdir / "results.json", json.dumps(held | plain(told), indent=2) + "\n")
    print(f"workdirs: {workdir / records[0].workdir.name} to {records[-1].workdir.name}")
    return told


def _check_counts(config) -> None:
    for name in _COUNTS:
        section, _, field = name.rpartition(".")
        values = config[section] if section else config
        options.check_section(section, values)
        if field not in values:
            raise ValueError(f"{section} lacks the field {field!r}")
        options.check_count(name, values[field])
    options.check_count("evaluation.num_samples", config["evaluation"]["num_samples"], least=2)
    if "seed" not in config["evaluation"]:
        raise ValueError("evaluation lacks the field 'seed'")
    options.check_count("evaluation.seed", config["evaluation"]["seed"], least=0)


def _check_evals(evals, source, num_samples: int = 10_000) -> None:
    options.check_section("evals", evals)
    for name, section in evals.items():
        options.check_section(f"evals.{name}", section)
        if metrics.kind(name, "metric in evals") == "runs":
            raise ValueError(f"evals.{name} compares several runs: score them with deft_jax.evaluate")
        evaluation.check_metric(name, source)
        draws = metrics.kind(name) == "sampler" and name in metrics.REGISTRY
        if draws and sum(size > 1 for size in source.factor_sizes) < 2:
            raise ValueError(f"evals.{name} needs two factors with more than one value, got sizes "
                             f"{tuple(source.factor_sizes)} of {', '.join(source.factor_names)}")
        if "every" not in section:
            raise ValueError(f"evals.{name} lacks the field 'every', steps between two evaluations")
        options.check_count(f"evals.{name}.every", section["every"])
        chosen = {key: value for key, value in section.items() if key != "every"}
        options.check(metrics.get(name), chosen, f"evals.{name}", metrics.GIVEN)
        _try_metric(name, chosen, len(source.ground_truth_names), num_samples)
        for field in _OF_SAMPLES if metrics.kind(name) == "samples" else ():
            if (chosen.get(field) or 0) >= source.num_images:
                limit = f"below the number of images, {source.num_images}"
                raise ValueError(f"evals.{name}.{field} must be {limit}, got {chosen[field]}")


_FEW = 100  # samples, or training points, of a trial
_OF_SAMPLES = ("num_train", "num_neighbors")  # what must be below the number of samples
_OF_SAMPLERS = ("num_train", "num_eval", "num_variance", "batch_size", "chunk")  # what takes long if there are many


def _try_metric(name: str, chosen: dict, num_factors: int, num_samples: int) -> None:
    """Raises ValueError for values that the metric refuses, before anything is trained.

    It is called on a few made-up codes that know their factors, with what counts samples cut down to them; a fault that
    it also finds with its own defaults is one of the trial.
    """
    takes = metrics.kind(name)
    for field in _OF_SAMPLES if takes == "samples" else ():
        if (chosen.get(field) or 0) >= num_samples:
            told = f"must be below evaluation.num_samples = {num_samples}, got {chosen[field]}"
            raise ValueError(f"evals.{name}.{field} {told}")
    if not chosen:
        return
    parameters = inspect.signature(metrics.get(name)).parameters
    rng = np.random.default_rng(0)
    samples = min(_FEW, num_samples)
    sizes = (3,) * max(2, num_factors)
    factors_NxF = rng.integers(0, 3, (samples, num_factors or 2))
    codes = factors_NxF + 0.1 * rng.standard_normal(factors_NxF.shape)

    def fault(given: dict) -> str | None:
        few = dict(given)
        if takes == "sampler":
            few = {field: _FEW // 2 for field in _OF_SAMPLERS if field in parameters} | few
        for field in _OF_SAMPLERS if takes == "sampler" else _OF_SAMPLES:
            if isinstance(few.get(field), int):
                few[field] = min(few[field], (_FEW if takes == "sampler" else samples) // 2)
        try:
            if takes == "sampler":
                metrics.get(name)(lambda factors: np.asarray(factors, np.float32), sizes, **few)
            else:
                logvar = {"logvar": np.zeros_like(codes)} if takes == "posteriors" else {}
                metrics.compute(name, codes, factors_NxF, **logvar, **few)
        except ValueError as error:
            return " ".join(str(error).split())
        return None

    told = fault(chosen)
    if told is None or fault({}) is not None:
        return
    guilty = [field for field, value in chosen.items() if fault({field: value}) is not None]
    raise ValueError(f"evals.{name}{'.' + guilty[0] if len(guilty) == 1 else ''}: {told}")


class _Training:
    """The runs of one program: what the loop needs beside their state."""

    def __init__(self, config, built: Experiment, runner: Runner, records: list[Record]):
        self.config, self.built, self.runner, self.records = config, built, runner, records
        self.stages = built.stages
        self.evals = dict(config.get("evals") or {})
        states = self._resumed([init_state(record.built) for record in records] or [init_state(built)])
        # Only process 0 has checkpoints; the others get from it what it goes on with.
        states = [processes.from_first(state) for state in states]
        self.step = int(states[0].step)
        for record in records:
            record.open(self.step)
        self.progress = Progress(self.stages.total_steps, self.step, stream=None if records else io.StringIO())
        self.device_state = runner.put(states if runner.replicas else states[0])

    def _resumed(self, states) -> list:
        """The states that the runs go on with; all processes raise ValueError where process 0 cannot read its own."""
        refused = None
        try:
            if self.records:
                latest, states = resume(self.records, states)
                # A run that has diverged has no such checkpoint: what goes on in its place is not looked at.
                states = [
                    state if latest is None or record.diverged is None else state.replace(step=np.int32(latest))
                    for record, state in zip(self.records, states, strict=True)
                ]
        except ValueError as error:
            refused = error
        if processes.any_of(refused is not None):
            raise refused or ValueError("process 0 cannot read its checkpoints")
        return states

    def alive(self):
        """(record, its state) of the runs that have not diverged; none in a process that does not write."""
        if not self.records:
            return []
        states = self.runner.split(self.device_state)
        return [pair for pair in zip(self.records, states, strict=True) if pair[0].diverged is None]

    def next_stop(self, stage: int) -> int:
        """The next step at which something is written, or the stage ends."""
        config = self.config
        intervals = [config["log_every"], config["evaluation"]["every"], config["checkpoints"]["every"]]
        intervals += [section["every"] for section in self.evals.values()]
        return min([self.stages.next_turn(self.step), *(self.step + n - self.step % n for n in intervals)])

    def train(self, signals: Signals) -> None:
        """Runs to the last step; raises Interrupted after a signal."""
        try:
            self._train(signals)
        finally:
            self.progress.close()

    def _train(self, signals: Signals) -> None:
        say = self.progress.say
        total = self.stages.total_steps
        groups = len(self.built.model.sizes)
        if len(self.stages) < groups:
            never = groups - len(self.stages)
            say(f"{groups} encoder groups but {len(self.stages)} stages: the last {never} never open")
        if self.step:
            say(f"resuming at step {self.step} of {total}")
            self.catch_up()
        window_steps, window_seconds, opened = 0, 0.0, None
        while self.step < total:
            stage = self.stages.at(self.step)
            if stage != opened:
                self.open_stage(stage)
                opened = stage
            steps = self.next_stop(stage) - self.step
            begin = time.perf_counter()
            self.device_state, found = self.runner.run(stage, self.device_state, steps)
            metrics = [jax.tree.map(np.asarray, one) for one in self.runner.split_metrics(found)]
            window_seconds += time.perf_counter() - begin
            window_steps += steps
            self.step += steps
            for record in self.records:
                record.checkpoints.check()  # what is written in the background
            self.check(stage, steps, metrics)
            if self.stages.turns(self.step) and self.built.model.sizes[stage] > 1:
                self.turn(stage)
            stage_ends = self.step == self.stages.end(stage)
            if self.step % self.config["log_every"] == 0 or stage_ends:
                self.log_training(stage, metrics, window_steps / window_seconds)
                window_steps, window_seconds = 0, 0.0
            saves = self.step % self.config["checkpoints"]["every"] == 0 or stage_ends
            stops = processes.any_of(signals.received is not None) and self.step < total
            alive = self.alive()
            # Before anything else is done with the models: whatever comes of that, the runs go on from here.
            for record, state in alive if saves or stops else ():
                record.save(state)
            for record, state in alive:
                if self.evaluates(self.step):
                    record.evaluate(self.step, stage, state, stage_ends)
                record.score(self.step, stage, state)
            if stops:
                raise signals.interrupted(self.step, total)

    def evaluates(self, step: int) -> bool:
        """Whether the model is evaluated after so many updates."""
        return step % self.config["evaluation"]["every"] == 0 or step == self.stages.end(self.stages.at(step - 1))

    def catch_up(self) -> None:
        """Evaluates and scores at the step of the checkpoint what an interruption right after it has left out."""
        stage = self.stages.at(self.step - 1)
        for record, state in self.alive():
            if self.evaluates(self.step) and not record.count("eval", self.step):
                record.evaluate(self.step, stage, state, self.step == self.stages.end(stage))
            record.score(self.step, stage, state)

    def turn(self, stage: int) -> None:
        """Turns the latents of the stage onto independent axes, and notes by how much."""
        self.device_state, degrees = self.runner.turn(stage, self.device_state)
        for record, turned in zip(self.records, degrees, strict=False):  # a process that does not write has no records
            if record.diverged is None:
                record.turn(self.step, stage, float(turned))

    def check(self, stage: int, steps: int, metrics) -> None:
        """Notes the beta of each run, and which of them are no longer finite; raises FloatingPointError if all are."""
        finite = self.runner.finite(self.device_state)
        if not self.records:
            if not (finite.all() and np.isfinite(metrics[0]["loss"])):
                raise FloatingPointError(f"loss or parameters are not finite at step {self.step}, see process 0")
            return
        for record, found, whole in zip(self.records, metrics, finite, strict=True):
            if record.diverged is not None:
                continue
            record.beta = float(found["beta"])
            if not (np.isfinite(found["loss"]) and whole):
                latest = record.checkpoints.latest
                kept = f"the last good checkpoint is that of step {latest}"
                kept = "there is no checkpoint" if latest is None else kept
                told = (
                    f"loss or parameters are not finite (loss {found['loss']}) between steps {self.step - steps} "
                    f"and {self.step}, in stage {stage}; {kept}"
                )
                if self.runner.replicas is None:
                    raise FloatingPointError(told)
                record.diverge(told)
                self.progress.say(f"{record.workdir.name}: {told}")
        if all(record.diverged is not None for record in self.records):
            raise FloatingPointError(f"all {len(self.records)} seeds have diverged; {self.records[0].diverged}")

    def open_stage(self, stage: int) -> None:
        """Notes the stage in the state and compiles its program."""
        self.device_state = self.runner.at_stage(self.device_state, stage)
        begin = time.perf_counter()
        self.runner.compile(stage, self.device_state)
        seconds = time.perf_counter() - begin
        self.progress.say(
            f"stage {stage} of {len(self.stages)}: beta {float(self.stages.beta(self.step)):g}, "
            f"steps {self.step} to {self.stages.end(stage)}, compiled in {seconds:.1f} s"
        )

    def log_training(self, stage: int, metrics, steps_per_second: float) -> None:
        """One training record a run, and a line on the terminal: of the mean over runs where there are several."""
        rates = {
            "steps_per_second": steps_per_second,
            "images_per_second": steps_per_second * self.built.batch_size * len(self.records),
        }
        if not self.records:
            return
        shown = []
        for record, found in zip(self.records, metrics, strict=True):
            if record.diverged is None:
                record.train(self.step, stage, found, rates)
                shown.append(found)
        means = {name: float(np.mean([found[name] for found in shown])) for name in _SHOWN}
        texts = [
            f"beta {means['beta']:.3g}",
            f"loss {means['loss']:.1f}",
            f"reconstruction {means['reconstruction']:.1f}",
            f"KL {means['kl']:.2f}",
        ]
        migs = [record.last_scores["mig"] for record in self.records if "mig" in record.last_scores]
        if migs:
            spread = f" ({min(migs):.3f} to {max(migs):.3f})" if len(migs) > 1 else ""
            texts.append(f"MIG {statistics.mean(migs):.3f}{spread}")
        texts.append(f"{steps_per_second:.1f} steps/s")
        self.progress.update(self.step, texts)

    def finish(self) -> list[dict | None]:
        """Final scores, figures and results.json of every run; None of one that has diverged."""
        found: dict[int, dict] = {}
        for record, state in self.alive():
            found[id(record)] = record.finish(self.step, state, self.runner.devices)
        return [found.get(id(record)) for record in self.records]
