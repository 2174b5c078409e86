"""DEFT on dSprites with betas and groups chosen without labels: four latents, ten minutes on one CPU core.

    python -m deft_jax.train --config configs/dsprites_sized.py --workdir runs/sized

`python -m deft_jax.annealing --config configs/ifp_dsprites.py` has two latents freeze above beta 51.1, one more above
18.9 and none after it, so the groups are (2, 1, 1): position, size, and one latent for the orientation of the
ellipse, which depends on shape. Beta falls from 81 to 1.9. Of four seeds
three end at a MIG of 0.38 to 0.40; in the fourth, at 0.31, size froze with two signs
(docs/experiments/latent_counts.md explains why).
"""

from deft_jax.studies import presets


def get_config():
    return presets.sized_dsprites()
