"""DEFT on the correlated triangle with the author's betas 20, 1, in 3,000 steps a stage and 10,000 in all.

    python -m deft_jax.train --config configs/correlated_deft.py --workdir runs/correlated_deft

The author has 5 latents, here in two groups.
"""

from deft_jax.studies import presets


def get_config():
    return presets.deft("correlated", (20.0, 1.0), groups=(3, 2), steps=3_000, total_steps=10_000)
