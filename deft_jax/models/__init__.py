"""Encoders and decoders as pure functions, diagonal Gaussian posteriors and reconstruction losses.

`build` returns a Model: a grouped encoder and a decoder over one parameter pytree. Everything here takes arrays and
parameters, and knows nothing of data sets, objectives or training.
"""

from deft_jax.models.networks import Model, build
from deft_jax.models.posterior import Posterior

__all__ = ["Model", "Posterior", "build"]
