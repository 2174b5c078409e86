"""What is written of one run while it trains: records, scores, figures, checkpoints, results."""

import contextlib
import json
import pathlib
import platform
from collections.abc import Iterator, Mapping

import jax
import numpy as np

from deft_jax.data import description
from deft_jax.evaluation import encoder as evaluation_encoder
from deft_jax.evaluation import factor_entry, figures, scores
from deft_jax.runtime.errors import CannotWrite, reraise_as_cannot_write
from deft_jax.runtime.files import read_object, to_jsonable, write_atomically
from deft_jax.runtime.messages import short_repr
from deft_jax.runtime.progress import warn
from deft_jax.training.checkpoint import Checkpoints, Damaged, none_readable
from deft_jax.training.config import TrainingConfig
from deft_jax.training.experiment import Experiment
from deft_jax.training.metrics_log import MetricsLog
from deft_jax.training.state import TrainState

_USED = 0.1  # nats of KL from which on a latent counts as used


class RunWriter:
    """The workdir of one run. All runs of one program share the encoder, and with it the compiled evaluation.

    log: the records so far. last_scores: of the newest evaluation. diverged: what was said when the run did.
    """

    def __init__(
        self,
        config: TrainingConfig,
        workdir: pathlib.Path,
        built: Experiment,
        encoder: evaluation_encoder.Encoder,
    ):
        self.config, self.workdir, self.built, self.encoder = config, workdir, built, encoder
        self.periodic_metrics = config.periodic_metrics or {}
        drawn = config.evaluation
        self.factors = evaluation_encoder.draw_factors(built.source, drawn.num_samples, drawn.seed)
        self.images = np.ravel_multi_index(tuple(self.factors.T), built.source.factor_sizes)  # [N], their numbers
        self.truth = built.source.ground_truth(self.factors)
        # What is logged counts classes: continuous factors in bins.
        self.classes = scores.in_bins(self.truth, built.source.ground_truth_continuous)
        self.checkpoints = Checkpoints(workdir / "checkpoints", config.checkpoints.keep)
        self.log: MetricsLog | None = None
        self.last_scores: dict = {}
        self.beta: float | None = float("nan")
        self._note = workdir / "diverged.txt"
        self.diverged = self._note.read_text() if self._note.exists() else None
        description.keep(built.source, workdir, self.factors)
        self.continuous = built.source.ground_truth_continuous
        self.varying = scores.varying_factors(self.classes)
        constant = [name for f, name in enumerate(built.source.ground_truth_names) if f not in self.varying]
        if constant:
            warn(
                f"the {len(self.factors)} images of the evaluations have one value of {', '.join(constant)}, which is "
                "left out of the scores; raise evaluation.num_samples if the set has more"
            )

    def open(self, step: int) -> None:
        """Goes on from `step`: what was written of later ones, before an interruption, is dropped."""
        self.checkpoints.drop_after(step)
        self.log = MetricsLog(self.workdir, step)
        self.beta = self.checkpoints.beta(step)  # of the last step; a controller sets its own
        if self.beta is None:
            logged = [record["beta"] for record in self.log.records if "beta" in record]
            self.beta = logged[-1] if logged else float("nan")

    def close(self) -> None:
        """Waits for what is being written. Raises CannotWrite where that fails."""
        try:
            if self.log is not None:
                self.log.close()
        finally:
            self.checkpoints.close()

    def save(self, state: TrainState) -> None:
        """Starts writing a checkpoint, when the records up to it are on the disk."""
        self.log.sync()
        self.checkpoints.save(state, self.beta)

    def diverge(self, told: str) -> None:
        """Notes that the run is over: nothing more is written of it, its last good checkpoint stays."""
        self.diverged = told
        write_atomically(self._note, told + "\n")

    def train(self, step: int, stage: int, metrics: Mapping, rates: Mapping) -> None:
        """One training record."""
        self.log.write("train", step, stage, dict(metrics) | dict(rates))

    def log_rotation(self, step: int, stage: int, degrees: float) -> None:
        """Notes that the latents of the stage were turned, the one that moved most by so many degrees."""
        self.log.write("rotation", step, stage, {"degrees": degrees})

    def evaluate(self, step: int, stage: int, state: TrainState, stage_ends: bool) -> None:
        """Scores the model and logs them; figures too where a stage ends."""
        with going_on(f"the evaluation of step {step}"):
            posterior = self.encoder(state.params, self.factors, stage)
            self.last_scores = scores.score(posterior.mean, self.classes)
            seed = self.config.evaluation.seed
            told = scores.information(posterior, self.built.source.num_images, seed)
            told["factor_information"] = scores.factor_information(posterior, self.classes, seed)
            self.log.write("eval", step, stage, {"beta": self.beta, **self.last_scores, **told})
            if stage_ends:
                self._draw(step, stage, state.params, posterior, f"_stage_{stage}")

    def count(self, kind: str, step: int) -> int:
        """How many records of this kind there are at this step."""
        return sum(record["kind"] == kind and record["step"] == step for record in self.log.records)

    def score(self, step: int, stage: int, state: TrainState) -> None:
        """Logs the metrics of config.periodic_metrics that are due and not yet logged, of posterior means."""
        due = [name for name, metric in self.periodic_metrics.items() if step % metric.every == 0]
        if self.count("score", step) >= len(due):
            return

        def encode(factors):
            return self.encoder(state.params, factors, stage).mean

        posterior = self.encoder(state.params, self.factors, stage)
        for name in due:
            chosen = dict(self.periodic_metrics[name].options)
            with going_on(f"the metric {name} of step {step}"):
                if np.ndim(chosen.get("continuous")) == 1:
                    chosen["continuous"] = [chosen["continuous"][factor] for factor in self.varying]
                continuous = [self.continuous[factor] for factor in self.varying]
                chosen = scores.accepted(name, {"groups": self.images}, continuous) | chosen
                found = scores.metric(
                    name, encode, posterior.mean, self.truth[:, self.varying], self.built.source, posterior, **chosen
                )
                numbers = scores.headlines({name: found})
                # Where an interruption or a failure left some metrics of a step out, the others are logged already.
                logged = (r for r in self.log.records if r["kind"] == "score" and r["step"] == step)
                if not any(numbers.keys() <= record.keys() for record in logged):
                    self.log.write("score", step, stage, numbers)

    def _draw(self, step: int, stage: int, params, posterior, suffix: str) -> None:
        """Writes the figures of the model as it stands."""
        with going_on(f"the figures of step {step}"):
            made = figures.figures(
                source=self.built.source,
                model=self.built.model,
                params=params,
                stage=stage,
                factors_NxF=self.factors,
                posterior=posterior,
                scores=self.last_scores,
                traversal_range=self.built.objective.traversal_range,
                title=f"step {step}, beta {self.beta:.3g}: {self.reached()}",
            )
            self._save(made, suffix)

    def _save(self, made, suffix: str = "") -> None:
        with reraise_as_cannot_write(self.workdir / "figures"):
            figures.save_figures(made, self.workdir / "figures", suffix)

    def reached(self) -> str:
        """The newest MIG; where there are no labels, the share of the latents in use is all that can be told."""
        if "mig" in self.last_scores:
            return f"MIG {self.last_scores['mig']:.3f}"
        kl_D = [record["kl_per_latent"] for record in self.log.records if record["kind"] == "train"][-1]
        return f"{sum(kl > _USED for kl in kl_D)} of {len(kl_D)} latents in use"

    def finish(self, step: int, state: TrainState, devices) -> dict:
        """Final scores, figures and results.json; returns what it holds.

        Entries of others in results.json stay. A run that was finished before rewrites nothing.
        """
        path = self.workdir / "results.json"
        held = read_object(path) or {}
        if held.get("step") == step and "freezing_order" in held:
            self.last_scores = {name: held[name] for name in ("mig",) if name in held}
            return held
        source, model, stages = self.built.source, self.built.model, self.built.stages
        stage = len(stages) - 1
        self.last_scores = {}
        with going_on("the final evaluation"):
            posterior = self.encoder(state.params, self.factors, stage)
            self.last_scores = scores.score(posterior.mean, self.classes)
            self._draw(step, stage, state.params, posterior, "")
        with going_on("the figures of the whole run"):
            marks = {"stage_starts": stages.starts, "betas": [float(stages.beta(start)) for start in stages.starts]}
            history = figures.history_figures(
                self.log.records, factor_names=source.ground_truth_names, group_of_latent=model.group_of_latent, **marks
            )
            self._save(history)
        order = []
        if source.ground_truth_names and self.evaluations():
            order = factor_entry.freezing_order(self.evaluations(), source.ground_truth_names, model.group_of_latent)
        results = to_jsonable(
            {
                "step": step,
                **self.last_scores,
                "factor_names": source.ground_truth_names,
                "freezing_order": order,
                "devices": [device.device_kind for device in devices],
                "versions": {"jax": jax.__version__, "python": platform.python_version()},
            }
        )
        results = (read_object(path) or {}) | results
        write_atomically(path, json.dumps(results, indent=2) + "\n")
        return results

    def evaluations(self) -> list[dict]:
        """The records of kind 'eval'."""
        return [record for record in self.log.records if record["kind"] == "eval"]

    def freezing_table(self, order) -> str:
        """The order of freezing as text, with the beta at the last evaluation of each stage."""
        ends = {record["stage"]: record["beta"] for record in self.evaluations()}
        return factor_entry.freezing_table(order, [ends[stage] for stage in sorted(ends)])


