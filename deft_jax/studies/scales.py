"""Scales of a study: functions that shorten all its runs.

A scale takes a study as a ConfigDict, changes it and returns it. It fills in the seeds, metrics and num_samples that
the study leaves None. A study names its scale by 'module:function', or by a key of its field `scales`:

    def tiny(study: ConfigDict) -> ConfigDict:
        scales.fill_in(study, seeds=(0,), metrics=("mig",), num_samples=1_000)
        for run in study.runs.values():
            scales.scale_steps(run, 0.01)
            run.batch_size = 16
        return study
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

FILLED_IN = ("seeds", "metrics", "num_samples")
"""Fields of a study that it may leave to its scale."""
METRICS = ("mig", "mig_posterior", "nmi", "sap", "dci", "factor_vae")
"""Scores of a comparison, with the metrics' defaults, which are those of disentanglement_lib."""
SMALL_METRICS: Mapping[str, Mapping[str, Any]] = {
    "mig": {},
    "mig_posterior": {},
    "nmi": {},
    "sap": {},
    "dci": {"model": "linear", "num_train": 2_000},
    "factor_vae": {"num_train": 2_000, "num_eval": 1_000},
}
"""The same scores from smaller samples."""
FAST_METRICS: Mapping[str, Mapping[str, Any]] = {
    name: SMALL_METRICS[name] for name in ("mig", "mig_posterior", "dci")
} | {"foreign": {}}
"""Scores that take seconds of a small sample, and that of information diffusion."""
_SMALL_STEPS = 0.2  # of the steps, at the small scale
_ONLY_AT_STAGE_ENDS = 100_000  # steps between two evaluations: more than a shortened run has


def full(study: ConfigDict) -> ConfigDict:
    """Runs as they stand, with ten seeds: a job for accelerators."""
    fill_in(study, range(10), METRICS, 10_000)
    return study


def large(study: ConfigDict) -> ConfigDict:
    """Whole encoders, half the decoder, 40 % of the steps and a tenth of the images.

    On one CPU core a run of DEFT takes half an hour, and one of a baseline, whose encoder is four times as wide, over
    an hour.
    """
    fill_in(study, range(3), SMALL_METRICS, 10_000)
    for run in study.runs.values():
        _shorten(run, steps=0.4, rates=2)
        scale(run, "batch_size", 0.25)
        scale_widths(run, decoder_width=0.5, discriminator=0.5)
    return study


def medium(study: ConfigDict) -> ConfigDict:
    """`small` with three times as many steps."""
    return _on_small_models(study, steps=0.6)


def small(study: ConfigDict) -> ConfigDict:
    """A fifth of the steps on batches of 16, for two CPU cores in the time of a lunch.

    Batches are as in configs/quickstart.py, where the number of updates counts more than that of images. Encoders have
    three eighths of their width and the decoder a quarter; rates are four times as high and end at zero.
    """
    return _on_small_models(study, steps=_SMALL_STEPS)


def small_two_seeds(study: ConfigDict) -> ConfigDict:
    """`small` with two seeds, for images of three channels, on which a run takes longer."""
    fill_in(study, seeds=range(2))
    return small(study)


def small_ledger(study: ConfigDict) -> ConfigDict:
    """`small` with six seeds, scores of information, and as many evaluations in a run as the study has."""
    fill_in(study, range(6), ("foreign", "mig", "mig_posterior", "nmi"))
    evaluations = {name: dict(run.evaluation) for name, run in study.runs.items()}
    small(study)
    for name, run in study.runs.items():
        run.evaluation.update(evaluations[name])
        scale(run.evaluation, "every", _SMALL_STEPS)
    return study


def small_quantised(study: ConfigDict) -> ConfigDict:
    """`small` with QLAE's own learning rate: raised fourfold, it lost all latents of one seed in two."""
    qlae = [run for run in study.runs.values() if run.objective.name == "qlae"]
    rates = [run.optimizer.learning_rate for run in qlae]
    small(study)
    for run, rate in zip(qlae, rates, strict=True):
        scale_rates(run, rate / run.optimizer.learning_rate)
    return study


