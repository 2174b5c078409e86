"""Posteriors of a data set, scores of a representation and figures of it.

Everything here takes a source and an encode function, or arrays; nothing needs a workdir. Scores and what an
evaluation logs are in scores.py, figures in plots.py.
"""

from deft_jax.evaluation.encoder import Encoder, PosteriorCache, draw_factors

__all__ = ["Encoder", "PosteriorCache", "draw_factors"]
