"""DEFT on dSprites with betas and groups chosen without labels: four latents, ten minutes on one CPU core.

    python -m deft_jax.train --config configs/dsprites_sized.py --workdir runs/sized

`python -m deft_jax.annealing --config configs/ifp_dsprites.py` has two latents freeze above beta 51.1, one more above
18.9 and none after it, so the groups are (2, 1, 1): position, size, and one latent for the orientation of the
ellipse, which depends on shape. Beta falls from 81 to 1.9. Encoders start near the prior, so that size enters with one
sign everywhere: ten seeds have a MIG from 0.355 to 0.406 (docs/experiments/latent_counts.md).
"""

from deft_jax.studies import presets


def get_config():
    return presets.sized_dsprites()
