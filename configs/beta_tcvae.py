"""beta-TCVAE (Chen et al. 2018), beta 6; 10 does better on dSprites.

On dSprites, or on a set named after a colon:

    python -m deft_jax.train --config configs/beta_tcvae.py --workdir runs/beta_tcvae
    python -m deft_jax.train --config configs/beta_tcvae.py:smallnorb --workdir runs/smallnorb_beta_tcvae

Published MIG on dSprites: 0.45 at best, 0.303 for beta 10. A job for an accelerator; not run to the end with this
package.
"""

from deft_jax.studies import presets


def get_config(data=""):
    return presets.baseline("beta_tcvae", data, beta=6.0, estimator="weighted")
