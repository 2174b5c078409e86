"""From a configuration to a checked experiment. All that can be refused is refused here, before anything compiles."""

from collections.abc import Mapping

from deft_jax import data, models, objectives, optim, schedules
from deft_jax.steps import Experiment

STAGE_RULES = {"steps": schedules.fixed_stages, "exponential": schedules.exponential_stages}
DECAYS = ("constant", "cosine")


def _learning_rate(value: float, decay: str, total_steps: int, name: str) -> schedules.Schedule:
    if not value > 0:
        raise ValueError(f"optimizer.{name} must be above 0, got {value}")
    if decay not in DECAYS:
        raise ValueError(f"unknown optimizer.decay {decay!r}; known: {', '.join(DECAYS)}")
    return schedules.cosine(value, total_steps) if decay == "cosine" else schedules.constant(value)


def _stages(rule: str, total_steps: int, **options) -> schedules.Stages:
    if rule not in STAGE_RULES:
        raise ValueError(f"unknown stages.rule {rule!r}; known: {', '.join(sorted(STAGE_RULES))}")
    try:
        return STAGE_RULES[rule](**options, total_steps=total_steps)
    except TypeError as error:
        raise ValueError(f"stages with rule {rule!r}: {error}") from None


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
) -> Experiment:
    """The experiment of these options; the configs in configs/ show the names in each.

    Raises ValueError in one line where a name is unknown or numbers do not fit together: betas that do not fall,
    more stages than groups, latents that do not divide, a gamma outside [0, 1].
    """
    if batch_size < 1 or total_steps < 1:
        raise ValueError(f"batch_size and total_steps must be at least 1, got {batch_size} and {total_steps}")
    stages = _stages(total_steps=total_steps, **stage_options)
    options = dict(optimizer_options)
    gamma = options.pop("gamma")
    if not 0 <= gamma <= 1:
        raise ValueError(f"optimizer.gamma must lie between 0 (frozen) and 1, got {gamma}")
    decay = options.pop("decay")
    rate = _learning_rate(options.pop("learning_rate"), decay, total_steps, "learning_rate")
    decoder_rate = _learning_rate(options.pop("decoder_learning_rate"), decay, total_steps, "decoder_learning_rate")

    sizes = models.group_sizes(model_options["latents"], model_options["groups"])
    if len(stages) > len(sizes):
        raise ValueError(f"{len(stages)} stages for {len(sizes)} encoder groups: each stage opens one group")

    source = data.get(**data_options)
    model = models.build(source.image_shape, freeze=gamma == 0, **model_options)

    def optimizer(stage: int):
        return optim.deft_optimizer(
            stages=stages,
            stage=stage,
            num_groups=len(sizes),
            learning_rate=rate,
            decoder_learning_rate=decoder_rate,
            gamma=gamma,
            **options,
        )

    return Experiment(
        source=source,
        model=model,
        objective=objectives.get(beta=stages.beta, **objective_options),
        stages=stages,
        optimizer=optimizer,
        batch_size=batch_size,
        seed=seed,
    )
