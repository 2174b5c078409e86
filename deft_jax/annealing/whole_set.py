"""One VAE on the whole set while beta falls: freezing points without labels."""

import dataclasses
import math

import numpy as np

from deft_jax.annealing import freezing_points, spectrum
from deft_jax.annealing.config import LEAST_POINTS, AnnealingConfig
from deft_jax.annealing.freezing_points import Point
from deft_jax.annealing.instrument import point_dict, resolve_beta_max
from deft_jax.data.source import Source
from deft_jax.training import build, session
from deft_jax.training.config import ExponentialStages, ModelConfig, NamedOptions, OptimizerConfig, TrainingConfig
from deft_jax.training.metrics_log import read_records


class WholeSetInstrument:
    """One VAE on the whole set: a training run in which beta falls from above the spectrum to beta_min."""

    name = "whole"

    def __init__(self, config: AnnealingConfig, source: Source):
        section = config.whole
        self.source, self.config = source, section
        top = spectrum.freezing_spectrum(source, seed=config.seed, num_modes=1).eigenvalues[0]
        beta_max = resolve_beta_max(section.beta_max, float(top), "the whole set", "whole")
        if section.beta_min >= beta_max:
            raise ValueError(f"whole.beta_min must lie between 0 and {beta_max:.4g}, got {section.beta_min}")
        # start exp(-rate t / T): the logarithm of beta falls at one speed
        stages = ExponentialStages(
            rule="exponential", start=beta_max, end=0.0, rate=math.log(beta_max / section.beta_min), thresholds=()
        )
        self.run_config = TrainingConfig(
            seed=config.seed,
            batch_size=section.batch_size,
            total_steps=section.total_steps,
            data=config.data,
            model=ModelConfig(**dataclasses.asdict(section.model), groups=(section.model.latents,)),
            objective=NamedOptions(name="beta_vae", options={}),
            stages=stages,
            optimizer=OptimizerConfig(**dataclasses.asdict(section.optimizer), gamma=1.0),
            log_every=section.log_every,
            evaluation=section.evaluation,
            checkpoints=section.checkpoints,
        )
        build.build(self.run_config, source)

    def measure(self, workdir, devices) -> dict:
        directory = workdir / "whole"
        session.run(self.run_config, directory, devices, remarks=False)  # a run that is finished stays as it is
        records = [record for record in read_records(directory / "metrics.jsonl") if record["kind"] == "eval"]
        if len(records) < LEAST_POINTS:
            raise ValueError(f"{directory} holds {len(records)} evaluations that worked, {LEAST_POINTS} are needed")
        history = {
            name: np.array([record[name] for record in records])
            for name in (
                "beta",
                "mutual_information",
                "mutual_information_upper",
                "total_correlation",
                "dimension_wise_kl",
                "kl_per_latent",
                "factor_information",
            )
        }
        betas, rule = history["beta"], (self.config.threshold, self.config.smooth)
        latents = [freezing_points.freezing_point(betas, kl_E, *rule) for kl_E in history["kl_per_latent"].T]
        factors = [freezing_points.freezing_point(betas, told_E, *rule) for told_E in history["factor_information"].T]
        peaks = freezing_points.peaks(betas, history["mutual_information"], self.config.smooth)
        names = self.source.ground_truth_names
        return {
            "beta_max": self.run_config.stages.start,
            "beta_min": self.config.beta_min,
            "threshold": self.config.threshold,
            "latents": [point_dict(point) for point in latents],
            "peaks": [peak._asdict() for peak in peaks],
            "points": {name: point_dict(point) for name, point in zip(names, factors, strict=True)},
            "separate": {f"peak {index}": peak.beta for index, peak in enumerate(peaks)},
            "history": history,
        }

    def table(self, result) -> str:
        frozen = sorted((Point(**point) for point in result["latents"]), key=lambda point: -point.order)
        told = [str(point) for point in frozen]
        peaks = [f"{peak['beta']:.3g}" for peak in result["peaks"]]
        points = {name: Point(**point) for name, point in result["points"].items()}
        lines = [
            f"Whole set, without labels: latents freeze at beta {', '.join(told)}",
            f"peaks of -dI/d(log beta) at beta {', '.join(peaks) or 'none'}",
            f"{'factor':<14}{'enters':>8}  (labels used: one latent tells {result['threshold']:g} nat of it)",
        ]
        lines += [f"{name:<14}{points[name]!s:>8}" for name in sorted(points, key=lambda name: -points[name].order)]
        return "\n".join(lines)

    def draw(self, result, directory) -> None:
        from deft_jax.annealing import plots
        from deft_jax.evaluation import plots as evaluation_plots

        history = result["history"]
        rate = freezing_points.information_rate(history["beta"], history["mutual_information"], self.config.smooth)
        figure = plots.whole_set(
            history, rate, [peak["beta"] for peak in result["peaks"]], self.source.ground_truth_names
        )
        evaluation_plots.save(figure, directory / "whole_set.png")
