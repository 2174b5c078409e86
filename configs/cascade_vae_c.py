"""CascadeVAE-C (Jeong and Song 2019): a latent opens every 6,000 steps, its beta falls from 10 to 1.

On dSprites, or on a set named after a colon:

    python -m deft_jax.train --config configs/cascade_vae_c.py --workdir runs/cascade_vae_c
    python -m deft_jax.train --config configs/cascade_vae_c.py:smallnorb --workdir runs/smallnorb_cascade_vae_c

Published FactorVAE score on dSprites: 0.817 +- 0.030, of its best checkpoint. A job for an accelerator; not run to the
end with this package.
"""

from deft_jax.studies import presets


def get_config(data=""):
    return presets.baseline("cascade_vae_c", data, beta=1.0, beta_high=10.0, period=6_000)
