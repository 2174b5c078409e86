"""From a configuration to an experiment that has been checked, before anything compiles."""

import dataclasses
from collections.abc import Mapping

from deft_jax import data
from deft_jax.data.description import SourceDescription
from deft_jax.data.source import Source
from deft_jax.models import networks
from deft_jax.objectives import registry
from deft_jax.runtime import options
from deft_jax.training import optimizer as training_optimizer
from deft_jax.training import schedules
from deft_jax.training.experiment import Experiment

STAGE_RULES = {"steps": schedules.fixed_stages, "exponential": schedules.exponential_stages}


DECAYS = {"constant": lambda value, total_steps: schedules.constant(value), "cosine": schedules.cosine}


def _take(section: Mapping, field: str, name: str):
    """A field of a section, and the others."""
    options.check_section(name, section)
    if field not in section:
        raise ValueError(f"{name} lacks the field {field!r}")
    return section[field], {key: value for key, value in section.items() if key != field}


def _optimizer(
    learning_rate: float,
    decoder_learning_rate: float,
    gamma: float,
    total_steps: int,
    decay: str = "constant",
    weight_decay: float = 0.0,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
) -> dict:
    """The arguments of optim.deft_optimizer that an optimizer section stands for."""
    for name, value in (("learning_rate", learning_rate), ("decoder_learning_rate", decoder_learning_rate)):
        options.check_above(f"optimizer.{name}", value)
    if not 0 <= gamma <= 1:
        raise ValueError(f"optimizer.gamma must lie between 0 (frozen) and 1, got {gamma}")
    if not weight_decay >= 0:
        raise ValueError(f"optimizer.weight_decay must not be negative, got {weight_decay}")
    for name, value in (("b1", b1), ("b2", b2)):
        if not 0 <= value < 1:
            raise ValueError(f"optimizer.{name} must be at least 0 and below 1, got {value}")
    options.check_above("optimizer.eps", eps)
    schedule = options.choose(DECAYS, decay, "optimizer.decay")
    rates = {
        "learning_rate": schedule(learning_rate, total_steps),
        "decoder_learning_rate": schedule(decoder_learning_rate, total_steps),
    }
    return rates | {"gamma": gamma, "weight_decay": weight_decay, "b1": b1, "b2": b2, "eps": eps}


def build(
    *,
    seed: int,
    data_options: Mapping,
    model_options: Mapping,
    objective_options: Mapping,
    stage_options: Mapping,
    optimizer_options: Mapping,
    batch_size: int,
    total_steps: int,
    source: Source | SourceDescription | None = None,
) -> Experiment:
    """The experiment of these options; the configs in configs/ show the names in each.

    source: the data set, or what a run has kept of it, to be taken in place of the one that data_options describe.

    Raises ValueError in one line where a name is unknown, a value is of another type, not finite or out of range, or
    numbers do not fit together: betas that do not fall, more stages than groups, latents that do not divide.
    """
    options.check_count("seed", seed, least=0)
    options.check_count("batch_size", batch_size)
    options.check_count("total_steps", total_steps)
    rule, rest = _take(stage_options, "rule", "stages")
    rule = options.choose(STAGE_RULES, rule, "stages.rule")
    rotation_every = rest.pop("rotation_every", None)
    stages = options.call(rule, rest, "stages", total_steps=total_steps)
    if rotation_every is not None:
        options.check_count("stages.rotation_every", rotation_every)
        stages = dataclasses.replace(stages, rotation_every=rotation_every)
    optimizer_arguments = options.call(_optimizer, optimizer_options, "optimizer", total_steps=total_steps)
    freeze = optimizer_arguments["gamma"] == 0

    options.check(networks.build, model_options, "model", ("image_shape", "freeze"))
    groups = len(networks.group_sizes(model_options["latents"], model_options["groups"]))
    if len(stages) > groups:
        raise ValueError(f"{len(stages)} stages for {groups} encoder groups: each stage opens one group")

    source_name, source_options = _take(data_options, "name", "data")
    if source_options.get("only") is not None:
        options.check_section("data.only", source_options["only"])
    if source is None:
        source = data.get(source_name, **source_options)
    if not isinstance(source, Source | SourceDescription):
        raise ValueError(f"data.name {source_name!r} makes no Source but {options.short_repr(source)}")
    objective_name, objective_rest = _take(objective_options, "name", "objective")

    model = networks.build(source.image_shape, freeze=freeze, **model_options)
    context = {"latents": model.num_latents, "num_images": source.num_images}
    objective = registry.get(objective_name, stages.beta, **context, **objective_rest)

    if rotation_every is not None and not objective.rotation_safe:
        raise ValueError(
            f"stages.rotation_every turns latents, which the objective {objective_name!r} knows apart; leave it out "
            "(one that treats them alike says so, by rotation_safe)"
        )

    def optimizer(stage: int):
        return training_optimizer.deft_optimizer(
            stages=stages,
            stage=stage,
            num_groups=groups,
            objective_optimizer=objective.optimizer,
            **optimizer_arguments,
        )

    return Experiment(
        source=source,
        model=model,
        objective=objective,
        stages=stages,
        optimizer=optimizer,
        batch_size=batch_size,
        seed=seed,
    )
