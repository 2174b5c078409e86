"""Settings of the literature by name, from which the files in configs/ are made.

A preset is a whole configuration of a training (ml_collections.ConfigDict); whatever is in it can be set anew from the
command line, for example --config.batch_size=64.
"""

from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict, config_dict

from deft_jax import data as data_sets

# What each set is trained on, as deft_jax.data.get takes it. The last ones are read from files of yours.
DATA = {
    "dsprites": {"name": "dsprites"},
    "color_dsprites": {"name": "color_dsprites"},
    "noisy_dsprites": {"name": "noisy_dsprites"},
    "scream_dsprites": {"name": "scream_dsprites"},
    "correlated": {"name": "correlated"},
    "translation": {"name": "translation", "grid": "cartesian"},
    "xy_squares": {"name": "xy_squares", "spacing": 8},
    "smallnorb": {"name": "smallnorb"},
    "shapes3d": {"name": "shapes3d"},
    "cars3d": {"name": "cars3d"},
    "archive": {"name": "archive", "path": "data/archive.npz"},
    "folder": {"name": "folder", "path": "data/pictures", "size": 64, "channels": 3},
    "chairs": {"name": "folder", "path": "data/chairs", "size": 64, "channels": 1},
    "celeba": {"name": "folder", "path": "data/celeba", "size": 64, "channels": 3, "crop": 148},
}

# Variance of an encoder's first means, 1 unless told here: plain dense layers have a third in PyTorch and nearly two in
# TensorFlow 1. Where every pixel has noise of its own, means of that size are noise, and the KL shuts them for the rest
# of a short run.
SPREADS = {"noisy_dsprites": 0.01}

# What the annealing test of the whole of dSprites found, without labels: betas, and how many latents froze in each
# stage. The fall passes them all; it starts below the highest freezing point, where the sweep found it.
FOUND = (51.1, 18.9, 1.0)
FOUND_GROUPS = (2, 1, 1)
FOUND_FALL = {"rule": "exponential", "start": 80.0, "end": 1.0, "rate": 4.5, "thresholds": FOUND[:-1]}

# The stages of `deft` with betas (70, 30, 12, 4) on dSprites as one curve from 71 to 4.5, which passes those betas
# where the stages would begin.
FALL = {"rule": "exponential", "start": 70.0, "end": 1.0, "rate": 3.0, "thresholds": (30.0, 12.0, 6.0)}


def data_section(data: str = "dsprites") -> ConfigDict:
    """The section `data` of a configuration: what DATA holds of this set, and every option of every set.

    Options that DATA does not set are None, which stands for the default of the set's function; so data.name and what
    belongs to it can be set on the command line in any configuration: --config.data.name=archive
    --config.data.path=FILE.npz --config.data.images=arr_0.

    Args:
      data: a key of DATA.

    Raises:
      ValueError: the set is unknown.
    """
    if data not in DATA:
        raise ValueError(f"unknown data set {data!r} after the colon; known: {', '.join(DATA)}")
    unset = {option: config_dict.placeholder(kind) for option, kind in data_sets.option_types().items()}
    section = ConfigDict({"name": DATA[data]["name"], **unset})
    section.update(DATA[data])
    return section


def _training(
    data: str, objective: dict, stages: dict, model: dict, optimizer: dict, batch_size: int, total_steps: int
) -> ConfigDict:
    return ConfigDict(
        {
            "seed": 0,
            "num_seeds": config_dict.placeholder(int),
            "batch_size": batch_size,
            "total_steps": total_steps,
            "data": data_section(data),
            "model": {
                "decoder_width": 32,
                "decoder_hidden": 256,
                "spread": SPREADS.get(data, 1.0),
                "calibrate": False,
                "dtype": "float32",
            }
            | model,
            "objective": objective,
            "stages": {"rule": "steps", "turn_every": config_dict.placeholder(int)} | stages,
            "optimizer": {"decay": "constant", "weight_decay": 0.0} | optimizer,
            "log_every": 100,
            "evaluation": {"every": 2_500, "num_samples": 10_000, "seed": 0},
            "checkpoints": {"every": 2_500, "keep": 3},
        }
    )


