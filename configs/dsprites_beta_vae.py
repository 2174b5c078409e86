"""beta-VAE on dSprites, the baseline beside DEFT: one group of 10 latents, one stage, beta 4.

    python -m deft_jax.train --config configs/dsprites_beta_vae.py --workdir runs/dsprites_beta_vae

A job for an accelerator: at 2.5 steps a second on two CPU cores (benchmarks/training.py) it takes about 8 hours.
Its MIG has not been measured with this package; published scores of the beta-VAE lie between 0.17 and 0.38.
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.seed = 0
    config.batch_size = 256
    config.total_steps = 70_000

    config.data = ConfigDict({"name": "dsprites"})
    config.model = ConfigDict(
        {
            "latents": 10,
            "groups": (10,),
            "width": 32,
            "hidden": 256,
            "decoder_width": 32,
            "decoder_hidden": 256,
            "calibrate": False,
        }
    )
    config.objective = ConfigDict({"name": "beta_vae"})
    config.stages = ConfigDict({"rule": "steps", "betas": (4.0,), "steps": (70_000,)})
    config.optimizer = ConfigDict(
        {"learning_rate": 5e-4, "decoder_learning_rate": 5e-4, "decay": "constant", "gamma": 1.0}
    )

    config.log_every = 100
    config.evaluation = ConfigDict({"every": 2_500, "num_samples": 10_000, "seed": 0})
    config.checkpoints = ConfigDict({"every": 2_500, "keep": 3})
    return config
