"""run(config, workdir): train, log, evaluate, checkpoint, resume.

The loop only decides where the next stop is: a log line, an evaluation, a checkpoint or the end of a stage. All
arithmetic happens between two stops, in one dispatch of a compiled program (steps.py).
"""

import json
import pathlib
import platform
import time

import jax
import numpy as np

from deft_jax import evaluation, experiment, metrics, options
from deft_jax.checkpoint import Checkpoints
from deft_jax.interruption import Signals
from deft_jax.logs import MetricsLog, Progress, claim, plain, write_atomically
from deft_jax.state import TrainState
from deft_jax.steps import Experiment, Runner, all_finite, init_state

# What a resumed run may set anew: it changes what is written down, not what is learned.
_USED = 0.1  # nats of KL from which on a latent counts as used
_FREE = ("log_every", "checkpoints", "evaluation", "evals")
_FIELDS = ("seed", "batch_size", "total_steps", "data", "model", "objective", "stages", "optimizer",
           "log_every", "checkpoints", "evaluation")  # fmt: skip
_COUNTS = ("log_every", "evaluation.every", "evaluation.num_samples", "checkpoints.every", "checkpoints.keep")


def build(config) -> Experiment:
    """The checked experiment of a configuration (a ConfigDict or a mapping of the same fields)."""
    missing = [field for field in _FIELDS if field not in config]
    if missing:
        raise ValueError(f"the configuration lacks {', '.join(missing)}; it needs {', '.join(_FIELDS)}")
    return experiment.build(
        seed=config["seed"],
        data_options=dict(config["data"]),
        model_options=dict(config["model"]),
        objective_options=dict(config["objective"]),
        stage_options=dict(config["stages"]),
        optimizer_options=dict(config["optimizer"]),
        batch_size=config["batch_size"],
        total_steps=config["total_steps"],
    )


def run(config, workdir: str | pathlib.Path, devices=None) -> dict:
    """Trains to the end of the configuration, from where the workdir stands; returns what results.json holds.

    workdir receives config.json, metrics.jsonl, tensorboard/, checkpoints/, figures/ and results.json. Called again
    with the same configuration it goes on from the last checkpoint and reaches the same parameters. SIGTERM and
    SIGINT save at the end of the current dispatch and raise Interrupted.

    devices: to share each batch; all local ones unless given.
    Raises ValueError where the configuration does not fit, or is not that of the workdir; FloatingPointError where
    the loss is no longer finite, with the last good checkpoint kept.

    config.evals, if given, names metrics to compute on the way: {'dci': {'every': 10_000, 'model': 'linear'}}; the
    other fields are the metric's own. Their records in metrics.jsonl have the kind 'score'.
    """
    built = build(config)
    _check_counts(config)
    _check_evals(config.get("evals") or {}, built.source)
    runner = Runner(built, devices)
    workdir = pathlib.Path(workdir)
    claim(workdir, config, _FREE)
    checkpoints = Checkpoints(workdir / "checkpoints", config["checkpoints"]["keep"])
    training = _Training(config, workdir, built, runner, checkpoints)
    try:
        with Signals() as signals:
            training.train(signals)
        return training.finish()
    finally:
        training.close()


def _check_counts(config) -> None:
    for name in _COUNTS:
        section, _, field = name.rpartition(".")
        values = config[section] if section else config
        if field not in values:
            raise ValueError(f"{section} lacks the field {field!r}")
        if values[field] < 1:
            raise ValueError(f"{name} must be at least 1, got {values[field]}")


def _check_evals(evals, source) -> None:
    for name, section in evals.items():
        if options.choose(metrics.REGISTRY, name, "metric in evals") == "runs":
            raise ValueError(f"evals.{name} compares several runs: score them with deft_jax.evaluate")
        evaluation.check_metric(name, source)
        if section.get("every", 0) < 1:
            raise ValueError(f"evals.{name}.every, steps between two evaluations, must be at least 1")
        chosen = {key: value for key, value in section.items() if key != "every"}
        options.check(metrics.get(name), chosen, f"evals.{name}", ("encode", "factor_sizes", "codes", "factors"))


