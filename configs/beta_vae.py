"""The beta-VAE of Higgins et al. 2017, beta 4; 16 does better on dSprites.

On dSprites, or on a set named after a colon:

    python -m deft_jax.train --config configs/beta_vae.py --workdir runs/beta_vae
    python -m deft_jax.train --config configs/beta_vae.py:smallnorb --workdir runs/smallnorb_beta_vae

Published MIGs on dSprites: 0.21 at best for beta 4, 0.17 to 0.38 for beta 16. A job for an accelerator; not run to the
end with this package.
"""

from deft_jax.studies import presets


def get_config(data=""):
    return presets.baseline("beta_vae", data, beta=4.0)
