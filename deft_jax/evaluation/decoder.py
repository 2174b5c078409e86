"""Examples that a model decodes from codes."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from deft_jax.data.source import Source
from deft_jax.models.likelihoods import to_images
from deft_jax.models.networks import Model

_CHUNK = 60  # codes decoded at a time


class Decoder:
    """Decodes codes of any number by one compiled program."""

    def __init__(self, source: Source, model: Model):
        """Compiles nothing yet.

        Args:
          source: the data set, whose likelihood says what the model's outputs are.
          model: with the decoder.
        """
        self.source, self.model = source, model
        clip = source.features is None
        self._decode = jax.jit(lambda params, z_NxD: to_images(source.likelihood, model.decode(params, z_NxD), clip))

    def __call__(self, params: Mapping[str, Any], z_NxD: np.ndarray) -> np.ndarray:
        """Means of the examples.

        Args:
          params: of the model.
          z_NxD: codes.

        Returns:
          float32 [N, H, W, C], images in [0, 1], vectors and series as the model sees them.
        """
        parts = []
        for start in range(0, len(z_NxD), _CHUNK):
            chunk = np.asarray(z_NxD[start : start + _CHUNK], np.float32)
            padded = np.resize(chunk, (_CHUNK, chunk.shape[1]))  # one shape, so one program
            parts.append(np.asarray(self._decode(params, padded))[: len(chunk)])
        return np.concatenate(parts)