def deft(
    data: str,
    betas: Sequence[float],
    *,
    steps: int | Sequence[int] = 15_000,
    total_steps: int = 70_000,
    groups: Sequence[int] = (2, 2, 2, 2, 2),
    gamma: float = 0.1,
) -> ConfigDict:
    """DEFT: a stage a beta, each opening one more encoder of base width 8.

    steps: length of every stage, or of each; the last lasts to total_steps.
    Defaults are those of the author's code (Wu et al. 2022): 5 groups of 2 latents, batches of 256, Adam at 5e-4. A
    group beyond the betas never opens.
    """
    return _training(
        data,
        {"name": "deft"},
        {"betas": tuple(betas), "steps": (steps,) if isinstance(steps, int) else tuple(steps)},
        {"latents": sum(groups), "groups": tuple(groups), "width": 8, "hidden": 64},
        {"learning_rate": 5e-4, "decoder_learning_rate": 5e-4, "gamma": gamma},
        256,
        total_steps,
    )


def turned(config: ConfigDict, every: int = 3_000) -> ConfigDict:
    """The training with its latents turned onto independent axes (axes.py): four times in a stage of `deft`."""
    config.stages.turn_every = every
    return config


def rival(
    objective: str,
    data: str = "",
    *,
    beta: float,
    total_steps: int = 70_000,
    learning_rate: float = 5e-4,
    weight_decay: float = 0.0,
    **options,
) -> ConfigDict:
    """An objective on one encoder of base width 32 with 10 latents, in one stage at `beta`; dSprites unless told.

    data: a key of DATA. options: of the objective. Batches, steps, Adam's rate and the start of the encoder are those
    of DEFT, so that a table compares objectives; the papers' own numbers of steps lie between 70,000 and 300,000 at
    batches of 64.
    """
    return _training(
        data or "dsprites",
        {"name": objective, **options},
        {"betas": (beta,), "steps": (total_steps,)},
        {"latents": 10, "groups": (10,), "width": 32, "hidden": 256},
        {
            "learning_rate": learning_rate,
            "decoder_learning_rate": learning_rate,
            "gamma": 1.0,
            "weight_decay": weight_decay,
        },
        256,
        total_steps,
    )


# The rivals of DEFT and their settings on dSprites in the literature: arguments of `rival`.
RIVALS = {
    "beta_vae": {"beta": 4.0},
    "annealed_vae": {"beta": 100.0, "capacity": 25.0, "ramp_steps": 30_000},
    "factor_vae": {"beta": 1.0, "gamma": 10.0, "width": 1_000, "discriminator_learning_rate": 1e-4},
    "beta_tcvae": {"beta": 6.0},
    "dip_vae_i": {"beta": 1.0, "lambda_od": 10.0, "lambda_d": 100.0},
    "dip_vae_ii": {"beta": 1.0, "lambda_od": 10.0, "lambda_d": 10.0},
    "cascade_vae_c": {"beta": 1.0, "beta_high": 10.0, "period": 6_000},
    "control_vae": {"beta": 1.0, "kl_target": 18.0, "period": 500},
    "dynamic_vae": {"beta": 0.1, "kl_target": 20.0, "period": 500, "ramp_steps": 100},
    "devae": {"beta": 1.0, "betas": (10.0, 40.0)},
    "qlae": {"beta": 0.41, "num_values": 10, "learning_rate": 1e-3, "weight_decay": 0.1},
}


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
    "stages/turn_every?": "*0.03",
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
    "stages/turn_every?": "*0.2",
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
_LASTING = ("total_steps", "stages/steps?", "stages/turn_every?", "objective/ramp_steps?", "objective/period?")
MEDIUM = SMALL | dict.fromkeys(_LASTING, "*0.6")
# Whole encoders on half the decoder, and a tenth of the images of the whole thing: on one CPU core half an hour a run
# of DEFT, and over an hour one of a rival, whose encoder is four times as wide.
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
    """A study of DEFT with these betas and of its rivals on one set.

    small_seeds: seeds at the small scale; fewer where runs take longer. deft_options: of `deft`.
    """
    runs = {"deft": deft(data, betas, **deft_options)}
    for objective in COMPARED:
        runs[objective] = rival(objective, data, **RIVALS[objective])
    made = study(runs)
    made.scales.small["study/seeds"] = tuple(small_seeds)
    return made
