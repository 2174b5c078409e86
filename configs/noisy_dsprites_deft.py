"""DEFT on Noisy-dSprites, betas 20, 9, 3.5, 1.

    python -m deft_jax.train --config configs/noisy_dsprites_deft.py --workdir runs/noisy_dsprites_deft

The author gives no betas for this set: these are dSprites' in the ratio of the two freezing spectra, whose first modes
lie at 56 and 197 (python -m deft_jax.annealing --config configs/ifp_dsprites.py:noisy_dsprites). Its sweep of the whole
set, without labels, finds 21.7, 12.1, 4.27, 1. A job for an accelerator; not run to the end with this package.
"""

from deft_jax.studies import presets


def get_config():
    return presets.deft("noisy_dsprites", (20.0, 9.0, 3.5, 1.0))
