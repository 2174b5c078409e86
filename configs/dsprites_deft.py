"""DEFT on dSprites with the settings of the paper: 5 groups of 2 latents, beta 70, 30, 12, 4.

    python -m deft_jax.train --config configs/dsprites_deft.py --workdir runs/dsprites_deft

A job for an accelerator: 7 to 8 hours on two CPU cores, at 2.3 to 3.0 steps a second (benchmarks.training.step).
Its MIG has not been measured with this package; three published single runs reached 0.27 to 0.37. The fifth group opens
only where a fifth beta is given.
"""

from deft_jax.studies import presets


def get_config():
    return presets.deft("dsprites", (70.0, 30.0, 12.0, 4.0))
