"""beta-TCVAE (Chen et al. 2018) on dSprites with the network, batches and steps of configs/quickstart.py.

    python -m deft_jax.train --config configs/dsprites_tcvae.py --workdir runs/tcvae

A rival to look at beside DEFT in minutes: beta 6, ten latents, one encoder, no rotation of the latents.
configs/beta_tcvae.py is the same objective at full size.
"""

from deft_jax.studies import presets


def get_config():
    config = presets.baseline("beta_tcvae", beta=6.0, total_steps=30_000, learning_rate=2e-3, estimator="weighted")
    config.batch_size = 16
    config.model.update({"width": 8, "hidden": 64, "decoder_width": 8, "decoder_hidden": 128})
    config.optimizer.decay = "cosine"
    config.log_every = 1_000
    config.evaluation.every = config.checkpoints.every = 3_000
    return config
