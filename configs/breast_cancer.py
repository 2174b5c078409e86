"""DEFT on scikit-learn's breast cancer set, vectors of 30 measurements: dense layers, two groups of two latents.

    python -m deft_jax.train --config configs/breast_cancer.py --workdir runs/breast_cancer

The set comes with scikit-learn: 569 tumours, ten measurements each as mean, standard error and worst, normalised to
mean 0 and standard deviation 1. Any vectors train so: --config.data.name=vectors --config.data.path=FILE.npz
(docs/howto/vectors.md).
"""

from deft_jax.studies import presets


def get_config():
    return presets.vectors(
        "breast_cancer", groups=(2, 2), units=64, start=30.0, thresholds=(8.0,), num_samples=569, batch_size=32
    )
