"""DEFT on dSprites with betas chosen without labels and rotated latents: half an hour on one CPU core.

    python -m deft_jax.train --config configs/dsprites_annealed.py --workdir runs/annealed

The betas 51.1, 18.9, 1 are those of the whole set in `python -m deft_jax.annealing --config configs/ifp_dsprites.py`.
Position enters the first group, size the second; the third encodes the orientation of the ellipse. It is
`whole_set` of configs/studies/stages.py at the scale `large`, with rotation:
docs/experiments/betas_without_labels.md has its scores.
"""

from deft_jax.studies import presets


def get_config():
    config = presets.deft("dsprites", presets.ANNEALED_BETAS, steps=6_000, total_steps=28_000)
    config.batch_size = 64
    config.model.decoder_width = 16
    config.stages.rotation_every = 1_200
    config.optimizer.learning_rate = config.optimizer.decoder_learning_rate = 1e-3
    config.optimizer.decay = "cosine"
    return config
