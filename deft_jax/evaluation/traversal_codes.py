"""Codes of latent traversals."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def traversal_codes(means_BxD: ArrayLike, latents_L: Sequence[int] | np.ndarray, values_T: ArrayLike) -> np.ndarray:
    """Codes in which one latent at a time takes each of the values, while the others stay at the means.

    Args:
      means_BxD: codes to start from, [B, D].
      latents_L: numbers of the latents that vary.
      values_T: what each of them is set to, [T].

    Returns:
      [L, B, T, D], of the type of the means.

    Example:
      >>> traversal_codes([[0.0, 5.0]], [0], [-1.0, 1.0]).tolist()
      [[[[-1.0, 5.0], [1.0, 5.0]]]]
    """
    means_BxD, values_T = np.asarray(means_BxD), np.asarray(values_T)
    z_LxBxTxD = np.tile(means_BxD[None, :, None], (len(latents_L), 1, len(values_T), 1))
    for place, latent in enumerate(latents_L):
        z_LxBxTxD[place, :, :, latent] = values_T
    return z_LxBxTxD
