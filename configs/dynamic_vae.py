"""DynamicVAE (Shao et al. 2020): an incremental PI controller lets beta fall towards a KL of 20 nats.

On dSprites, or on a set named after a colon:

    python -m deft_jax.train --config configs/dynamic_vae.py --workdir runs/dynamic_vae
    python -m deft_jax.train --config configs/dynamic_vae.py:smallnorb --workdir runs/smallnorb_dynamic_vae

The target rises every 500 steps, where the authors' code has 6,000, so that it is reached within the run. A job for an
accelerator; not run to the end with this package.
"""

from deft_jax.studies import presets


def get_config(data=""):
    return presets.baseline("dynamic_vae", data, beta=0.1, kl_target=20.0, period=500, ramp_steps=100)
