"""DEFT on dSprites in minutes on two CPU cores: two groups, (2, 1) latents, beta falls from 82 to 2.9.

    python -m deft_jax.train --config configs/quickstart.py --workdir runs/quickstart

Ten seeds: docs/experiments/quickstart.md.

What makes it quick: many updates on small batches (what takes longest is for posX and posY to turn onto the axes of the
first two latents, which takes updates, not images), and narrow convolutions. What makes the score: beta falls
smoothly, the first group keeps its full learning rate (gamma = 1), its latents rotate onto independent axes, and all
rates end at zero. The second group opens at beta 45, before size can enter: opened later, its latent can freeze with
two signs.
"""

from ml_collections import ConfigDict, config_dict

from deft_jax.studies import data_sections

EXPECTED = "Ten seeds had a MIG from 0.356 to 0.419 (docs/experiments/quickstart.md)."  # printed at the end of a run


def get_config():
    config = ConfigDict()
    config.seed = 0
    config.num_seeds = config_dict.placeholder(int)  # as many runs in one program, from that seed on
    config.batch_size = 16
    config.total_steps = 30_000

    config.data = data_sections.data_section("dsprites")
    config.model = ConfigDict(
        {
            "kind": config_dict.placeholder(str),  # by the data: conv, mlp, conv1d
            "layers": config_dict.placeholder(int),
            "latents": 3,
            "groups": (2, 1),
            "width": 8,
            "hidden": 64,
            "decoder_width": 8,
            "decoder_hidden": 128,
            "head_init_scale": 0.01,
            "calibrate": False,
            "dtype": "float32",
        }
    )
    config.objective = ConfigDict({"name": "beta_vae"})
    config.stages = ConfigDict(
        {"rule": "exponential", "start": 80.0, "end": 2.0, "rate": 4.5, "thresholds": (45.0,)}
    )
    config.stages.rotation_every = 1_000
    config.optimizer = ConfigDict(
        {"learning_rate": 2e-3, "decoder_learning_rate": 2e-3, "decay": "cosine", "gamma": 1.0}
    )

    config.log_every = 1_000
    config.evaluation = ConfigDict({"every": 3_000, "num_samples": 10_000, "seed": 0, "ledger": True})
    config.checkpoints = ConfigDict({"every": 3_000, "keep": 3})
    config.tracking = "none"  # or "wandb", "mlflow"
    return config
