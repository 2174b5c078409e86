"""DEFT and its baselines: unsupervised disentanglement in JAX."""

__version__ = "0.1.0"


def load(workdir, step=None):
    """The trained model of a workdir, with encode, decode, config and source: see deft_jax.training.restore.load."""
    from deft_jax.training import restore  # only now: importing the package alone loads nothing

    return restore.load(workdir, step)
