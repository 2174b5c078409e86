"""The configuration of a training: typed, checked as a whole before anything compiles.

`parse_training` is the only place where a mapping becomes a configuration; everything below it takes a TrainingConfig.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from deft_jax import data, metrics, objectives
from deft_jax.evaluation import scores
from deft_jax.models import kinds, networks
from deft_jax.runtime import validation
from deft_jax.runtime.files import to_jsonable
from deft_jax.runtime.validation import (
    ConfigErrors,
    Count,
    Flag,
    NonNegative,
    NonNegativeInt,
    Positive,
    Text,
    section,
)
from deft_jax.training import schedules
from deft_jax.training.schedules import Stages

# Fields that may change when a run is resumed: they determine what is written, not what is learned.
RESUMABLE_CHANGES = ("log_every", "checkpoints", "evaluation", "periodic_metrics", "tracking")

Counts = Count | Annotated[tuple[Count, ...], Field(min_length=1)]
Beta = NonNegative
Kind = Literal["conv", "mlp", "conv1d"]


def named_options(values: Any, *fields: str) -> Any:
    """{'name': ..., option: ...} -> {'name': ..., 'options': {...}}.

    Args:
      values: a section as the user writes it; anything else than a mapping is returned unchanged.
      fields: of the section; all others are options, of which those that are None are left out.
    """
    if not isinstance(values, Mapping):
        return values
    options = {field: value for field, value in values.items() if field not in fields and value is not None}
    return {field: values[field] for field in fields if field in values} | {"options": options}


@section
class NamedOptions:
    """A function by name, and options for it."""

    name: Text
    """A registered name, or 'module:function' for a function of the user."""
    options: Mapping[str, Any]
    """Options of that function, written beside the name; validated against its signature."""


@section
class DataConfig(NamedOptions):
    """The data set that is trained on: its name in deft_jax.data, and its options."""

    only: Mapping[str, Any] | None = None
    """Subset of the data: factor -> index, indices or 'start:stop:step'. Default: None, the whole set."""


@section
class ModelConfig:
    """Encoders of the groups, and the decoder that they share. Wu et al. 2022, section 4."""

    kind: Kind | None = None
    """'conv', 'mlp' or 'conv1d' (along time). Default: None, conv for images, mlp for vectors, conv1d for series."""
    layers: Annotated[Count, Field(le=kinds.MOST_LAYERS)] | None = None
    """Stride-2 layers of 'conv' and 'conv1d', 1 to 8; sizes are padded to multiples of 2^layers. Default: None, 4."""
    latents: Annotated[Count, Field(le=10_000)]
    """Number of latents D of all groups together, 1 to 10,000."""
    groups: Counts
    """Number of equal groups, at least 1, or latents per group, which add up to `latents`; stage k opens group k."""
    width: Counts
    """Channels of an encoder's first two convolutions, half those of the others; units of mlp's first layer; >= 1."""
    hidden: Counts
    """Units of an encoder's (last) dense layer, at least 1; one number for all groups or one per group."""
    decoder_width: Count
    """Channels of the decoder's last hidden layers, half those of the first ones; units of mlp's last one; >= 1."""
    decoder_hidden: Count
    """Units of the decoder's (first) dense layer, at least 1."""
    calibrate: Flag = False
    """Whether frozen groups have a learned scale and shift per latent (authors' code, 2022); needs gamma = 0."""
    head_init_scale: Positive = 0.01
    """Variance of the posteriors' means and logvars at the start relative to that of the layer below, above 0."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type that layers compute in; parameters, posteriors, losses and the optimiser are always float32."""

    @property
    def group_sizes(self) -> tuple[int, ...]:
        """Latents of each group. Raises ValueError where they do not add up."""
        return networks.group_sizes(self.latents, self.groups)


