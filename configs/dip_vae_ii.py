"""DIP-VAE II (Kumar et al. 2018).

On dSprites, or on a set named after a colon:

    python -m deft_jax.train --config configs/dip_vae_ii.py --workdir runs/dip_vae_ii
    python -m deft_jax.train --config configs/dip_vae_ii.py:smallnorb --workdir runs/smallnorb_dip_vae_ii

Settings from the middle of disentanglement_lib's sweep. A job for an accelerator; not run to the end with this package.
"""

from deft_jax.studies import presets


def get_config(data=""):
    return presets.baseline("dip_vae_ii", data, beta=1.0, lambda_od=10.0, lambda_d=10.0)
