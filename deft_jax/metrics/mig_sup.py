"""MIG-sup, the mutual information gap of a latent, Li et al. 2020 (arXiv 2002.10549)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deft_jax.metrics import binned, inputs, mutual_information
from deft_jax.runtime.validation import Count, NonNegative


def mig_sup(
    codes: np.ndarray,
    factors: np.ndarray,
    num_bins: Count = 20,
    min_variance: NonNegative = 0.0,
    continuous: Sequence[bool] | bool | None = None,
) -> dict[str, Any]:
    """How much more a latent knows of its best factor than of its second best, each as a share of the factor's entropy.

    The supplement of MIG: MIG asks whether a factor sits in one latent, MIG-sup whether a latent holds one factor.

      MIG-sup = mean over active d of (M[d, (1)] - M[d, (2)]),    M[d, f] = I(z_d; v_f) / H(v_f),

    where (1) and (2) are the two factors with the highest M[d, f] of latent d. With one factor the second highest is 0.
    I and H are plug-in estimates from equal-width bins, as in `mig`.

    Other implementations differ in three points. The authors' code estimates I from samples of the posteriors, and
    averages over latents whose posterior means have a variance above 0.01; here over all latents that are not constant
    in the sample, and min_variance = 0.01 gives the authors' rule. It takes shares of the entropy of the factor, as
    here; the code of the survey of Carbonneau et al. 2022 (arXiv 2012.09276) takes shares of the entropy of the binned
    latent and averages over constant latents too.

    Args:
      codes: [N, D] finite real numbers, the posterior means by convention.
      factors: [N, F] integers >= 0; finite real numbers where continuous.
      num_bins: bins per latent and per continuous factor; default: 20.
      min_variance: a latent counts if its variance over the sample is above this, in squared units of the codes;
        default: 0.
      continuous: False (none), F booleans, or None, the default: columns that look continuous
        (`inputs.continuous_columns`). Continuous factors are cut into num_bins equal-width bins.

    Returns:
      {'mig_sup': float in [0, 1], 1 is best, 0 without an active latent; 'mig_sup_per_latent': [D], 0 where the
      latent does not count; 'mig_sup_factor': [D] int, the best factor, the first one of equals, -1 where the latent
      does not count; 'mig_sup_num_active': int}, and 'binned_factors', indices, where a factor was binned.

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample; one line says which.
    """
    if not min_variance >= 0:
        raise ValueError(f"min_variance must be >= 0, got {min_variance!r}")
    bins_NxD, classes, entropy_F, notes = binned.sample(codes, factors, continuous, num_bins)
    codes = inputs.finite_codes(codes).astype(np.float64)
    active_D = (np.ptp(codes, axis=0) > 0) & (codes.var(axis=0) > min_variance)
    share_DxF = mutual_information.mutual_information(bins_NxD, classes) / entropy_F
    first, second = mutual_information.top_two(share_DxF.T)
    gap_D = first - second
    return {
        "mig_sup": float(gap_D[active_D].mean()) if active_D.any() else 0.0,
        "mig_sup_per_latent": np.where(active_D, gap_D, 0.0),
        "mig_sup_factor": np.where(active_D, share_DxF.argmax(axis=1), -1),
        "mig_sup_num_active": int(active_D.sum()),
    } | notes