@section
class FixedStages:
    """Stages of a fixed number of steps, each at its own beta. Wu et al. 2022, algorithm 1."""

    rule: Literal["steps"]
    """Selects stages of a fixed number of steps."""
    betas: Annotated[tuple[Beta, ...], Field(min_length=1)]
    """Weight of the KL per stage, >= 0, strictly falling; KL and reconstruction loss in nats, summed over pixels."""
    steps: Counts
    """Steps of each stage, at least 1, or one number for all; the last stage lasts to total_steps."""
    open_groups: Flag = True
    """Whether each beta opens a stage and a group; False: beta falls within one stage of a model with one group."""
    rotation_every: Count | None = None
    """Steps between two rotations of the open group onto independent axes (Comon 1994), >= 1. Default: None, never."""

    def stages(self, total_steps: int) -> Stages:
        """The schedule of beta and the stages. Raises ValueError where the numbers do not fit each other."""
        stages = schedules.fixed_stages(self.betas, self.steps, total_steps)
        starts = stages.starts if self.open_groups else (0,)
        return dataclasses.replace(stages, starts=starts, rotation_every=self.rotation_every)


@section
class ExponentialStages:
    """beta = start exp(-rate step / total_steps) + end; a stage opens where beta has passed its threshold."""

    rule: Literal["exponential"]
    """Selects an exponential fall of beta."""
    start: Positive
    """Beta at step 0 minus `end`, above 0; weight of the KL in nats, as `betas` of the rule 'steps'."""
    end: NonNegative
    """Asymptote of beta, at least 0."""
    rate: Positive
    """How often beta - end falls by the factor e within total_steps, above 0."""
    thresholds: tuple[Beta, ...]
    """Betas at which stages 1, 2, ... open, strictly falling, between the last and the first beta; () for one stage."""
    rotation_every: Count | None = None
    """Steps between two rotations of the open group onto independent axes (Comon 1994), >= 1. Default: None, never."""

    def stages(self, total_steps: int) -> Stages:
        """The schedule of beta and the stages. Raises ValueError where the numbers do not fit each other."""
        stages = schedules.exponential_stages(self.start, self.end, self.rate, self.thresholds, total_steps)
        return dataclasses.replace(stages, rotation_every=self.rotation_every)


@section
class OptimizerConfig:
    """Adam with a learning-rate schedule per label. Wu et al. 2022, section 4.2; Kingma and Ba 2015."""

    learning_rate: Positive
    """Learning rate of the encoder group that the stage has opened, at step 0, above 0."""
    decoder_learning_rate: Positive
    """Learning rate of the decoder at step 0, above 0."""
    gamma: Annotated[NonNegative, Field(le=1)]
    """Factor on the learning rate of groups whose stage is over, 0 (frozen) to 1. Wu et al. 2022, section 4.2."""
    decay: Literal["constant", "cosine"] = "constant"
    """Schedule of all learning rates: constant, or along half a cosine to 0 at total_steps."""
    weight_decay: NonNegative = 0.0
    """Weight decay of AdamW, multiplied by the learning rate, at least 0; 0 is Adam. Loshchilov and Hutter 2019."""
    b1: Annotated[NonNegative, Field(lt=1)] = 0.9
    """Decay of Adam's first moment per step, from 0 to below 1. Kingma and Ba 2015."""
    b2: Annotated[NonNegative, Field(lt=1)] = 0.999
    """Decay of Adam's second moment per step, from 0 to below 1. Kingma and Ba 2015."""
    eps: Positive = 1e-8
    """Added to the root of Adam's second moment, above 0. Kingma and Ba 2015."""


@section
class EvaluationConfig:
    """Evaluations while training: MIG, NMI, the decomposition of the KL, and the ledger of information diffusion."""

    every: Count
    """Steps between two evaluations, at least 1; the end of each stage is evaluated as well."""
    num_samples: Annotated[Count, Field(ge=2)]
    """Images encoded for one evaluation, at least 2."""
    seed: NonNegativeInt = 0
    """Seed of the draw of these images, at least 0."""
    ledger: Flag = True
    """Whether home and foreign information of each latent is logged, in nats; 0.1 s per latent in use."""


@section
class CheckpointsConfig:
    """Checkpoints: what a run resumes from."""

    every: Count
    """Steps between two checkpoints, at least 1; the end of each stage is saved as well."""
    keep: Count = 3
    """How many of the newest checkpoints are kept, at least 1."""


