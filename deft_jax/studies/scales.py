"""Scales of a study: what makes its runs shorter, and comparisons of objectives."""

from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict, config_dict

from deft_jax.studies.presets import BASELINES, baseline, deft

COMPARED = ("beta_vae", "beta_tcvae", "factor_vae", "annealed_vae", "cascade_vae_c", "control_vae", "dynamic_vae",
            "devae")  # fmt: skip


# Fields of a study's runs, and scores, that make it short: 3 % of the steps, of an eighth of the images, on a quarter
# of the width, at four times the rate.
SHORT = {
    "study/seeds": (0,),
    "study/metrics": ("mig", "sap"),
    "study/num_samples": 10_000,
    "total_steps": "*0.03",
    "stages/steps": "*0.03",
    "stages/rotation_every?": "*0.03",
    "objective/ramp_steps?": "*0.03",
    "objective/period?": "*0.03",
    "objective/width?": "*0.1",
    "objective/discriminator_learning_rate?": "*4",
    "optimizer/learning_rate": "*4",
    "optimizer/decoder_learning_rate": "*4",
    "batch_size": "*0.125",
    "model/width": "*0.25",
    "model/hidden": "*0.25",
    "model/decoder_width": "*0.25",
    "model/decoder_hidden": "*0.25",
    "evaluation/every": 100_000,  # but for the end of each stage
    "evaluation/num_samples": 2_000,
    "checkpoints/every": 1_000,
    "log_every": 500,
}


# The scores of a comparison: all of them with the metrics' defaults, which are those of disentanglement_lib.
METRICS = ("mig", "mig_posterior", "nmi", "sap", "dci", "factor_vae")


# Fields of a study's runs, and scores, that two CPU cores manage in the time of a lunch: batches of 16 as in
# configs/quickstart.py, where updates count more than images, a quarter of the decoder, three eighths of the encoders,
# and rates four times as high that end at zero.
SMALL = {
    "study/seeds": (0, 1, 2),
    "study/num_samples": 10_000,
    "study/metrics": {
        "mig": {},
        "mig_posterior": {},
        "nmi": {},
        "sap": {},
        "dci": {"model": "linear", "num_train": 2_000},
        "factor_vae": {"num_train": 2_000, "num_eval": 1_000},
    },
    "total_steps": "*0.2",
    "stages/steps?": "*0.2",
    "stages/rotation_every?": "*0.2",
    "objective/ramp_steps?": "*0.2",
    "objective/period?": "*0.2",
    "objective/width?": "*0.1",
    "objective/discriminator_learning_rate?": "*4",
    "optimizer/decay": "cosine",
    "optimizer/learning_rate": "*4",
    "optimizer/decoder_learning_rate": "*4",
    "batch_size": 16,
    "model/width": "*0.375",
    "model/hidden": "*0.375",
    "model/decoder_width": "*0.25",
    "model/decoder_hidden": "*0.5",
    "evaluation/every": 100_000,  # but for the end of each stage
    "evaluation/num_samples": 2_000,
    "checkpoints/every": 2_000,
    "log_every": 1_000,
}


# The same with three times as many steps.
_LASTING = ("total_steps", "stages/steps?", "stages/rotation_every?", "objective/ramp_steps?", "objective/period?")


MEDIUM = SMALL | dict.fromkeys(_LASTING, "*0.6")


# Whole encoders on half the decoder, and a tenth of the images of the whole thing: on one CPU core half an hour a run
# of DEFT, and over an hour one of a baseline, whose encoder is four times as wide.
LARGE = (
    {field: value for field, value in SMALL.items() if not field.startswith("model/")}
    | dict.fromkeys(_LASTING, "*0.4")
    | dict.fromkeys(("optimizer/learning_rate", "optimizer/decoder_learning_rate"), "*2")
    | {"objective/discriminator_learning_rate?": "*2", "objective/width?": "*0.5"}
    | {"batch_size": "*0.25", "model/decoder_width": "*0.5"}
)


FULL = {"study/seeds": tuple(range(10)), "study/num_samples": 10_000, "study/metrics": METRICS}


def study(
    runs: Mapping[str, ConfigDict], scales: Mapping[str, Mapping] | None = None, scale: str = "full"
) -> ConfigDict:
    """A study of these runs, as deft_jax.sweep takes it: 10 seeds of the whole thing, or 3 at --config.scale=small.

    scales: name -> what that scale changes; FULL, LARGE, MEDIUM and SMALL unless given. scale: the one to take unless
      told.
    """
    scales = {"full": FULL, "large": LARGE, "medium": MEDIUM, "small": SMALL} if scales is None else scales
    return ConfigDict(
        {
            "runs": dict(runs),
            "seeds": config_dict.placeholder(tuple),  # None: as the scale says
            "metrics": config_dict.placeholder(tuple),
            "num_samples": config_dict.placeholder(int),
            "pack": config_dict.placeholder(int),
            "only": config_dict.placeholder(tuple),  # names of runs, all unless given
            "set": config_dict.placeholder(tuple),  # fields of all runs, as "model.width=16" or "batch_size=*2"
            "scale": scale,
            "scales": {name: dict(fields) for name, fields in scales.items()},
        }
    )


def comparison(
    data: str, betas: Sequence[float], *, small_seeds: Sequence[int] = SMALL["study/seeds"], **deft_options
) -> ConfigDict:
    """A study of DEFT with these betas and of its baselines on one set.

    small_seeds: seeds at the small scale; fewer where runs take longer. deft_options: of `deft`.
    """
    runs = {"deft": deft(data, betas, **deft_options)}
    for objective in COMPARED:
        runs[objective] = baseline(objective, data, **BASELINES[objective])
    made = study(runs)
    made.scales.small["study/seeds"] = tuple(small_seeds)
    return made
