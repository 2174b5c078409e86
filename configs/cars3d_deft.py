"""DEFT on Cars3D, betas 160, 105, 30, 1.

    python -m deft_jax.train --config configs/cars3d_deft.py --workdir runs/cars3d_deft

The author gives no betas for this set: these are Color-dSprites'. Read your own off an annealing test first. A job for
an accelerator; not run to the end with this package.
"""

from deft_jax.studies import presets


def get_config():
    return presets.deft("cars3d", (160.0, 105.0, 30.0, 1.0))
