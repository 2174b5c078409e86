"""Encoders and decoders as pure functions, posteriors and likelihoods."""

from deft_jax.models.networks import Model, build
from deft_jax.models.posterior import Posterior

__all__ = ["Model", "Posterior", "build"]
