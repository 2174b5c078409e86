"""DEFT on scikit-learn's digits as vectors of 64 pixels: dense layers, two groups of four latents.

    python -m deft_jax.train --config configs/digits.py --workdir runs/digits

The set comes with scikit-learn. Its label is the digit; what else varies is unknown, so compare seeds by UDR:
docs/howto/vectors.md has the commands, with the annealing test. --config.data.layout=series trains on the eight rows as
a series by convolutions along time, --config.data.layout=image on 8 x 8 images; the betas are those of vectors.
"""

from ml_collections import ConfigDict, config_dict

from deft_jax.studies import data_sections


def get_config():
    config = ConfigDict()
    config.seed = 0
    config.num_seeds = config_dict.placeholder(int)  # as many runs in one program, from that seed on
    config.batch_size = 64
    config.total_steps = 10_000

    config.data = data_sections.data_section("digits")
    config.model = ConfigDict(
        {
            "kind": config_dict.placeholder(str),  # by the data: mlp, conv1d, conv
            "layers": config_dict.placeholder(int),
            "latents": 8,
            "groups": (4, 4),
            "width": 128,
            "hidden": 128,
            "decoder_width": 128,
            "decoder_hidden": 128,
            "head_init_scale": 0.01,
            "calibrate": False,
            "dtype": "float32",
        }
    )
    config.objective = ConfigDict({"name": "beta_vae"})
    config.stages = ConfigDict(
        {"rule": "exponential", "start": 24.0, "end": 1.0, "rate": 4.0, "thresholds": (6.0,)}
    )
    config.stages.rotation_every = config_dict.placeholder(int)
    config.optimizer = ConfigDict(
        {"learning_rate": 1e-3, "decoder_learning_rate": 1e-3, "decay": "cosine", "gamma": 0.1}
    )

    config.log_every = 500
    config.evaluation = ConfigDict({"every": 1_000, "num_samples": 1_797, "seed": 0, "ledger": True})
    config.checkpoints = ConfigDict({"every": 2_500, "keep": 3})
    return config
