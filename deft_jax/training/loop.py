"""The training loop: dispatches of several steps, and what is written between them."""

import io
import statistics
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from deft_jax.runtime.progress import Progress
from deft_jax.runtime.signals import Signals
from deft_jax.training import distributed
from deft_jax.training.config import TrainingConfig
from deft_jax.training.experiment import Experiment
from deft_jax.training.resume import restore_common_step
from deft_jax.training.run_writer import RunWriter
from deft_jax.training.runner import Runner
from deft_jax.training.state import TrainState
from deft_jax.training.step import Metrics, init_state

_PRINTED = ("beta", "loss", "reconstruction", "kl")


class LogWindow:
    """The metrics of the dispatches since the last record."""

    def __init__(self) -> None:
        """Starts without a dispatch."""
        self._dispatches: list[tuple[int, list[Metrics]]] = []
        self._seconds = 0.0

    def add(self, metrics: list[Metrics], steps: int, seconds: float) -> None:
        """Adds a dispatch: its metrics per run, averaged over its steps."""
        self._dispatches.append((steps, metrics))
        self._seconds += seconds

    @property
    def steps_per_second(self) -> float:
        """Updates per second."""
        return sum(steps for steps, _ in self._dispatches) / self._seconds

    def means(self) -> list[Metrics]:
        """The metrics of each run averaged over all steps; beta is that of the last step."""
        weights, per_dispatch = zip(*self._dispatches, strict=True)
        if len(weights) == 1:
            return per_dispatch[0]
        averaged = []
        for of_run in zip(*per_dispatch, strict=True):
            means = jax.tree.map(lambda *values: np.average(values, axis=0, weights=weights), *of_run)
            averaged.append(means | {"beta": of_run[-1]["beta"]})
        return averaged


