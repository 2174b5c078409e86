"""A few labels of dSprites beside all images without: beta-VAE, beta-TCVAE or DEFT, after Locatello et al. 2020.

The method stands after a colon, beta_vae without one:

    python -m deft_jax.train --config configs/semi_supervised.py:deft --workdir runs/deft_100_labels
    python -m deft_jax.train --config configs/semi_supervised.py:beta_tcvae --workdir runs/tcvae_1000_labels \
        --config.supervision.labels=1000

Factor k is learned by latent k (arXiv 1905.01258). With DEFT the factors are named in the order in which they freeze,
so that each stage opens the latents of the factors that its beta lets in. A job for an
accelerator; its scores at the small scale: docs/experiments/supervision.md.
"""

from deft_jax.studies import presets

METHODS = ("beta_vae", "beta_tcvae", "deft")
FACTORS = ("posX", "posY", "scale", "shape", "orientation")


def get_config(method="beta_vae"):
    if method not in METHODS:
        raise ValueError(f"the method after the colon must be one of {', '.join(METHODS)}, got {method!r}")
    if method == "deft":
        config = presets.deft("dsprites", (70.0, 30.0, 12.0, 4.0))
    else:
        config = presets.baseline(method, **presets.BASELINES[method])
    config.supervision = {"labels": 100, "weight": 50.0, "batch_size": 64, "factors": FACTORS, "seed": 0}
    return config
