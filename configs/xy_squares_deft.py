"""DEFT on XYSquares, betas 40, 1.

    python -m deft_jax.train --config configs/xy_squares_deft.py --workdir runs/xy_squares_deft

Not a set of the author's. Its freezing spectrum is flat, 88 to 80 over the first 24 modes: no factor freezes before
another, and DEFT has nothing to order them by. A config to see a method fail.
"""

from deft_jax.studies import presets


def get_config():
    return presets.deft("xy_squares", (40.0, 1.0), groups=(5, 5), steps=30_000, total_steps=70_000)
