"""One VAE on the whole set while beta falls: freezing points without labels."""

import dataclasses
import math
import pathlib
from collections.abc import Sequence

import jax
import numpy as np

from deft_jax.annealing import freezing_points, spectrum
from deft_jax.annealing.config import LEAST_POINTS, WholeConfig
from deft_jax.annealing.freezing_points import Point
from deft_jax.annealing.instrument import Result, point_dict, resolve_beta_max
from deft_jax.data.source import Source
from deft_jax.training import build, session
from deft_jax.training.config import (
    DataConfig,
    ExponentialStages,
    ModelConfig,
    NamedOptions,
    OptimizerConfig,
    TrainingConfig,
)
from deft_jax.training.metrics_log import read_records

_HISTORY = (
    "beta",
    "mutual_information",
    "mutual_information_upper",
    "total_correlation",
    "dimension_wise_kl",
    "kl_per_latent",
    "factor_information",
)
"""Entries of the training's evaluations that are kept in freezing.json."""


class WholeSetInstrument:
    """One VAE on the whole set: a training run in which beta falls from above the spectrum to beta_min."""

    name = "whole"

    def __init__(self, config: WholeConfig, data_config: DataConfig, source: Source, seed: int) -> None:
        self.config, self.source = config, source
        top = spectrum.freezing_spectrum(source, seed=seed, num_modes=1).eigenvalues[0]
        self.beta_max = resolve_beta_max(config.beta_max, float(top), "the whole set", "whole")
        if config.beta_min >= self.beta_max:
            raise ValueError(f"whole.beta_min must be below beta_max = {self.beta_max:.4g}, got {config.beta_min:g}")
        # beta = start exp(-rate t / T): a geometric fall from beta_max to beta_min.
        rate = math.log(self.beta_max / config.beta_min)
        self.training_config = TrainingConfig(
            seed=seed,
            batch_size=config.batch_size,
            total_steps=config.total_steps,
            data=data_config,
            model=ModelConfig(**dataclasses.asdict(config.model), groups=(config.model.latents,)),
            objective=NamedOptions(name="beta_vae", options={}),
            stages=ExponentialStages(rule="exponential", start=self.beta_max, end=0.0, rate=rate, thresholds=()),
            optimizer=OptimizerConfig(**dataclasses.asdict(config.optimizer), gamma=1.0),
            log_every=config.log_every,
            evaluation=config.evaluation,
            checkpoints=config.checkpoints,
        )
        build.build(self.training_config, source)  # raises now what would raise when training starts

    def measure(self, workdir: pathlib.Path, devices: Sequence[jax.Device] | None) -> Result:
        """See Instrument."""
        directory = workdir / "whole"
        session.run(self.training_config, directory, devices, remarks=False)  # a finished run stays as it is
        records = [record for record in read_records(directory / "metrics.jsonl") if record["kind"] == "eval"]
        if len(records) < LEAST_POINTS:
            raise ValueError(f"{directory} has {len(records)} successful evaluations; at least {LEAST_POINTS} needed")
        history = {name: np.array([record[name] for record in records]) for name in _HISTORY}
        betas, rule = history["beta"], (self.config.threshold, self.config.smooth)
        latents = [freezing_points.freezing_point(betas, kl_E, *rule) for kl_E in history["kl_per_latent"].T]
        factors = [freezing_points.freezing_point(betas, nats_E, *rule) for nats_E in history["factor_information"].T]
        peaks = freezing_points.peaks(betas, history["mutual_information"], self.config.smooth)
        names = self.source.ground_truth_names
        return {
            "beta_max": self.beta_max,
            "beta_min": self.config.beta_min,
            "threshold": self.config.threshold,
            "latents": [point_dict(point) for point in latents],
            "peaks": [peak._asdict() for peak in peaks],
            "points": {name: point_dict(point) for name, point in zip(names, factors, strict=True)},
            "separate": {f"peak {index}": peak.beta for index, peak in enumerate(peaks)},
            "history": history,
        }

    def table(self, result: Result) -> str:
        """See Instrument."""
        latents = sorted((Point(**point) for point in result["latents"]), key=lambda point: -point.order)
        peaks = [f"{peak['beta']:.3g}" for peak in result["peaks"]]
        points = {name: Point(**point) for name, point in result["points"].items()}
        lines = [
            f"Whole set, without labels: latents freeze at beta {', '.join(map(str, latents))}",
            f"peaks of -dI/d(log beta) at beta {', '.join(peaks) or 'none'}",
            f"{'factor':<14}{'enters':>8}  (uses labels: one latent knows {result['threshold']:g} nat of it)",
        ]
        lines += [f"{name:<14}{points[name]!s:>8}" for name in sorted(points, key=lambda name: -points[name].order)]
        return "\n".join(lines)

    def draw(self, result: Result, directory: pathlib.Path) -> None:
        """See Instrument."""
        from deft_jax.annealing import plots
        from deft_jax.evaluation import plots as evaluation_plots

        history = result["history"]
        rate = freezing_points.information_rate(history["beta"], history["mutual_information"], self.config.smooth)
        figure = plots.whole_set(
            history, rate, [peak["beta"] for peak in result["peaks"]], self.source.ground_truth_names
        )
        evaluation_plots.save(figure, directory / "whole_set.png")
