"""Tripod (Hsu et al. 2024): quantised latents, their multiinformation, and a Hessian penalty on the decoder.

On dSprites, or on a set named after a colon:

    python -m deft_jax.train --config configs/tripod.py --workdir runs/tripod
    python -m deft_jax.train --config configs/tripod.py:shapes3d --workdir runs/shapes3d_tripod

Weights and rate are those of the authors' code for Shapes3D, in sums over the pixels of one channel, or of three for
Shapes3D. Scored by InfoMEC in its paper, where the latents are classes:

    from deft_jax.studies import scoring
    scoring.evaluate("runs/tripod", {"infomec": {"estimator": "discrete"}}, variants=("mean",))

The penalty decodes nine times as many codes as the reconstruction. A job for an accelerator; not run to the end with
this package.
"""

from deft_jax.studies import presets


def get_config(data=""):
    options = dict(presets.BASELINES["tripod"])
    if data == "shapes3d":
        options |= {"beta": 1.23, "hessian_weight": 123.0}
    return presets.baseline("tripod", data, **options)
