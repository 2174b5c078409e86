"""DEFT on scikit-learn's digits as vectors of 64 pixels: dense layers, two groups of four latents.

    python -m deft_jax.train --config configs/digits.py --workdir runs/digits

The set comes with scikit-learn. Its label is the digit; what else varies is unknown, so compare seeds by UDR:
docs/howto/vectors.md has the commands, with the annealing test, and those for the same digits as series of eight rows
and as images.
"""

from deft_jax.studies import presets


def get_config():
    return presets.vectors("digits", groups=(4, 4), units=128, start=24.0, thresholds=(6.0,), num_samples=1_797)
