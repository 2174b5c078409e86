"""Normalised mutual information of latents and factors, and its two highest values per factor: NMI1, NMI2."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deft_jax.metrics import inputs, mutual_information
from deft_jax.runtime.validation import Count


def nmi(
    codes: np.ndarray,
    factors: np.ndarray,
    num_bins: Count = 20,
    continuous: Sequence[bool] | bool | None = None,
) -> dict[str, Any]:
    """Which latent knows which factor, and how far that knowledge has spread.

    I(z_d; v_f) / H(v_f) is the share of factor f that latent d knows. NMI1, the highest value of a factor,
    says how much one latent has learned of it. NMI2, the second highest, says how much of it another latent
    knows as well. The information diffusion of DEFT (arXiv 2102.03986), in which information that enters at a
    lower beta spreads over latents already taken, shows as a rising NMI2, often with a falling NMI1. MIG, the
    mean of NMI1 - NMI2, cannot tell a factor that spreads from one that is not learned.

    Args:
      codes: [N, D] finite real numbers, the posterior means by convention.
      factors: [N, F] integers >= 0; finite real numbers where continuous.
      num_bins: bins per latent and per continuous factor.
      continuous: F booleans, False (no factor is continuous) or None, the default: the columns that look continuous
        (`inputs.continuous_columns`). A continuous factor is cut into num_bins equal-width bins.

    Returns:
      {'nmi': [D, F], 'nmi1': [F], 'nmi2': [F] (0 if D = 1), 'nmi1_latent': [F] int, the latent that holds
      NMI1, the first one of equals}, no unit; and where there are any, 'binned_factors': indices of the continuous
      factors.

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample; one line says which.
    """
    codes, classes, binned = inputs.as_classes(codes, factors, continuous, num_bins)
    nmi_DxF = mutual_information.normalised_mutual_information(codes, classes, num_bins)
    first, second = mutual_information.top_two(nmi_DxF)
    result = {"nmi": nmi_DxF, "nmi1": first, "nmi2": second, "nmi1_latent": nmi_DxF.argmax(axis=0)}
    return result | ({"binned_factors": binned} if len(binned) else {})