@section
class SupervisionConfig:
    """Labels of a few images, beside all images without. Locatello et al. 2020, arXiv 1905.01258, section 3."""

    labels: Count
    """Number of images whose labels are known, at least 1; 100 and 1,000 in the paper."""
    weight: NonNegative
    """Weight of the cross-entropy between latents and factors, at least 0, in a loss in nats."""
    batch_size: Count = 64
    """Labelled images per step over all devices, at least 1; a multiple of the number of devices."""
    factors: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    """Factors that are labelled; the first belongs to latent 0, and so on. Default: None, all."""
    seed: NonNegativeInt = 0
    """Seed of the draw of the labelled images, at least 0; the same for all seeds of a run."""


@section
class PeriodicMetric:
    """A metric that is computed while training."""

    every: Count
    """Steps between two evaluations of the metric, at least 1."""
    options: Mapping[str, Any]
    """Options of the metric, written beside `every`; validated against its signature."""


@section
class TrainingConfig:
    """A training: everything that `python -m deft_jax.train` needs."""

    seed: NonNegativeInt
    """Seed of all random numbers of the run, at least 0."""
    batch_size: Count
    """Images per step over all devices, at least 1; a multiple of the number of devices."""
    total_steps: Count
    """Steps of the whole run, at least 1; the last stage must have started before."""
    data: Annotated[DataConfig, BeforeValidator(lambda values: named_options(values, "name", "only"))]
    """The data set: its name in deft_jax.data, and its options."""
    model: ModelConfig
    """The encoders of the groups, and the decoder."""
    objective: Annotated[NamedOptions, BeforeValidator(lambda values: named_options(values, "name"))]
    """The training objective: its name in deft_jax.objectives, and its options."""
    stages: Annotated[FixedStages | ExponentialStages, Field(discriminator="rule")]
    """The schedule of beta, and the steps at which groups open; `rule` selects its fields."""
    optimizer: OptimizerConfig
    """The optimiser: Adam, and its learning rates."""
    log_every: Count
    """Steps between two training records and lines on the terminal, at least 1."""
    evaluation: EvaluationConfig
    """The evaluations while training."""
    checkpoints: CheckpointsConfig
    """When checkpoints are saved, and how many are kept."""
    periodic_metrics: (
        Mapping[str, Annotated[PeriodicMetric, BeforeValidator(lambda values: named_options(values, "every"))]] | None
    ) = None
    """Further metrics computed while training: name in deft_jax.metrics -> section. Default: None."""
    supervision: SupervisionConfig | None = None
    """Labels of a few images that are trained on as well. Default: None, no label is used."""
    num_seeds: Count | None = None
    """Runs with consecutive seeds from `seed` that train in one program, at least 1. Default: None, one run."""
    tracking: Literal["wandb", "mlflow", "none"] = "none"
    """Library that tracks the run as well: Weights & Biases or MLflow, from the extra of that name."""

    def to_mapping(self) -> dict[str, Any]:
        """The configuration as the user writes it: what config.json holds, and what `parse_training` takes."""
        values = dataclasses.asdict(self)
        for named in (values["data"], values["objective"], *(values["periodic_metrics"] or {}).values()):
            named |= named.pop("options")
        for name in ("num_seeds", "periodic_metrics", "supervision"):
            if values[name] is None:
                del values[name]
        if values["tracking"] == "none":  # as in workdirs of versions without this field
            del values["tracking"]
        return to_jsonable(values)

    def with_seed(self, seed: int) -> "TrainingConfig":
        """The configuration of a single run with this seed."""
        return dataclasses.replace(self, seed=seed, num_seeds=None)


def parse_training(config: Any) -> TrainingConfig:
    """The configuration of a training from what a user gives.

    Args:
      config: a ConfigDict, a mapping of the same fields, or a TrainingConfig, which is returned as it is.

    Raises:
      ConfigErrors: one line per fault: a field that is missing, unknown, of another type or out of bounds, an unknown
        name, an option that its function does not take, numbers that do not fit each other.
    """
    if isinstance(config, TrainingConfig):
        return config
    values = validation.mapping_of(config)
    lines: list[str] = []
    parsed = None
    try:
        parsed = validation.parse(TrainingConfig, values)
    except ConfigErrors as error:
        lines += error.lines
    if isinstance(values, Mapping):
        lines += _option_faults(values)
    if parsed is not None:
        lines += _combination_faults(parsed, lines)
    if lines or parsed is None:
        raise ConfigErrors(list(dict.fromkeys(lines)))
    return parsed