class TrainingLoop:
    """Trains the runs of one program, one run or several seeds, from the last common checkpoint.

    Attributes:
      step: updates done so far.
      device_state: the state of all runs, on the devices.
      progress: what is printed while training.
    """

    def __init__(
        self, config: TrainingConfig, experiment: Experiment, runner: Runner, writers: Sequence[RunWriter]
    ):
        """Restores the states and opens the writers.

        Args:
          config: of the program; of several seeds, any of theirs.
          experiment: of the same.
          runner: of the experiment.
          writers: one per run; empty in processes other than process 0, which write nothing.

        Raises:
          ValueError: there are checkpoints, but none is readable; all processes raise it.
        """
        self.config, self.experiment, self.runner, self.writers = config, experiment, runner, list(writers)
        self.stages = experiment.stages
        self.periodic_metrics = config.periodic_metrics or {}
        experiments = [writer.experiment for writer in writers] or [experiment]
        states = self._restore([init_state(each) for each in experiments])
        # Only process 0 reads checkpoints.
        states = [distributed.broadcast_from_first(state) for state in states]
        self.step = int(states[0].step)
        for writer in writers:
            writer.open(self.step)
        self.progress = Progress(self.stages.total_steps, self.step, stream=None if writers else io.StringIO())
        self.device_state = runner.put(states if runner.replicas else states[0])

    def _restore(self, states: list[TrainState]) -> list[TrainState]:
        """The states to continue from: those of the last common checkpoint, or the given ones."""
        refused = None
        try:
            if self.writers:
                latest, states = restore_common_step(self.writers, states)
                # A diverged run has no such checkpoint; its replica trains on, and the result is ignored.
                states = [
                    state if latest is None or writer.diverged is None else state.replace(step=np.int32(latest))
                    for writer, state in zip(self.writers, states, strict=True)
                ]
        except ValueError as error:
            refused = error
        if distributed.any_process(refused is not None):
            raise refused or ValueError("process 0 cannot read its checkpoints")
        return states

    def active_runs(self) -> list[tuple[RunWriter, TrainState]]:
        """(writer, state) of the runs that have not diverged; [] in a process that does not write."""
        if not self.writers:
            return []
        states = self.runner.split(self.device_state)
        runs = zip(self.writers, states, strict=True)
        return [(writer, state) for writer, state in runs if writer.diverged is None]

    def next_stop(self) -> int:
        """The next step at which something is written, latents are rotated or the stage ends."""
        config = self.config
        intervals = [config.log_every, config.evaluation.every, config.checkpoints.every]
        intervals += [metric.every for metric in self.periodic_metrics.values()]
        return min([self.stages.next_rotation(self.step), *(self.step + n - self.step % n for n in intervals)])

    def train(self, signals: Signals) -> None:
        """Trains to the last step.

        Raises:
          Interrupted: a signal was received, and the state saved.
          FloatingPointError: no run is finite any more.
          CannotWrite: a file could not be written.
        """
        try:
            self._train(signals)
        finally:
            self.progress.close()

    def _train(self, signals: Signals) -> None:
        total, groups = self.stages.total_steps, len(self.experiment.model.sizes)
        if len(self.stages) < groups:
            closed = groups - len(self.stages)
            self.progress.write(f"{groups} encoder groups but {len(self.stages)} stages: the last {closed} never open")
        if self.step:
            self.progress.write(f"resuming at step {self.step} of {total}")
            self._write_missing_evaluations()
        opened, window = None, LogWindow()
        while self.step < total:
            stage = self.stages.at(self.step)
            if stage != opened:
                self._open_stage(stage)
                opened = stage
            steps = self.next_stop() - self.step
            metrics, seconds = self._dispatch(stage, steps)
            window.add(metrics, steps, seconds)
            stage_ends = self.step == self.stages.end(stage)
            if self.step % self.config.log_every == 0 or stage_ends:
                self._log(stage, window.means(), window.steps_per_second)
                window = LogWindow()
            stops = distributed.any_process(signals.received is not None) and self.step < total
            runs = self.active_runs()
            # Checkpoints come first: if an evaluation fails, the runs can be resumed after it.
            if self.step % self.config.checkpoints.every == 0 or stage_ends or stops:
                for writer, state in runs:
                    writer.save(state)
            for writer, state in runs:
                if self._evaluates(self.step):
                    writer.evaluate(self.step, stage, state, stage_ends)
                writer.score(self.step, stage, state)
                writer.publish(self.step)
            if stops:
                raise signals.interrupted(self.step, total)

    def _dispatch(self, stage: int, steps: int) -> tuple[list[Metrics], float]:
        """Trains `steps` steps, checks the numbers and rotates latents; returns metrics per run, and seconds."""
        begin = time.perf_counter()
        self.device_state, on_device = self.runner.run(stage, self.device_state, steps)
        metrics = [jax.tree.map(np.asarray, of_run) for of_run in self.runner.split_metrics(on_device)]
        seconds = time.perf_counter() - begin
        self.step += steps
        for writer in self.writers:
            writer.checkpoints.check()  # whether the write in the background has failed
        self._check_finite(stage, steps, metrics)
        if self.stages.rotates_at(self.step) and self.experiment.model.sizes[stage] > 1:
            self._rotate(stage)
        return metrics, seconds

    def _evaluates(self, step: int) -> bool:
        """Whether models are evaluated after so many updates."""
        return step % self.config.evaluation.every == 0 or step == self.stages.end(self.stages.at(step - 1))

    def _write_missing_evaluations(self) -> None:
        """Evaluates and scores the restored models if the interruption came between checkpoint and evaluation."""
        stage = self.stages.at(self.step - 1)
        for writer, state in self.active_runs():
            if self._evaluates(self.step) and not writer.count("eval", self.step):
                writer.evaluate(self.step, stage, state, self.step == self.stages.end(stage))
            writer.score(self.step, stage, state)
            writer.publish(self.step)

    def _rotate(self, stage: int) -> None:
        """Rotates the latents of the stage onto independent axes, and writes by how many degrees."""
        self.device_state, degrees = self.runner.rotate(stage, self.device_state)
        for writer, angle in zip(self.writers, degrees, strict=False):  # there may be no writers
            if writer.diverged is None:
                writer.log_rotation(self.step, stage, float(angle))

    def _check_finite(self, stage: int, steps: int, metrics: Sequence[Metrics]) -> None:
        """Records the beta of each run and which runs have diverged; raises FloatingPointError if all have."""
        finite = self.runner.finite(self.device_state)
        if not self.writers:
            if not (finite.all() and np.isfinite(metrics[0]["loss"])):
                raise FloatingPointError(f"loss or parameters are not finite at step {self.step}, see process 0")
            return
        for writer, of_run, parameters_finite in zip(self.writers, metrics, finite, strict=True):
            if writer.diverged is not None:
                continue
            writer.beta = float(of_run["beta"])
            if np.isfinite(of_run["loss"]) and parameters_finite:
                continue
            latest = writer.checkpoints.latest
            kept = "there is no checkpoint" if latest is None else f"the last good checkpoint is that of step {latest}"
            message = (
                f"loss or parameters are not finite (loss {of_run['loss']}) between steps {self.step - steps} "
                f"and {self.step}, in stage {stage}; {kept}"
            )
            if self.runner.replicas is None:
                raise FloatingPointError(message)
            writer.diverge(message)
            self.progress.write(f"{writer.workdir.name}: {message}")
        if all(writer.diverged is not None for writer in self.writers):
            raise FloatingPointError(f"all {len(self.writers)} seeds have diverged; {self.writers[0].diverged}")

    def _open_stage(self, stage: int) -> None:
        """Sets the stage in the state and compiles its program."""
        self.device_state = self.runner.at_stage(self.device_state, stage)
        begin = time.perf_counter()
        self.runner.compile(stage, self.device_state)
        seconds = time.perf_counter() - begin
        self.progress.write(
            f"stage {stage} of {len(self.stages)}: beta {float(self.stages.beta(self.step)):g}, "
            f"steps {self.step} to {self.stages.end(stage)}, compiled in {seconds:.1f} s"
        )

    def _log(self, stage: int, metrics: Sequence[Metrics], steps_per_second: float) -> None:
        """Writes one training record per run, and prints the means over the runs."""
        if not self.writers:
            return
        rates = {
            "steps_per_second": steps_per_second,
            "images_per_second": steps_per_second * self.experiment.batch_size * len(self.writers),
        }
        logged: list[Metrics] = []
        for writer, of_run in zip(self.writers, metrics, strict=True):
            if writer.diverged is None:
                writer.train(self.step, stage, of_run, rates)
                logged.append(of_run)
        means = {name: float(np.mean([of_run[name] for of_run in logged])) for name in _PRINTED}
        texts = [
            f"beta {means['beta']:.3g}",
            f"loss {means['loss']:.1f}",
            f"reconstruction {means['reconstruction']:.1f}",
            f"KL {means['kl']:.2f}",
        ]
        migs = [writer.last_scores["mig"] for writer in self.writers if "mig" in writer.last_scores]
        if migs:
            extent = f" ({min(migs):.3f} to {max(migs):.3f})" if len(migs) > 1 else ""
            texts.append(f"MIG {statistics.mean(migs):.3f}{extent}")
        texts.append(f"{steps_per_second:.1f} steps/s")
        self.progress.update(self.step, texts)

    def finish(self) -> list[dict[str, Any] | None]:
        """Writes final scores, figures and results.json; returns the results per run, None of a diverged one."""
        results = {
            writer.workdir: writer.finish(self.step, state, self.runner.devices)
            for writer, state in self.active_runs()
        }
        return [results.get(writer.workdir) for writer in self.writers]
