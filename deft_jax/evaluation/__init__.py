"""Posteriors of a data set, scores and figures of a model: from a source and an encode function."""

from deft_jax.evaluation.encoder import Encoder, PosteriorCache, draw_factors

__all__ = ["Encoder", "PosteriorCache", "draw_factors"]
