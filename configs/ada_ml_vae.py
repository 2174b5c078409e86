"""Ada-ML-VAE (Locatello et al. 2020, arXiv 2002.02886): pairs of images that differ in few factors, beta 1.

On dSprites, or on a set named after a colon, which must have an image of every combination of factors:

    python -m deft_jax.train --config configs/ada_ml_vae.py --workdir runs/ada_ml_vae
    python -m deft_jax.train --config configs/ada_ml_vae.py:shapes3d --workdir runs/shapes3d_ada_ml_vae

A pair differs in a number of factors that is drawn, or in one with --config.objective.changed_factors=1. A job for an
accelerator; its scores at the small scale: docs/experiments/supervision.md.
"""

from ml_collections import config_dict

from deft_jax.studies import presets


def get_config(data=""):
    config = presets.baseline("ada_ml_vae", data, beta=1.0)
    config.objective.changed_factors = config_dict.placeholder(int)
    return config
