"""DEFT on the disc on a grid, betas 120, 1.

    python -m deft_jax.train --config configs/translation_deft.py --workdir runs/translation_deft

The author gives no betas for this set. Its freezing spectrum starts with posX and posY, both at 312, and falls slowly
from there: the first stage lies well inside it. Other grids: --config.data.grid=honeycomb or polar.
"""

from deft_jax.studies import presets


def get_config():
    return presets.deft("translation", (120.0, 1.0), groups=(2, 2), steps=5_000, total_steps=15_000)
