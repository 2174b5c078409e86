"""Settings of the literature by name, which the files in configs/ use.

A preset is a whole configuration of a training (ml_collections.ConfigDict); each of its fields can be set on the
command line, for example --config.batch_size=64.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict, config_dict

from deft_jax.studies.data_sections import data_section

# Variance of an encoder's first means by data set; default: 1. Plain dense layers have a third of it in PyTorch and
# nearly twice as much in TensorFlow 1. Where every pixel is noisy, means of that size are noise, and the KL closes them
# for the rest of a short run.
HEAD_INIT_SCALES = {"noisy_dsprites": 0.01}

# Result of the annealing test of the whole of dSprites, without labels: betas, and the number of latents that froze in
# each stage. The exponential fall passes all of them; it starts below the highest freezing point of the sweep.
ANNEALED_BETAS = (51.1, 18.9, 1.0)

ANNEALED_GROUPS = (2, 1, 1)

ANNEALED_FALL = {"rule": "exponential", "start": 80.0, "end": 1.0, "rate": 4.5, "thresholds": ANNEALED_BETAS[:-1]}

# The stages of `deft` with betas (70, 30, 12, 4) on dSprites as one curve from 71 to 4.5, which passes those betas
# where the stages would begin.
SMOOTH_FALL = {"rule": "exponential", "start": 70.0, "end": 1.0, "rate": 3.0, "thresholds": (30.0, 12.0, 6.0)}


def _training(
    data: str,
    objective: dict[str, Any],
    stages: dict[str, Any],
    model: dict[str, Any],
    optimizer: dict[str, Any],
    total_steps: int,
) -> ConfigDict:
    return ConfigDict(
        {
            "seed": 0,
            "num_seeds": config_dict.placeholder(int),
            "batch_size": 256,
            "total_steps": total_steps,
            "data": data_section(data),
            "model": {
                "kind": config_dict.placeholder(str),  # by the data: conv, mlp, conv1d
                "layers": config_dict.placeholder(int),
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
            "evaluation": {"every": 2_500, "num_samples": 10_000, "seed": 0, "ledger": True},
            "checkpoints": {"every": 2_500, "keep": 3},
            "tracking": "none",
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
    """DEFT: one stage per beta, each of which opens one more encoder of base width 8.

    Defaults are those of the author's code (Wu et al. 2022): 5 groups of 2 latents, batches of 256, Adam at 5e-4.

    Args:
      data: a key of data_sections.DATA.
      betas: weight of the KL in each stage, in nats against a reconstruction loss summed over pixels.
      steps: length of every stage, or of each; the last stage lasts to total_steps.
      total_steps: of the run.
      groups: latents of each group; a group beyond the betas never opens.
      gamma: factor on the learning rate of groups whose stage is over.
    """
    return _training(
        data,
        {"name": "deft"},
        {"betas": tuple(betas), "steps": (steps,) if isinstance(steps, int) else tuple(steps)},
        {"latents": sum(groups), "groups": tuple(groups), "width": 8, "hidden": 64},
        {"learning_rate": 5e-4, "decoder_learning_rate": 5e-4, "gamma": gamma},
        total_steps,
    )


def with_rotation(config: ConfigDict, every: int = 3_000) -> ConfigDict:
    """Sets the rotation of latents onto independent axes. Default: four times in a stage of `deft`."""
    config.stages.rotation_every = every
    return config


def sized_dsprites(groups: Sequence[int] = ANNEALED_GROUPS) -> ConfigDict:
    """DEFT on dSprites with betas of the annealing test and as many latents as froze: configs/dsprites_sized.py.

    Args:
      groups: latents of each group.
    """
    config = deft("dsprites", ANNEALED_BETAS, total_steps=30_000, groups=groups, gamma=1.0)
    config.batch_size = 32
    config.model.decoder_width = 8
    config.model.decoder_hidden = 128
    config.model.head_init_scale = 0.01
    config.stages = ANNEALED_FALL | {"rotation_every": 2_000}
    config.optimizer.learning_rate = config.optimizer.decoder_learning_rate = 2e-3
    config.optimizer.decay = "cosine"
    config.log_every = 1_000
    config.evaluation.every = config.checkpoints.every = 3_000
    return config


def baseline(
    objective: str,
    data: str = "",
    *,
    beta: float,
    total_steps: int = 70_000,
    learning_rate: float = 5e-4,
    weight_decay: float = 0.0,
    **options: Any,
) -> ConfigDict:
    """An objective on one encoder of base width 32 with 10 latents, in one stage.

    Batches, steps, Adam's rate and the start of the encoder are those of DEFT, so that a table compares objectives; the
    numbers of steps in the papers lie between 70,000 and 300,000 at batches of 64.

    Args:
      objective: its name in deft_jax.objectives.
      data: a key of data_sections.DATA. Default: '', dSprites.
      beta: weight of the KL, in nats against a reconstruction loss summed over pixels.
      total_steps: of the run.
      learning_rate: of encoder and decoder.
      weight_decay: of AdamW.
      **options: of the objective.
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
        total_steps,
    )


# The baselines of DEFT and their settings on dSprites in the literature: arguments of `baseline`.
BASELINES: Mapping[str, Mapping[str, Any]] = {
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
    "tripod": {"beta": 0.41, "hessian_weight": 41.0, "num_values": 12, "learning_rate": 2e-4},
}


def vectors(
    data: str,
    *,
    groups: Sequence[int],
    units: int,
    start: float,
    thresholds: Sequence[float],
    num_samples: int,
    batch_size: int = 64,
    total_steps: int = 10_000,
) -> ConfigDict:
    """DEFT on vectors: dense layers, beta falls smoothly from above the highest freezing point to near 1.

    Settings of this package, not of a paper.

    Args:
      data: a key of data_sections.DATA, whose examples are vectors.
      groups: latents of each group.
      units: of all dense layers.
      start: of beta; the highest eigenvalue of the freezing spectrum is a good choice.
      thresholds: betas at which groups 1, 2, ... open.
      num_samples: examples of an evaluation.
      batch_size: examples per step.
      total_steps: of the run.
    """
    config = _training(
        data,
        {"name": "beta_vae"},
        {"rule": "exponential", "start": start, "end": 1.0, "rate": 4.0, "thresholds": tuple(thresholds)},
        {
            "latents": sum(groups),
            "groups": tuple(groups),
            "width": units,
            "hidden": units,
            "decoder_width": units,
            "decoder_hidden": units,
            "head_init_scale": 0.01,
        },
        {"learning_rate": 1e-3, "decoder_learning_rate": 1e-3, "decay": "cosine", "gamma": 0.1},
        total_steps,
    )
    config.batch_size, config.log_every = batch_size, 500
    config.evaluation.update({"every": 1_000, "num_samples": num_samples})
    return config
