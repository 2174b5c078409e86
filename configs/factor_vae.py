"""FactorVAE (Kim and Mnih 2018), gamma 10.

On dSprites, or on a set named after a colon:

    python -m deft_jax.train --config configs/factor_vae.py --workdir runs/factor_vae
    python -m deft_jax.train --config configs/factor_vae.py:smallnorb --workdir runs/smallnorb_factor_vae

Published on dSprites: MIG 0.40, FactorVAE score 0.83 +- 0.01. A job for an accelerator; not run to the end with this
package.
"""

from deft_jax.studies import presets


def get_config(data=""):
    return presets.baseline("factor_vae", data, beta=1.0, gamma=10.0)
