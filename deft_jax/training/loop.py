"""The training loop: dispatches between two stops, and what happens at each."""

import io
import statistics
import time

import jax
import numpy as np

from deft_jax.runtime.progress import Progress
from deft_jax.runtime.signals import Signals
from deft_jax.training import distributed
from deft_jax.training.config import TrainingConfig
from deft_jax.training.experiment import Experiment
from deft_jax.training.run_writer import RunWriter, restore_common_step
from deft_jax.training.runner import Runner
from deft_jax.training.step import init_state

_SHOWN = ("beta", "loss", "reconstruction", "kl")


class TrainingLoop:
    """The runs of one program: what the loop needs beside their state."""

    def __init__(self, config: TrainingConfig, built: Experiment, runner: Runner, records: list[RunWriter]):
        self.config, self.built, self.runner, self.records = config, built, runner, records
        self.stages = built.stages
        self.periodic_metrics = config.periodic_metrics or {}
        states = self._resumed([init_state(record.built) for record in records] or [init_state(built)])
        # Only process 0 has checkpoints; the others get from it what it goes on with.
        states = [distributed.broadcast_from_first(state) for state in states]
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
                latest, states = restore_common_step(self.records, states)
                # A run that has diverged has no such checkpoint: what goes on in its place is not looked at.
                states = [
                    state if latest is None or record.diverged is None else state.replace(step=np.int32(latest))
                    for record, state in zip(self.records, states, strict=True)
                ]
        except ValueError as error:
            refused = error
        if distributed.any_process(refused is not None):
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
        intervals = [config.log_every, config.evaluation.every, config.checkpoints.every]
        intervals += [metric.every for metric in self.periodic_metrics.values()]
        return min([self.stages.next_rotation(self.step), *(self.step + n - self.step % n for n in intervals)])

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
            if self.stages.rotates_at(self.step) and self.built.model.sizes[stage] > 1:
                self.rotate(stage)
            stage_ends = self.step == self.stages.end(stage)
            if self.step % self.config.log_every == 0 or stage_ends:
                self.log_training(stage, metrics, window_steps / window_seconds)
                window_steps, window_seconds = 0, 0.0
            saves = self.step % self.config.checkpoints.every == 0 or stage_ends
            stops = distributed.any_process(signals.received is not None) and self.step < total
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
        return step % self.config.evaluation.every == 0 or step == self.stages.end(self.stages.at(step - 1))

    def catch_up(self) -> None:
        """Evaluates and scores at the step of the checkpoint what an interruption right after it has left out."""
        stage = self.stages.at(self.step - 1)
        for record, state in self.alive():
            if self.evaluates(self.step) and not record.count("eval", self.step):
                record.evaluate(self.step, stage, state, self.step == self.stages.end(stage))
            record.score(self.step, stage, state)

    def rotate(self, stage: int) -> None:
        """Turns the latents of the stage onto independent axes, and notes by how much."""
        self.device_state, degrees = self.runner.rotate(stage, self.device_state)
        for record, moved in zip(self.records, degrees, strict=False):  # a process that does not write has no records
            if record.diverged is None:
                record.log_rotation(self.step, stage, float(moved))

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
