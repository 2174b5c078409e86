"""The configuration of an annealing test: typed, checked as a whole before anything is measured."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from deft_jax import data
from deft_jax.models import kinds
from deft_jax.runtime import validation
from deft_jax.runtime.files import to_jsonable
from deft_jax.runtime.validation import ConfigErrors, Count, NonNegative, NonNegativeInt, Positive, Share, Text, section
from deft_jax.training.config import (
    CheckpointsConfig,
    DataConfig,
    EvaluationConfig,
    Kind,
    named_options,
    option_faults,
)

Instrument = Literal["spectrum", "trials", "whole"]
INSTRUMENTS: tuple[Instrument, ...] = ("spectrum", "trials", "whole")
LEAST_POINTS = 3
"""Points of a curve in which peaks are looked for, at least."""
SPEEDS = {"": 1, "_fast": 2}
"""Name of a sweep of the trials -> how many times the speed."""


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("must be odd, the window of a moving mean")
    return value


Window = Annotated[Count, AfterValidator(_odd)]


@section
class SpectrumConfig:
    """The freezing spectrum of the whole set: no training."""

    num_modes: Count = 64
    """Leading modes that are computed."""
    num_samples: Annotated[Count, Field(ge=2)] = 8192
    """Images that are drawn; a set with no more is taken whole."""
    share: Share = 0.4
    """Share of a mode's variance that a factor must make up for the mode to count as the factor's."""


@section
class TrialsConfig:
    """Trials of single factors: many small VAEs while beta falls. Wu et al. 2022, section 3."""

    factors: tuple[Text, ...] = ()
    """Factors to test. Default: (), all that vary."""
    num_trials: Count = 20
    """Trials per factor."""
    steps: Count = 4_000
    """Steps of a trial; the sweep is run at double speed too."""
    fall: Literal["geometric", "exponential", "linear"] = "geometric"
    """How beta falls from beta_max to beta_min."""
    beta_max: Positive | None = None
    """Where beta starts. Default: None, 15 % above the freezing spectrum."""
    beta_min: Positive = 1.0
    """Where beta ends."""
    threshold: Positive = 0.1
    """KL in nats at which information counts as frozen."""
    smooth: Window = 3
    """Points of the moving mean over a curve, odd."""
    latents: Count = 1
    """Latents of a trial's VAE."""
    hidden: Count = 32
    """Units of each hidden layer."""
    batch_size: Annotated[Count, Field(ge=2, multiple_of=2)] = 64
    """Images per step, even."""
    learning_rate: Positive = 3e-3
    """Of Adam."""
    points: Count = 200
    """Points of the KL curve."""
    checkpoint_every: Count = 1_000
    """Steps between two checkpoints."""


@section
class WholeModelConfig:
    """The VAE that is trained on the whole set."""

    latents: Count
    """Latents, in one group."""
    width: Count
    """Channels of the encoder's first two convolutions."""
    hidden: Count
    """Units of the encoder's dense layer."""
    decoder_width: Count
    """Channels of the decoder's last hidden layers."""
    decoder_hidden: Count
    """Units of the decoder's dense layer."""
    kind: Kind | None = None
    """Layers: 'conv', 'mlp' or 'conv1d'. Default: None, conv for images, mlp for vectors, conv1d for series."""
    layers: Annotated[Count, Field(le=kinds.MOST_LAYERS)] | None = None
    """Stride-2 layers of 'conv' and 'conv1d', 1 to 8. Default: None, 4."""
    head_init_scale: Positive = 0.01
    """Variance of the posteriors' means and logvars at the start, relative to that of the layer below."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What layers compute in."""


@section
class WholeOptimizerConfig:
    """Adam of the VAE on the whole set."""

    learning_rate: Positive
    """Of the encoder."""
    decoder_learning_rate: Positive
    """Of the decoder."""
    decay: Literal["constant", "cosine"] = "constant"
    """How the rates fall."""
    weight_decay: NonNegative = 0.0
    """Of AdamW."""


