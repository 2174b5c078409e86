"""QLAE (Hsu et al. 2023): quantised latents and a high weight decay.

On dSprites, or on a set named after a colon:

    python -m deft_jax.train --config configs/qlae.py --workdir runs/qlae
    python -m deft_jax.train --config configs/qlae.py:smallnorb --workdir runs/smallnorb_qlae

Scored by InfoMEC in its paper: --metrics infomec, or with each value as a class, as there, by the call in
configs/tripod.py. A job for an accelerator; not run to the end with this package.
"""

from deft_jax.studies import presets


def get_config(data=""):
    return presets.baseline("qlae", data, beta=0.41, num_values=10, learning_rate=1e-3, weight_decay=0.1)
