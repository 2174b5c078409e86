"""run(config, workdir): train, log, evaluate, checkpoint, resume.

The loop only decides where the next stop is: a log line, an evaluation, a checkpoint or the end of a stage. All
arithmetic happens between two stops, in one dispatch of a compiled program (steps.py).
"""

import dataclasses
import io
import json
import pathlib
import statistics
import time

import jax
import numpy as np

from deft_jax import evaluation, experiment, metrics, options, processes
from deft_jax.interruption import Signals
from deft_jax.logs import Progress, claim, plain, write_atomically
from deft_jax.record import Record, latest_common
from deft_jax.steps import Experiment, Runner, init_state

# What a resumed run may set anew: it changes what is written down, not what is learned.
_FREE = ("log_every", "checkpoints", "evaluation", "evals")
_FIELDS = ("seed", "batch_size", "total_steps", "data", "model", "objective", "stages", "optimizer",
           "log_every", "checkpoints", "evaluation")  # fmt: skip
_SHOWN = ("beta", "loss", "reconstruction", "kl")
_COUNTS = ("log_every", "evaluation.every", "evaluation.num_samples", "checkpoints.every", "checkpoints.keep")


def build(config) -> Experiment:
    """The checked experiment of a configuration (a ConfigDict or a mapping of the same fields)."""
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
    )


def run(config, workdir: str | pathlib.Path, devices=None) -> dict:
    """Trains to the end of the configuration, from where the workdir stands; returns what results.json holds.

    workdir receives config.json, metrics.jsonl, tensorboard/, checkpoints/, figures/ and results.json. Called again
    with the same configuration it goes on from the last checkpoint and reaches the same parameters. SIGTERM and
    SIGINT save at the end of the current dispatch and raise Interrupted.

    devices: to share each batch; all there are unless given, those of other processes too (processes.py). Process 0
    alone writes, and returns something else than {}.
    Raises ValueError where the configuration does not fit, or is not that of the workdir; FloatingPointError where
    the loss is no longer finite, with the last good checkpoint kept.

    config.evals, if given, names metrics to compute on the way: {'dci': {'every': 10_000, 'model': 'linear'}}; the
    other fields are the metric's own. Their records in metrics.jsonl have the kind 'score'.

    config.num_seeds = n, if given, trains n runs in one program, with the seeds from config.seed on, spread over the
    devices where n divides. Each has a workdir of its own, seed_S, as if it had been trained alone, and equals that
    run to float tolerance; one that diverges stops alone. results.json then holds every seed's scores, their mean and
    deviation.
    """
    config = plain(config.to_dict() if hasattr(config, "to_dict") else config)
    built = build(config)
    _check_counts(config)
    _check_evals(config.get("evals") or {}, built.source)
    seeds = _seeds(config)
    runner = Runner(built, devices, replicas=None if seeds is None else len(seeds))
    workdir = pathlib.Path(workdir)
    _claim(workdir, config)
    encoder = evaluation.Encoder(built)
    records = []
    try:
        if seeds is None and processes.is_first():
            records.append(Record(config, workdir, built, encoder))
        for seed in seeds or ():
            alone = {name: value for name, value in config.items() if name != "num_seeds"} | {"seed": seed}
            claim(workdir / f"seed_{seed}", alone, _FREE)
            again = dataclasses.replace(built, seed=seed)
            records.append(Record(alone, workdir / f"seed_{seed}", again, encoder))
        training = _Training(config, built, runner, records)
        with Signals() as signals:
            training.train(signals)
        results = training.finish()
        processes.any_of(False)  # the others wait for what process 0 still scores and draws
    finally:
        for record in records:
            record.close()
    if not records:
        return {}
    if seeds is None:
        return _tell_one(records[0], results[0])
    return _tell_several(workdir, seeds, records, results)


def _claim(workdir: pathlib.Path, config) -> None:
    """`claim` by process 0; all processes raise ValueError where it is refused."""
    refused = None
    try:
        if processes.is_first():
            claim(workdir, config, _FREE)
    except (ValueError, OSError) as error:
        refused = error
    if processes.any_of(refused is not None):
        raise refused or ValueError("process 0 has refused the workdir")


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
    write_atomically(workdir / "results.json", json.dumps(plain(told), indent=2) + "\n")
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
    if "seed" not in config["evaluation"]:
        raise ValueError("evaluation lacks the field 'seed'")
    options.check_count("evaluation.seed", config["evaluation"]["seed"], least=0)


def _check_evals(evals, source) -> None:
    options.check_section("evals", evals)
    for name, section in evals.items():
        options.check_section(f"evals.{name}", section)
        if options.choose(metrics.REGISTRY, name, "metric in evals") == "runs":
            raise ValueError(f"evals.{name} compares several runs: score them with deft_jax.evaluate")
        evaluation.check_metric(name, source)
        if "every" not in section:
            raise ValueError(f"evals.{name} lacks the field 'every', steps between two evaluations")
        options.check_count(f"evals.{name}.every", section["every"])
        chosen = {key: value for key, value in section.items() if key != "every"}
        options.check(metrics.get(name), chosen, f"evals.{name}", ("encode", "factor_sizes", "codes", "factors"))


class _Training:
    """The runs of one program: what the loop needs beside their state."""

    def __init__(self, config, built: Experiment, runner: Runner, records: list[Record]):
        self.config, self.built, self.runner, self.records = config, built, runner, records
        self.stages = built.stages
        self.evals = dict(config.get("evals") or {})
        latest = latest_common(records)
        states = [init_state(record.built) for record in records] or [init_state(built)]
        if latest is not None:
            # A run that has diverged has no such checkpoint: what goes on in its place is not looked at.
            states = [
                record.checkpoints.restore(state, latest)
                if record.diverged is None
                else state.replace(step=np.int32(latest))
                for record, state in zip(records, states, strict=True)
            ]
        # Only process 0 has checkpoints; the others get from it what it goes on with.
        states = [processes.from_first(state) for state in states]
        self.step = int(states[0].step)
        for record in records:
            record.open(self.step)
        self.progress = Progress(self.stages.total_steps, self.step, stream=None if records else io.StringIO())
        self.device_state = runner.put(states if runner.replicas else states[0])

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
        return min([self.stages.end(stage), *(self.step + n - self.step % n for n in intervals)])

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
            self.check(stage, steps, metrics)
            stage_ends = self.step == self.stages.end(stage)
            if self.step % self.config["log_every"] == 0 or stage_ends:
                self.log_training(stage, metrics, window_steps / window_seconds)
                window_steps, window_seconds = 0, 0.0
            evaluates = self.step % self.config["evaluation"]["every"] == 0 or stage_ends
            saves = self.step % self.config["checkpoints"]["every"] == 0 or stage_ends
            stops = processes.any_of(signals.received is not None) and self.step < total
            for record, state in self.alive():
                if evaluates:
                    record.evaluate(self.step, stage, state, stage_ends)
                record.score(self.step, stage, state)
                if saves or stops:
                    record.checkpoints.save(state)
            if stops:
                raise signals.interrupted(self.step, total)

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
                told = (
                    f"loss or parameters are not finite (loss {found['loss']}) between steps {self.step - steps} "
                    f"and {self.step}, in stage {stage}; the last good checkpoint is that of step "
                    f"{record.checkpoints.latest}"
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
