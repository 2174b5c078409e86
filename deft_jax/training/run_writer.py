"""The files of one run, written while it trains: records, scores, figures, checkpoints, results."""

import contextlib
import pathlib
import platform
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from deft_jax.data import description
from deft_jax.evaluation import encoder as evaluation_encoder
from deft_jax.evaluation import factor_entry, figures, ledger, pictures, scores
from deft_jax.evaluation.decoder import Decoder
from deft_jax.evaluation.sample import LabelledSample
from deft_jax.models.posterior import Posterior
from deft_jax.runtime.errors import CannotWrite, reraise_as_cannot_write
from deft_jax.runtime.files import read_object, to_jsonable, write_atomically
from deft_jax.runtime.locks import update_object
from deft_jax.runtime.messages import short_repr
from deft_jax.runtime.progress import warn
from deft_jax.training import tracking
from deft_jax.training.checkpoint import Checkpoints
from deft_jax.training.config import TrainingConfig
from deft_jax.training.experiment import Experiment
from deft_jax.training.metrics_log import MetricsLog
from deft_jax.training.state import TrainState

_NO_SCORES = ("step", "evaluation", "earlier_evaluations")  # entries of results.json
_USED = 0.1  # nats of KL above which a latent counts as used


class RunWriter:
    """Writes the workdir of one run.

    Attributes:
      last_scores: of the newest evaluation.
      beta: of the newest step.
      diverged: the message if the run has diverged, else None.
    """

    def __init__(
        self,
        config: TrainingConfig,
        workdir: pathlib.Path,
        experiment: Experiment,
        encoder: evaluation_encoder.Encoder,
        decoder: Decoder,
        group: tracking.Group | None = None,
    ):
        """
        Args:
          config: of the run.
          workdir: of the run; it is locked.
          experiment: of the run.
          encoder: shared by all runs of a program, and with it the compiled evaluation.
          decoder: shared by all runs of a program as well.
          group: in which a tracker shows the run.
        """
        self.config, self.workdir, self.experiment = config, workdir, experiment
        self.encoder, self.decoder = encoder, decoder
        self.periodic_metrics = config.periodic_metrics or {}
        source, evaluation = experiment.source, config.evaluation
        self.sample = LabelledSample(source, evaluation.num_samples, evaluation.seed)
        self.factors = self.sample.factors_NxF
        self._first_images: np.ndarray | None = None
        # Evaluations take classes: continuous factors are binned.
        self.classes = scores.in_bins(self.sample.truth_NxF, source.ground_truth_continuous)
        self.checkpoints = Checkpoints(workdir / "checkpoints", config.checkpoints.keep)
        self._log: MetricsLog | None = None
        self._group, self._is_finished = group, False
        self._tracking: tracking.Tracking | None = None
        self.last_scores: dict[str, Any] = {}
        self.beta: float | None = float("nan")
        self._diverged_file = workdir / "diverged.txt"
        self.diverged = self._diverged_file.read_text() if self._diverged_file.exists() else None
        description.keep(source, workdir, self.factors)
        constant = [name for f, name in enumerate(source.ground_truth_names) if f not in self.sample.columns]
        if constant:
            warn(
                f"the {len(self.factors)} images of the evaluations have one value of {', '.join(constant)}, which is "
                "left out of the scores; raise evaluation.num_samples if the set has more"
            )

    @property
    def log(self) -> MetricsLog:
        """The records so far; available after `open`."""
        if self._log is None:
            raise RuntimeError("open(step) must be called first")
        return self._log

    def open(self, step: int) -> None:
        """Prepares to resume at `step`: checkpoints and records of later steps are dropped."""
        self.checkpoints.drop_after(step)
        self._log = MetricsLog(self.workdir, step)
        self.beta = self.checkpoints.beta(step)  # saved, because a controller may have set it
        if self.beta is None:
            logged = [record["beta"] for record in self.log.records if "beta" in record]
            self.beta = logged[-1] if logged else float("nan")
        self._tracking = tracking.start(self.config.tracking, self.workdir, self.config.to_mapping(), self._group)

    def publish(self, step: int) -> None:
        """Has the tracker send what was written up to this step, at which nothing more will be written."""
        if self._tracking is not None:
            self._tracking.publish(self.log.records, step)

    def close(self) -> None:
        """Waits for the writes under way; raises CannotWrite if they fail."""
        try:
            if self._log is not None:
                self._log.close()
        finally:
            try:
                self.checkpoints.close()
            finally:
                if self._tracking is not None:
                    ended: tracking.Status = "failed" if self.diverged is not None else "interrupted"
                    self._tracking.close("finished" if self._is_finished else ended)

    def save(self, state: TrainState) -> None:
        """Starts to write a checkpoint, after the records up to it are on the disk."""
        self.log.sync()
        self.checkpoints.save(state, self.beta)

    def diverge(self, message: str) -> None:
        """Ends a run that has diverged: nothing more is written of it, and its last checkpoint stays."""
        self.diverged = message
        write_atomically(self._diverged_file, message + "\n")

    def train(self, step: int, stage: int, metrics: Mapping[str, Any], rates: Mapping[str, float]) -> None:
        """Writes a training record."""
        self.log.write("train", step, stage, dict(metrics) | dict(rates))

    def log_rotation(self, step: int, stage: int, degrees: float) -> None:
        """Writes a rotation record; degrees: the largest angle by which a latent's axis has moved."""
        self.log.write("rotation", step, stage, {"degrees": degrees})

    def evaluate(self, step: int, stage: int, state: TrainState, stage_ends: bool) -> None:
        """Scores the model and writes an evaluation record, and figures at the end of a stage."""
        with only_warning(f"the evaluation of step {step}"):
            posterior = self.encoder(state.params, self.factors, stage)
            self.last_scores = scores.score(np.asarray(posterior.mean), self.classes)
            seed = self.config.evaluation.seed
            source = self.experiment.source
            information = scores.information(posterior, source.num_images, seed)
            information["factor_information"] = scores.factor_information(posterior, self.classes, seed)
            if self.config.evaluation.ledger:
                information |= ledger.ledger_record(posterior, self.classes, source.num_images)
            self.log.write("eval", step, stage, {"beta": self.beta, **self.last_scores, **information})
            self._show(step, stage, state.params, posterior)
            if stage_ends:
                self._draw(step, stage, state.params, posterior, f"_stage_{stage}")

    def count(self, kind: str, step: int) -> int:
        """Number of records of this kind at this step."""
        return sum(record["kind"] == kind and record["step"] == step for record in self.log.records)

    def score(self, step: int, stage: int, state: TrainState) -> None:
        """Writes score records: periodic metrics of the posterior means that are due and not yet written."""
        due = [name for name, metric in self.periodic_metrics.items() if step % metric.every == 0]
        if self.count("score", step) >= len(due):
            return

        def encode(factors: np.ndarray) -> np.ndarray:
            return np.asarray(self.encoder(state.params, factors, stage).mean)

        posterior = self.encoder(state.params, self.factors, stage)
        for name in due:
            options = self.periodic_metrics[name].options
            with only_warning(f"the metric {name} of step {step}"):
                result = self.sample.metric(name, encode, np.asarray(posterior.mean), posterior, options)
                numbers = scores.headlines({name: result})
                # After an interruption or a failure, some metrics of a step have records already.
                logged = (r for r in self.log.records if r["kind"] == "score" and r["step"] == step)
                if not any(numbers.keys() <= record.keys() for record in logged):
                    self.log.write("score", step, stage, numbers)

    def _show(self, step: int, stage: int, params: Any, posterior: Posterior) -> None:
        """Adds pictures of the model, and how its codes are distributed, to TensorBoard."""
        with only_warning(f"TensorBoard's images of step {step}"):
            groups, traversal_range = self.experiment.model.group_of_latent, self.experiment.objective.traversal_range
            images: dict[str, np.ndarray] = {}
            if self.experiment.source.layout == "image":
                if self._first_images is None:
                    self._first_images = pictures.first_images(self.experiment.source, self.factors)
                images = pictures.grids(self.decoder, params, stage, self._first_images, posterior, traversal_range)
            histograms = pictures.histograms(posterior, groups, stage)
            self.log.show(step, images, {f"latents/{name}": numbers for name, numbers in histograms.items()})

    def _draw(self, step: int, stage: int, params: Any, posterior: Posterior, suffix: str) -> None:
        """Writes the figures of the model."""
        with only_warning(f"the figures of step {step}"):
            drawn = figures.figures(
                source=self.experiment.source,
                model=self.experiment.model,
                params=params,
                stage=stage,
                factors_NxF=self.factors,
                posterior=posterior,
                scores=self.last_scores,
                traversal_range=self.experiment.objective.traversal_range,
                title=f"step {step}, beta {self.beta:.3g}: {self.reached()}",
                decoder=self.decoder,
            )
            self._save(drawn, suffix)

    def _save(self, drawn: Mapping[str, Any], suffix: str = "") -> None:
        with reraise_as_cannot_write(self.workdir / "figures"):
            figures.save_figures(drawn, self.workdir / "figures", suffix)

    def reached(self) -> str:
        """The newest MIG as text; the number of latents in use if there are no labels."""
        if "mig" in self.last_scores:
            return f"MIG {self.last_scores['mig']:.3f}"
        kl_D = [record["kl_per_latent"] for record in self.log.records if record["kind"] == "train"][-1]
        return f"{sum(kl > _USED for kl in kl_D)} of {len(kl_D)} latents in use"

    def finish(self, step: int, state: TrainState, devices: Sequence[jax.Device]) -> dict[str, Any]:
        """Writes the final scores and figures and results.json; returns what that holds.

        Other entries of results.json stay. Nothing is written if the run was finished before.
        """
        path = self.workdir / "results.json"
        saved = read_object(path) or {}
        if saved.get("step") == step and "freezing_order" in saved:
            self.last_scores = {name: saved[name] for name in ("mig",) if name in saved}
            self._publish_results(step, saved)
            return saved
        source, model, stages = self.experiment.source, self.experiment.model, self.experiment.stages
        stage = len(stages) - 1
        self.last_scores, ledger_results = {}, {}
        with only_warning("the final evaluation"):
            posterior = self.encoder(state.params, self.factors, stage)
            self.last_scores = scores.score(np.asarray(posterior.mean), self.classes)
            ledger_results = self._ledger_results(posterior)
            self._draw(step, stage, state.params, posterior, "")
        with only_warning("the figures of the whole run"):
            history = figures.history_figures(
                self.log.records,
                factor_names=source.ground_truth_names,
                group_of_latent=model.group_of_latent,
                stage_starts=stages.starts,
                betas=[float(stages.beta(start)) for start in stages.starts],
            )
            self._save(history)
        order: list[dict[str, Any]] = []
        if source.ground_truth_names and self.evaluations():
            order = factor_entry.freezing_order(self.evaluations(), source.ground_truth_names, model.group_of_latent)
        results = to_jsonable(
            {
                "step": step,
                **self.last_scores,
                "factor_names": source.ground_truth_names,
                "freezing_order": order,
                **ledger_results,
                "devices": [device.device_kind for device in devices],
                "versions": {"jax": jax.__version__, "python": platform.python_version()},
            }
        )
        results = update_object(path, lambda before: before | results)  # an evaluation may add to it meanwhile
        self._publish_results(step, results)
        return results

    def _publish_results(self, step: int, results: Mapping[str, Any]) -> None:
        """Has the tracker send the final scores and figures."""
        self._is_finished = True
        if self._tracking is not None:
            self._tracking.publish(self.log.records, step)
            own = {name: value for name, value in results.items() if name not in _NO_SCORES}
            self._tracking.summarise(step, own)

    def _ledger_results(self, posterior: Posterior) -> dict[str, Any]:
        """The entry 'ledger' of results.json; {} where evaluations have none."""
        source, groups = self.experiment.source, self.experiment.model.group_of_latent
        names = source.ground_truth_names
        if not names or not self.config.evaluation.ledger:
            return {}
        results = ledger.ledger_results(posterior, self.classes, source.num_images, names, groups)
        return {"ledger": results | {"stages": ledger.stage_diffusion(self.log.records)}}

    def evaluations(self) -> list[dict[str, Any]]:
        """The records of kind 'eval'."""
        return [record for record in self.log.records if record["kind"] == "eval"]

    def freezing_table(self, order: Sequence[Mapping[str, Any]]) -> str:
        """The order in which factors enter as a text table, with the beta at the last evaluation of each stage."""
        ends = {record["stage"]: record["beta"] for record in self.evaluations()}
        return factor_entry.freezing_table(order, [ends[stage] for stage in sorted(ends)])


@contextlib.contextmanager
def only_warning(what: str) -> Iterator[None]:
    """Turns an exception into a warning: no figure or metric ends a training. CannotWrite, a full disk, does."""
    try:
        yield
    except CannotWrite:
        raise
    except Exception as error:
        warn(
            f"{what} failed and is left out ({type(error).__name__}: {short_repr(error)}); the training goes on"
        )
