"""DEFT on Color-dSprites with the author's betas 160, 105, 30, 1.

    python -m deft_jax.train --config configs/color_dsprites_deft.py --workdir runs/color_dsprites_deft

A job for an accelerator; not run to the end with this package.
"""

from deft_jax.studies import presets


def get_config():
    return presets.deft("color_dsprites", (160.0, 105.0, 30.0, 1.0))
