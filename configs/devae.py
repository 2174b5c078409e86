"""DeVAE (arXiv 2303.12959): three latent spaces under beta 1, 10, 40 share an encoder.

On dSprites, or on a set named after a colon:

    python -m deft_jax.train --config configs/devae.py --workdir runs/devae
    python -m deft_jax.train --config configs/devae.py:smallnorb --workdir runs/smallnorb_devae

Published MIG on dSprites after 300,000 steps: 0.35 +- 0.02. A job for an accelerator; not run to the end with this
package.
"""

from deft_jax.studies import presets


def get_config(data=""):
    return presets.baseline("devae", data, beta=1.0, betas=(10.0, 40.0))