@section
class WholeConfig:
    """One VAE on the whole set while beta falls: freezing points without labels."""

    beta_max: Positive | None = None
    """Where beta starts. Default: None, 15 % above the freezing spectrum."""
    beta_min: Positive
    """Where beta ends."""
    threshold: Positive = 0.1
    """KL or information in nats at which a latent or a factor counts as frozen."""
    smooth: Window = 3
    """Points of the moving mean over a curve, odd."""
    batch_size: Count
    """Images per step."""
    total_steps: Count
    """Steps of the fall."""
    model: WholeModelConfig
    """The VAE."""
    optimizer: WholeOptimizerConfig
    """Its optimiser."""
    log_every: Count
    """Steps between two lines of the log."""
    evaluation: EvaluationConfig
    """Evaluations: the points of the curves that freezing points are read from."""
    checkpoints: CheckpointsConfig
    """Checkpoints."""


@section
class BetasConfig:
    """The rule by which freezing points become betas of stages (annealing/stages.py)."""

    source: Instrument
    """The instrument whose betas are written to betas.json."""
    last: NonNegative = 1.0
    """Beta of the last stage."""
    separation: Annotated[Positive, Field(ge=1)] = 1.25
    """Least ratio of two neighbouring freezing points between which a stage may end."""
    max_stages: Count = 4
    """Most stages."""


@section
class AnnealingConfig:
    """An annealing test: everything that `python -m deft_jax.annealing` needs."""

    seed: NonNegativeInt
    """Of all random numbers."""
    data: Annotated[DataConfig, BeforeValidator(lambda values: named_options(values, "name", "only"))]
    """The data set."""
    instruments: Annotated[tuple[Instrument, ...], Field(min_length=1)]
    """What is measured: any of 'spectrum', 'trials' and 'whole'."""
    spectrum: SpectrumConfig = SpectrumConfig()
    """The freezing spectrum."""
    trials: TrialsConfig = TrialsConfig()
    """Trials of single factors."""
    whole: WholeConfig | None = None
    """One VAE on the whole set; needed where it is among the instruments."""
    betas: BetasConfig
    """From freezing points to betas."""

    def to_mapping(self) -> dict[str, Any]:
        """The configuration as the user writes it: what config.json holds."""
        values = dataclasses.asdict(self)
        values["data"] |= values["data"].pop("options")
        if values["whole"] is None:
            del values["whole"]
        return to_jsonable(values)


def parse_annealing(config: Any) -> AnnealingConfig:
    """The configuration of an annealing test from what a user gives.

    Args:
      config: a ConfigDict, a mapping of the same fields, or an AnnealingConfig, which is returned as it is.

    Raises:
      ConfigErrors: one line per fault.
    """
    if isinstance(config, AnnealingConfig):
        return config
    values = validation.mapping_of(config)
    lines: list[str] = []
    parsed = None
    try:
        parsed = validation.parse(AnnealingConfig, values)
    except ConfigErrors as error:
        lines += error.lines
    if isinstance(values, Mapping):
        lines += option_faults("data", values.get("data"), data.function_of, (), "name", "only")
    if parsed is not None:
        lines += _combination_faults(parsed)
    if lines or parsed is None:
        raise ConfigErrors(list(dict.fromkeys(lines)))
    return parsed


def _combination_faults(config: AnnealingConfig) -> list[str]:
    """Faults of numbers that do not fit each other."""
    lines = []
    if config.betas.source not in config.instruments:
        lines.append(f"betas.source must be one of the instruments {', '.join(config.instruments)}, "
                     f"got {config.betas.source!r}")
    points = config.trials.points * max(SPEEDS.values())
    if config.trials.steps % points:
        lines.append(f"trials.steps must be a multiple of {points}, twice trials.points, since the sweep is run at "
                     f"double speed too, got {config.trials.steps}")
    if config.whole is None and "whole" in config.instruments:
        lines.append("the configuration lacks the section 'whole', which is among the instruments")
    for name in ("trials", "whole"):
        sweep = getattr(config, name)
        if sweep is not None and sweep.beta_max is not None and sweep.beta_min >= sweep.beta_max:
            lines.append(f"{name}.beta_min must be below {name}.beta_max = {sweep.beta_max:g}, got {sweep.beta_min:g}")
    if config.whole is not None:
        most = max(1, (config.whole.total_steps - 1) // (LEAST_POINTS - 1))
        if config.whole.evaluation.every > most or config.whole.total_steps < LEAST_POINTS:
            lines.append(
                f"whole.evaluation.every must be at most {most} for {LEAST_POINTS} evaluations, which freezing points "
                f"are read from, got {config.whole.evaluation.every}; whole.total_steps = {config.whole.total_steps}"
            )
    return lines
