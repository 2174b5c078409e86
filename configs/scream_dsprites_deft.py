"""DEFT on Scream-dSprites with the author's betas for the squared error: 7, 1, in 2 groups of 5.

    python -m deft_jax.train --config configs/scream_dsprites_deft.py --workdir runs/scream_dsprites_deft

The author trained 200,000 steps a stage. For the Bernoulli likelihood the betas are 100, 1: --config.data.likelihood=
bernoulli --config.stages.betas='(100., 1.)'. Without the painting's file (data.painting) a stand-in is drawn. A job for
an accelerator; not run to the end with this package.
"""

from deft_jax.studies import presets


def get_config():
    config = presets.deft("scream_dsprites", (7.0, 1.0), groups=(5, 5), steps=200_000, total_steps=400_000)
    config.data.likelihood = "gaussian"
    return config