class _Training:
    """One run: what its loop needs beside the state."""

    def __init__(self, config, workdir, built: Experiment, runner: Runner, checkpoints: Checkpoints):
        self.config, self.workdir = config, workdir
        self.built, self.runner, self.checkpoints = built, runner, checkpoints
        self.stages = built.stages
        self.evals = {name: dict(section) for name, section in (config.get("evals") or {}).items()}
        self.state = init_state(built)
        if checkpoints.latest is not None:
            self.state = checkpoints.restore(self.state)
        self.step = int(self.state.step)
        self.log = MetricsLog(workdir, self.step)
        self.progress = Progress(self.stages.total_steps, self.step)
        drawn = config["evaluation"]
        self.factors = evaluation.draw_factors(built.source, drawn["num_samples"], drawn["seed"])
        self.truth = built.source.ground_truth(self.factors)
        self.encoder = evaluation.Encoder(built)
        self.device_state = runner.put(self.state)
        self.last_scores: dict = {}
        told = [record["beta"] for record in self.log.records if "beta" in record]
        self.beta = told[-1] if told else float("nan")  # of the last step; a controller sets its own

    def close(self):
        self.progress.close()
        self.log.close()
        self.checkpoints.close()

    def host_state(self) -> TrainState:
        """One device's copy of the state."""
        return self.runner.one(self.device_state)

    def next_stop(self, stage: int) -> int:
        """The next step at which something is written, or the stage ends."""
        config = self.config
        intervals = [config["log_every"], config["evaluation"]["every"], config["checkpoints"]["every"]]
        intervals += [section["every"] for section in self.evals.values()]
        return min([self.stages.end(stage), *(self.step + n - self.step % n for n in intervals)])

    def train(self, signals: Signals) -> None:
        """Runs to the last step; raises Interrupted after a signal."""
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
            self.device_state, metrics = self.runner.run(stage, self.device_state, steps)
            metrics = jax.tree.map(np.asarray, metrics)
            window_seconds += time.perf_counter() - begin
            window_steps += steps
            self.beta = float(metrics["beta"])
            self.step += steps
            if not (np.isfinite(metrics["loss"]) and all_finite(self.host_state().params)):
                raise FloatingPointError(
                    f"loss or parameters are not finite (loss {metrics['loss']}) between steps {self.step - steps} "
                    f"and {self.step}, in stage {stage}; the last good checkpoint is that of step "
                    f"{self.checkpoints.latest}"
                )
            stage_ends = self.step == self.stages.end(stage)
            if self.step % self.config["log_every"] == 0 or stage_ends:
                self.log_training(stage, metrics, window_steps / window_seconds)
                window_steps, window_seconds = 0, 0.0
            if self.step % self.config["evaluation"]["every"] == 0 or stage_ends:
                self.evaluate(stage, stage_ends)
            self.score(stage)
            if self.step % self.config["checkpoints"]["every"] == 0 or stage_ends:
                self.checkpoints.save(self.host_state())
            if signals.received is not None and self.step < total:
                self.checkpoints.save(self.host_state())
                raise signals.interrupted(self.step, total)

    def open_stage(self, stage: int) -> None:
        """Notes the stage in the state and compiles its program."""
        zero = np.asarray(self.device_state.stage)
        self.device_state = self.device_state.replace(
            stage=jax.device_put(np.full_like(zero, stage), self.device_state.stage.sharding)
        )
        begin = time.perf_counter()
        self.runner.compile(stage, self.device_state)
        seconds = time.perf_counter() - begin
        self.progress.say(
            f"stage {stage} of {len(self.stages)}: beta {float(self.stages.beta(self.step)):g}, "
            f"steps {self.step} to {self.stages.end(stage)}, compiled in {seconds:.1f} s"
        )

    def log_training(self, stage: int, metrics, steps_per_second: float) -> None:
        """One training record, and a line on the terminal."""
        rates = {
            "steps_per_second": steps_per_second,
            "images_per_second": steps_per_second * self.built.batch_size,
        }
        self.log.write("train", self.step, stage, dict(metrics) | rates)
        texts = [
            f"beta {float(metrics['beta']):.3g}",
            f"loss {float(metrics['loss']):.1f}",
            f"reconstruction {float(metrics['reconstruction']):.1f}",
            f"KL {float(metrics['kl']):.2f}",
        ]
        if "mig" in self.last_scores:
            texts.append(f"MIG {self.last_scores['mig']:.3f}")
        texts.append(f"{steps_per_second:.1f} steps/s")
        self.progress.update(self.step, texts)

    def evaluate(self, stage: int, stage_ends: bool) -> None:
        """Scores the model and logs them; figures too where a stage ends."""
        params = self.host_state().params
        posterior = self.encoder(params, self.factors, stage)
        self.last_scores = evaluation.score(posterior.mean, self.truth)
        seed = self.config["evaluation"]["seed"]
        told = evaluation.information(posterior, self.built.source.num_images, seed)
        told["factor_information"] = evaluation.factor_information(posterior, self.truth, seed)
        self.log.write("eval", self.step, stage, {"beta": self.beta, **self.last_scores, **told})
        if stage_ends:
            self.draw(stage, params, posterior, f"_stage_{stage}")

    def score(self, stage: int) -> None:
        """Logs the metrics of config.evals that are due at this step, of posterior means."""
        due = [name for name, section in self.evals.items() if self.step % section["every"] == 0]
        if not due:
            return
        params, source = self.host_state().params, self.built.source

        def encode(factors):
            return self.encoder(params, factors, stage).mean

        codes = encode(self.factors)
        for name in due:
            chosen = {key: value for key, value in self.evals[name].items() if key != "every"}
            found = evaluation.metric(name, encode, codes, self.truth, source, **chosen)
            self.log.write("score", self.step, stage, evaluation.headlines({name: found}))

    def draw(self, stage: int, params, posterior, suffix: str) -> None:
        """Writes the figures of the model as it stands."""
        made = evaluation.figures(
            source=self.built.source,
            model=self.built.model,
            params=params,
            stage=stage,
            factors_NxF=self.factors,
            posterior=posterior,
            scores=self.last_scores,
            reach=self.built.objective.reach,
            title=f"step {self.step}, beta {self.beta:.3g}: {self.reached()}",
        )
        evaluation.save_figures(made, self.workdir / "figures", suffix)

    def reached(self) -> str:
        """The newest MIG; where there are no labels, the share of the latents in use is all that can be told."""
        if "mig" in self.last_scores:
            return f"MIG {self.last_scores['mig']:.3f}"
        kl_D = [record["kl_per_latent"] for record in self.log.records if record["kind"] == "train"][-1]
        return f"{sum(kl > _USED for kl in kl_D)} of {len(kl_D)} latents in use"

    def finish(self) -> dict:
        """Final scores, figures and results.json; prints what was reached."""
        self.progress.close()
        source, model = self.built.source, self.built.model
        stage = len(self.stages) - 1
        params = self.host_state().params
        posterior = self.encoder(params, self.factors, stage)
        self.last_scores = evaluation.score(posterior.mean, self.truth)
        self.draw(stage, params, posterior, "")
        betas = [float(self.stages.beta(start)) for start in self.stages.starts]
        marks = {"stage_starts": self.stages.starts, "betas": betas}
        history = evaluation.history_figures(
            self.log.records, factor_names=source.ground_truth_names, group_of_latent=model.group_of_latent, **marks
        )
        evaluation.save_figures(history, self.workdir / "figures")
        evaluations = [record for record in self.log.records if record["kind"] == "eval"]
        order = []
        if source.ground_truth_names:
            order = evaluation.freezing_order(evaluations, source.ground_truth_names, model.group_of_latent)
        results = plain(
            {
                "step": self.step,
                **self.last_scores,
                "factor_names": source.ground_truth_names,
                "freezing_order": order,
                "devices": [device.device_kind for device in self.runner.devices],
                "versions": {"jax": jax.__version__, "python": platform.python_version()},
            }
        )
        write_atomically(self.workdir / "results.json", json.dumps(results, indent=2) + "\n")
        if order:
            print("\nNormalised MI of the best latent with each factor at the end of each stage, in order of entering:")
            ends = {record["stage"]: record["beta"] for record in evaluations}
            print(evaluation.freezing_table(order, [ends[stage] for stage in sorted(ends)]))
        print(f"\n{self.reached()} after {self.step} steps; figures: {self.workdir / 'figures'}")
        return results