def small_fast_scores(study: ConfigDict) -> ConfigDict:
    """`small` with scores that take seconds, for studies of many runs."""
    fill_in(study, metrics=FAST_METRICS)
    return small(study)


def short(study: ConfigDict) -> ConfigDict:
    """3 % of the steps on an eighth of the images, a quarter of the width, four times the rate, one seed."""
    fill_in(study, (0,), ("mig", "sap"), 10_000)
    for run in study.runs.values():
        scale_steps(run, 0.03)
        scale_rates(run, 4)
        scale(run, "batch_size", 0.125)
        scale_widths(run, encoder=0.25, decoder_width=0.25, decoder_hidden=0.25, discriminator=0.1)
        _set_intervals(run, checkpoints=1_000, log=500)
    return study


def fill_in(
    study: ConfigDict,
    seeds: Sequence[int] | None = None,
    metrics: Sequence[str] | Mapping[str, Mapping[str, Any]] | None = None,
    num_samples: int | None = None,
) -> None:
    """Sets the fields of a study that are None."""
    values = {"seeds": None if seeds is None else tuple(seeds), "metrics": metrics, "num_samples": num_samples}
    for name, value in values.items():
        if study.get(name) is None:
            study[name] = value


def scale(section: ConfigDict, field: str, factor: float) -> None:
    """Multiplies a field of a section, where the section has it and it is not None.

    A whole number stays a whole number of at least 1; of a sequence, every entry is multiplied.
    """
    value = section.get(field)
    if value is not None:
        section[field] = _scaled(value, factor)


def scale_steps(run: ConfigDict, factor: float) -> None:
    """Multiplies the length of a run: its steps, those of its stages, and the periods of its objective."""
    scale(run, "total_steps", factor)
    for field in ("steps", "rotation_every"):
        scale(run.stages, field, factor)
    for field in ("ramp_steps", "period"):
        scale(run.objective, field, factor)


def scale_rates(run: ConfigDict, factor: float) -> None:
    """Multiplies all learning rates of a run."""
    for field in ("learning_rate", "decoder_learning_rate"):
        scale(run.optimizer, field, factor)
    scale(run.objective, "discriminator_learning_rate", factor)


def scale_widths(
    run: ConfigDict,
    *,
    encoder: float = 1,
    decoder_width: float = 1,
    decoder_hidden: float = 1,
    discriminator: float = 1,
) -> None:
    """Multiplies the widths of a run's networks.

    Args:
      run: a configuration of a training.
      encoder: factor for the channels and units of encoders.
      decoder_width: factor for the channels of the decoder.
      decoder_hidden: factor for the units of the decoder's dense layer.
      discriminator: factor for the units of FactorVAE's discriminator.
    """
    for field in ("width", "hidden"):
        scale(run.model, field, encoder)
    scale(run.model, "decoder_width", decoder_width)
    scale(run.model, "decoder_hidden", decoder_hidden)
    scale(run.objective, "width", discriminator)


def _on_small_models(study: ConfigDict, steps: float) -> ConfigDict:
    fill_in(study, range(3), SMALL_METRICS, 10_000)
    for run in study.runs.values():
        _shorten(run, steps=steps, rates=4)
        run.batch_size = 16
        scale_widths(run, encoder=0.375, decoder_width=0.25, decoder_hidden=0.5, discriminator=0.1)
    return study


def _shorten(run: ConfigDict, steps: float, rates: float) -> None:
    """Fewer steps at higher rates that end at zero."""
    scale_steps(run, steps)
    scale_rates(run, rates)
    run.optimizer.decay = "cosine"
    _set_intervals(run, checkpoints=2_000, log=1_000)


def _set_intervals(run: ConfigDict, checkpoints: int, log: int) -> None:
    """Steps between two checkpoints and two log lines; evaluations only at the ends of stages, of fewer images."""
    run.evaluation.every, run.evaluation.num_samples = _ONLY_AT_STAGE_ENDS, 2_000
    run.checkpoints.every, run.log_every = checkpoints, log


def _scaled(value: Any, factor: float) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_scaled(entry, factor) for entry in value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value  # reported when the run is parsed
    return max(1, round(value * factor)) if isinstance(value, int) else value * factor
