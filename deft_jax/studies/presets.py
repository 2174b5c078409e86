"""Settings of the literature by name, from which the files in configs/ are made.

A preset is a whole configuration of a training (ml_collections.ConfigDict); whatever is in it can be set anew from the
command line, for example --config.batch_size=64.
"""

from collections.abc import Sequence

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
HEAD_INIT_SCALES = {"noisy_dsprites": 0.01}


# What the annealing test of the whole of dSprites found, without labels: betas, and how many latents froze in each
# stage. The fall passes them all; it starts below the highest freezing point, where the sweep found it.
ANNEALED_BETAS = (51.1, 18.9, 1.0)


ANNEALED_GROUPS = (2, 1, 1)


ANNEALED_FALL = {"rule": "exponential", "start": 80.0, "end": 1.0, "rate": 4.5, "thresholds": ANNEALED_BETAS[:-1]}


# The stages of `deft` with betas (70, 30, 12, 4) on dSprites as one curve from 71 to 4.5, which passes those betas
# where the stages would begin.
SMOOTH_FALL = {"rule": "exponential", "start": 70.0, "end": 1.0, "rate": 3.0, "thresholds": (30.0, 12.0, 6.0)}


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
                "head_init_scale": HEAD_INIT_SCALES.get(data, 1.0),
                "calibrate": False,
                "dtype": "float32",
            }
            | model,
            "objective": objective,
            "stages": {"rule": "steps", "rotation_every": config_dict.placeholder(int)} | stages,
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


def with_rotation(config: ConfigDict, every: int = 3_000) -> ConfigDict:
    """The training with its latents rotated onto independent axes: four times in a stage of `deft`."""
    config.stages.rotation_every = every
    return config


def baseline(
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


# The baselines of DEFT and their settings on dSprites in the literature: arguments of `baseline`.
BASELINES = {
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
