"""From a configuration to an experiment; errors are raised before anything compiles."""

import dataclasses
from typing import Any, cast

import jax
import optax

from deft_jax import data, metrics
from deft_jax.data import sprites, variants
from deft_jax.data.description import SourceDescription
from deft_jax.data.source import Source
from deft_jax.evaluation import scores
from deft_jax.evaluation.sample import LabelledSample
from deft_jax.models import kinds, networks
from deft_jax.objectives import registry
from deft_jax.runtime.jax_settings import pinned
from deft_jax.runtime.messages import short_repr
from deft_jax.runtime.validation import ConfigErrors
from deft_jax.training import optimizer as training_optimizer
from deft_jax.training.config import OptimizerConfig, TrainingConfig, parse_training
from deft_jax.training.experiment import Experiment
from deft_jax.training.learning_rates import DECAYS
from deft_jax.training.pairs import check_pairs
from deft_jax.training.supervision import draw_labelled

_CPU_PART = 32  # images whose activations fit the caches; docs/experiments/speed.md


@pinned()
def build(
    config: Any, source: Source | SourceDescription | None = None, platform: str | None = None
) -> Experiment:
    """The experiment of a configuration.

    Args:
      config: a TrainingConfig, or what `parse_training` takes.
      source: a data set, or the description that a run has kept of it. Default: None, the one that the configuration
        describes.
      platform: of the devices that programs are compiled for, 'cpu', 'gpu' or 'tpu'; convolutions differ. Default:
        None, that of JAX's default backend.

    Raises:
      ConfigErrors: one line per fault of the configuration.
      ValueError: the data set cannot be built, or does not fit the model or the objective.
    """
    config = parse_training(config)
    if source is None:
        source = load_source(config)
    stages = config.stages.stages(config.total_steps)
    if faults := _kind_faults(config, source.layout):
        raise ConfigErrors(faults)
    model = networks.build(
        source.image_shape,
        kind=config.model.kind,
        layers=config.model.layers,
        layout=source.layout,
        latents=config.model.latents,
        groups=config.model.groups,
        width=config.model.width,
        hidden=config.model.hidden,
        decoder_width=config.model.decoder_width,
        decoder_hidden=config.model.decoder_hidden,
        freeze=config.optimizer.gamma == 0,
        calibrate=config.model.calibrate,
        head_init_scale=config.model.head_init_scale,
        dtype=config.model.dtype,
        platform=platform,
    )
    objective = registry.get(
        config.objective.name,
        stages.beta,
        latents=model.num_latents,
        num_images=source.num_images,
        **config.objective.options,
    )
    if stages.rotation_every is not None and not objective.rotation_safe:
        raise ValueError(
            f"stages.rotation_every rotates latents, and the objective {config.objective.name!r} does not treat them "
            "alike; leave it out (objectives that do have rotation_safe = True)"
        )

    if faults := check_pairs(objective, cast(Source, source)):
        raise ConfigErrors(faults)

    labelled = None
    if config.supervision is not None and isinstance(source, Source):
        labelled = draw_labelled(source, config.supervision, model.num_latents)

    def optimizer(stage: int) -> optax.GradientTransformation:
        return training_optimizer.deft_optimizer(
            stages=stages,
            stage=stage,
            num_groups=len(model.sizes),
            objective_optimizer=objective.optimizer,
            **_optimizer_arguments(config.optimizer, config.total_steps),
        )

    return Experiment(
        source=cast(Source, source),
        model=model,
        objective=objective,
        stages=stages,
        optimizer=optimizer,
        batch_size=config.batch_size,
        seed=config.seed,
        part_size=_CPU_PART if (platform or jax.default_backend()) == "cpu" else None,
        labelled=labelled,
    )


def _kind_faults(config: TrainingConfig, layout: str) -> list[str]:
    """What does not fit between model.kind, model.layers and the examples of the data."""
    try:
        kind = kinds.choose(config.model.kind, layout)
        networks.checked_layers(config.model.layers, kind)
    except ValueError as error:
        return [str(error)]
    return []


def for_platform(config: TrainingConfig, platform: str) -> TrainingConfig:
    """The configuration with what depends on the default backend decided for another platform.

    Args:
      config: of a training.
      platform: of the devices that programs are compiled for, 'cpu', 'gpu' or 'tpu'.

    Returns:
      The same with the storage of a drawn set of sprites, where that is 'auto', named.
    """
    is_drawn = data.function_of(config.data.name).__module__ in (sprites.__name__, variants.__name__)
    if not is_drawn or config.data.options.get("storage", "auto") != "auto":
        return config
    options = {**config.data.options, "storage": sprites.storage_for(platform)}
    return dataclasses.replace(config, data=dataclasses.replace(config.data, options=options))


def load_source(config: TrainingConfig) -> Source:
    """The data set of a configuration.

    Raises:
      ConfigErrors: it cannot be built; each line begins with its section.
    """
    try:
        source = data.get(config.data.name, only=config.data.only, **config.data.options)
    except ConfigErrors:
        raise
    except ValueError as error:
        raise ConfigErrors([str(error) if str(error).startswith("data") else f"data: {error}"]) from error
    if not isinstance(source, Source):
        raise ConfigErrors([f"data.name {config.data.name!r} must return a Source, got {short_repr(source)}"])
    return source


def _optimizer_arguments(config: OptimizerConfig, total_steps: int) -> dict[str, Any]:
    """The arguments of deft_optimizer that a section determines."""
    schedule = DECAYS[config.decay]
    return {
        "learning_rate": schedule(config.learning_rate, total_steps),
        "decoder_learning_rate": schedule(config.decoder_learning_rate, total_steps),
        "gamma": config.gamma,
        "weight_decay": config.weight_decay,
        "b1": config.b1,
        "b2": config.b2,
        "eps": config.eps,
    }


def check_metrics(config: TrainingConfig, source: Source) -> None:
    """Checks that the periodic metrics can be computed on the images that evaluations draw from a data set.

    Raises:
      ConfigErrors: one line for each that cannot.
    """
    lines: list[str] = []
    if not config.periodic_metrics:
        return
    sample = LabelledSample(source, config.evaluation.num_samples, config.evaluation.seed)
    for name, metric in config.periodic_metrics.items():
        before = len(lines)
        try:
            scores.check_metric(name, source)
        except ValueError as error:
            lines.append(f"periodic_metrics.{name}: {error}")
        draws = metrics.kind(name) == "sampler" and name in metrics.REGISTRY
        if draws and sum(size > 1 for size in source.factor_sizes) < 2:
            lines.append(f"periodic_metrics.{name} needs two factors with more than one value, got sizes "
                         f"{tuple(source.factor_sizes)} of {', '.join(source.factor_names)}")
        for option in ("num_train", "num_neighbors"):
            count = metric.options.get(option)
            if isinstance(count, int) and scores.takes_samples(name) and count >= source.num_images:
                lines.append(f"periodic_metrics.{name}.{option} must be below the number of images, "
                             f"{source.num_images}, got {count}")
        if len(lines) == before:
            try:
                sample.check(name, metric.options)
            except ValueError as error:
                lines.append(f"periodic_metrics.{name}: {error}")
    if lines:
        raise ConfigErrors(lines)