def option_faults(
    path: str, section: Any, function_of: Callable[[str], Callable[..., Any]], given: Sequence[str], *fields: str
) -> list[str]:
    """Faults of a name and of the options beside it.

    Args:
      path: of the section.
      section: a mapping with a name and options; anything else has no faults here.
      function_of: name -> the function whose signature the options are validated against.
      given: parameters of the function that are no options.
      fields: of the section that are no options.
    """
    if not isinstance(section, Mapping) or not isinstance(section.get("name"), str):
        return []  # reported with the types
    try:
        options = {field: value for field, value in section.items() if field not in fields and value is not None}
        validation.options_of(function_of(section["name"]), options, path, given)
    except ConfigErrors as error:
        return list(error.lines)
    except ValueError as error:
        return [f"{path}.name: {error}"]
    return []


def _option_faults(values: Mapping[str, Any]) -> list[str]:
    """Faults of names and of the options beside them."""
    lines: list[str] = []
    lines += option_faults("data", values.get("data"), data.function_of, (), "name", "only")
    context = ("beta", "latents", "num_images")
    lines += option_faults("objective", values.get("objective"), objectives.function_of, context, "name")
    periodic = values.get("periodic_metrics")
    for name, part in periodic.items() if isinstance(periodic, Mapping) else ():
        if not isinstance(part, Mapping):
            continue  # reported with the types
        try:
            if metrics.kind(name) == "runs":
                raise ValueError("compares several runs: score them with deft_jax.evaluate")
            options = {field: value for field, value in part.items() if field != "every"}
            validation.options_of(metrics.get(name), options, f"periodic_metrics.{name}", metrics.CALLER_ARGUMENTS)
        except ConfigErrors as error:
            lines.extend(error.lines)
        except ValueError as error:
            lines.append(f"periodic_metrics.{name}: {error}")
    return lines


def _combination_faults(config: TrainingConfig, faults: Sequence[str]) -> list[str]:
    """Faults of fields that contradict each other; metrics that are in `faults` already are not checked."""
    lines, stages, sizes = [], None, None
    try:
        stages = config.stages.stages(config.total_steps)
    except ValueError as error:
        lines.append(str(error))
    try:
        sizes = config.model.group_sizes
    except ValueError as error:
        lines.append(f"model.groups: {error}")
    if stages is not None and sizes is not None and len(stages) > len(sizes):
        lines.append(f"stages has {len(stages)} stages for {len(sizes)} encoder groups in model.groups: "
                     "each stage opens one group")
    in_one_stage = isinstance(config.stages, FixedStages) and not config.stages.open_groups
    if in_one_stage and sizes is not None and len(sizes) > 1:
        lines.append(f"stages.open_groups must be True for the {len(sizes)} groups of model.groups, got False")
    if config.model.kind == "mlp" and config.model.layers is not None:
        lines.append("model.layers counts stride-2 convolutions, and model.kind 'mlp' has none; leave it out")
    for name in ("width", "hidden"):
        value = getattr(config.model, name)
        if sizes is not None and isinstance(value, tuple) and len(value) != len(sizes):
            lines.append(f"model.{name} must be one number or one per group, {len(sizes)}, got {len(value)}")
    if config.num_seeds is not None and config.seed + config.num_seeds - 1 > validation.INT_MAX:
        lines.append(f"num_seeds must be at most {validation.INT_MAX - config.seed + 1} from seed {config.seed} on, "
                     f"got {config.num_seeds}")
    if config.model.calibrate and config.optimizer.gamma > 0:
        lines.append("model.calibrate belongs to frozen groups: set optimizer.gamma = 0, or calibrate = False")
    if config.supervision is not None and config.stages.rotation_every is not None:
        lines.append("supervision ties factors to latents, which stages.rotation_every rotates: leave one of them out")
    for name, periodic in (config.periodic_metrics or {}).items():
        if any(line.startswith(f"periodic_metrics.{name}") for line in faults):
            continue
        for option in ("num_train", "num_neighbors"):
            count = periodic.options.get(option)
            if scores.takes_samples(name) and isinstance(count, int) and count >= config.evaluation.num_samples:
                lines.append(f"periodic_metrics.{name}.{option} must be below evaluation.num_samples = "
                             f"{config.evaluation.num_samples}, got {count}")
    return lines
