"""DEFT and its rivals: unsupervised disentanglement in JAX."""

__version__ = "0.1.0"
