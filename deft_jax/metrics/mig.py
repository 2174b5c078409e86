"""Mutual information gap (MIG), Chen et al. 2018 (arXiv 1802.04942), eq. 6."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deft_jax.metrics import inputs, mutual_information
from deft_jax.runtime.validation import Count


def mig(
    codes: np.ndarray,
    factors: np.ndarray,
    num_bins: Count = 20,
    continuous: Sequence[bool] | bool | None = None,
) -> dict[str, Any]:
    """How much more the best latent knows of a factor than the second best, as a share of its entropy.

    MIG = mean over f of (I(z_(1); v_f) - I(z_(2); v_f)) / H(v_f), where (1) and (2) are the two latents with
    the highest mutual information with factor f. Estimated as in disentanglement_lib: equal-width bins per
    latent. With one latent the second highest is 0.

    Args:
      codes: [N, D] finite real numbers, the posterior means by convention.
      factors: [N, F] integers >= 0; finite real numbers where continuous.
      num_bins: bins per latent and per continuous factor.
      continuous: F booleans, False (no factor is continuous) or None, the default: the columns that look continuous
        (`inputs.continuous_columns`). A continuous factor is cut into num_bins equal-width bins.

    Returns:
      {'mig': float, 'mig_per_factor': [F]}, no unit, 1 is best; and where there are any, 'binned_factors': indices
      of the continuous factors.

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample; one line says which.
    """
    codes, classes, binned = inputs.as_classes(codes, factors, continuous, num_bins)
    first, second = mutual_information.top_two(
        mutual_information.normalised_mutual_information(codes, classes, num_bins)
    )
    result = {"mig": float((first - second).mean()), "mig_per_factor": first - second}
    return result | ({"binned_factors": binned} if len(binned) else {})
