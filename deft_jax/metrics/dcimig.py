"""DCIMIG, Sepliarskaia et al. 2019 (arXiv 1910.05587), the mutual information gap of latents, credited to factors."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deft_jax.metrics import binned, mutual_information
from deft_jax.runtime.validation import Count


def dcimig(
    codes: np.ndarray,
    factors: np.ndarray,
    num_bins: Count = 20,
    continuous: Sequence[bool] | bool | None = None,
) -> dict[str, Any]:
    """How much of the factors sits in latents that hold nothing of another factor.

    Each latent d has the gap G[d] = I(z_d; v_(1)) - I(z_d; v_(2)) between the two factors that it knows best, and
    credits it to factor (1). A factor gets the highest gap of the latents that credit it, 0 if there is none:

      DCIMIG = sum over f of max over d with (1) = f of G[d]    /    sum over f of H(v_f).

    So 1 needs, for each factor, one latent that knows all of it and of no other. Copies of such a latent do no harm,
    unlike in MIG. I and H are plug-in estimates from equal-width bins, in nats; with one factor I(z_d; v_(2)) is 0.
    The semantics are those of the code of the survey of Carbonneau et al. 2022 (arXiv 2012.09276), which has 10 bins.

    Args:
      codes: [N, D] finite real numbers, the posterior means by convention.
      factors: [N, F] integers >= 0; finite real numbers where continuous.
      num_bins: bins per latent and per continuous factor; default: 20.
      continuous: False (none), F booleans, or None, the default: columns that look continuous
        (`inputs.continuous_columns`). Continuous factors are cut into num_bins equal-width bins.

    Returns:
      {'dcimig': float in [0, 1], 1 is best; 'dcimig_per_factor': [F], what the factor gets as a share of H(v_f): the
      score is their mean weighted by H(v_f)}, and 'binned_factors', indices, where a factor was binned.

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample; one line says which.
    """
    bins_NxD, classes, entropy_F, notes = binned.sample(codes, factors, continuous, num_bins)
    known_DxF = mutual_information.mutual_information(bins_NxD, classes)
    first, second = mutual_information.top_two(known_DxF.T)
    credited_DxF = np.zeros_like(known_DxF)
    credited_DxF[np.arange(len(first)), known_DxF.argmax(axis=1)] = first - second
    gap_F = credited_DxF.max(axis=0)
    return {"dcimig": float(gap_F.sum() / entropy_F.sum()), "dcimig_per_factor": gap_F / entropy_F} | notes
