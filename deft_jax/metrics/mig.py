"""Mutual information gap (MIG), Chen et al. 2018 (arXiv 1802.04942), eq. 6."""

from typing import Any

import numpy as np

from deft_jax.metrics import binned, mutual_information
from deft_jax.metrics.inputs import Continuous, NumBins


def mig(
    codes: np.ndarray, factors: np.ndarray, num_bins: NumBins = 20, continuous: Continuous = None
) -> dict[str, Any]:
    """The gap between the two latents that are most informative about a factor, as a share of the factor's entropy.

      MIG = mean over f of (I(z_(1); v_f) - I(z_(2); v_f)) / H(v_f),

    where (1) and (2) are the two latents with the highest mutual information with factor f; with one latent the second
    is 0. The estimate is that of disentanglement_lib, with equal-width bins per latent. Unlike there, continuous
    factors are allowed, and a factor that is constant in the sample is an error.

    Args:
      codes: [N, D] finite real numbers, the posterior means by convention.
      factors: [N, F] integers >= 0; finite real numbers where continuous.
      num_bins: bins per latent and per continuous factor.
      continuous: see `inputs.Continuous`; default: detected. Continuous factors are cut into num_bins equal-width bins.

    Returns:
      {'mig': float, 'mig_per_factor': [F]}, no unit, 1 is best; and 'binned_factors', the indices of the continuous
      factors, where there are any.

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample.

    Example:
      >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
      >>> mig(1.0 * factors, factors)["mig"]
      1.0
      >>> mig(np.repeat(factors, 2, axis=1), factors)["mig"]  # each latent has a copy
      0.0
    """
    sample = binned.bin_sample(codes, factors, continuous, num_bins)
    gap_F = mutual_information.gaps(sample.normalised_information())
    return {"mig": float(gap_F.mean()), "mig_per_factor": gap_F} | sample.notes
