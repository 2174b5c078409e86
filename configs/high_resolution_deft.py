"""DEFT on Falcor3D or Isaac3D at 64 pixels, betas 160, 105, 30, 1. After a colon: one of SETS.

    python -m deft_jax.train --config configs/high_resolution_deft.py --workdir runs/falcor3d_deft
    python -m deft_jax.train --config configs/high_resolution_deft.py:isaac3d --workdir runs/isaac3d_deft

Reads the unpacked folder in data/, from https://github.com/NVlabs/High-res-disentanglement-datasets; the first start
decodes the pictures into one file there. The author gives no betas for these sets: they are Color-dSprites'. Read your
own off an annealing test first. A job for an accelerator; not run with this package.
"""

from deft_jax.studies import presets

SETS = ("falcor3d", "isaac3d")


def get_config(data="falcor3d"):
    return presets.deft(data, (160.0, 105.0, 30.0, 1.0))