@contextlib.contextmanager
def going_on(what: str) -> Iterator[None]:
    """Within it, whatever fails is a warning: no figure and no metric ends a training. A full disk does."""
    try:
        yield
    except CannotWrite:
        raise
    except Exception as error:
        warn(
            f"{what} failed and is left out ({type(error).__name__}: {short_repr(error)}); the training goes on"
        )


def restore_common_step(records, states) -> tuple[int | None, list]:
    """The newest step of which all runs that have not diverged can read their checkpoint, None without any; states.

    states: before the first step; returned as they are of a run that has diverged, or if there is no checkpoint.
    Newer checkpoints that cannot be read are passed over with a warning, and left as they are.
    Raises ValueError where there are checkpoints, and none can be read.
    """
    going = [index for index, record in enumerate(records) if record.diverged is None]
    steps = [set(records[index].checkpoints.steps) for index in going]
    common = sorted(set.intersection(*steps), reverse=True) if steps else []
    faults = []
    for step in common:
        found = list(states)
        try:
            for index in going:
                found[index] = records[index].checkpoints.restore(states[index], step)
        except Damaged as error:
            faults.append(str(error))
            continue
        for fault in faults:
            warn(f"{fault}; going back to step {step}")
        return step, found
    if faults:
        raise ValueError(none_readable("the workdir", faults))
    return None, list(states)
