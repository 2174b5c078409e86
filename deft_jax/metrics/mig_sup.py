"""MIG-sup, the mutual information gap of a latent, Li et al. 2020 (arXiv 2002.10549)."""

from typing import Any

import numpy as np

from deft_jax.metrics import binned, inputs, mutual_information
from deft_jax.metrics.inputs import Continuous, NumBins
from deft_jax.runtime.validation import NonNegative


def mig_sup(
    codes: np.ndarray,
    factors: np.ndarray,
    num_bins: NumBins = 20,
    min_variance: NonNegative = 0.0,
    continuous: Continuous = None,
) -> dict[str, Any]:
    """The gap between the two factors that a latent is most informative about, as shares of their entropies.

    MIG tests whether one latent contains a factor; MIG-sup tests whether a latent contains one factor.

      MIG-sup = mean over active d of (M[d, (1)] - M[d, (2)]),    M[d, f] = I(z_d; v_f) / H(v_f),

    where (1) and (2) are the two factors with the highest M[d, f] of latent d. With one factor the second is 0.
    I and H are plug-in estimates from equal-width bins, as in `mig`. disentanglement_lib does not have this metric.

    Other implementations differ in three points. The authors' code estimates I from samples of the posteriors, and
    averages over latents whose posterior means have a variance above 0.01; here the mean is over all latents that are
    not constant in the sample, and min_variance = 0.01 gives the authors' rule. The authors' code uses the entropy of
    the factor, as here; the code of the survey of Carbonneau et al. 2022 (arXiv 2012.09276) uses the entropy of the
    binned latent and averages over constant latents too.

    Args:
      codes: [N, D] finite real numbers, the posterior means by convention.
      factors: [N, F] integers >= 0; finite real numbers where continuous.
      num_bins: bins per latent and per continuous factor.
      min_variance: a latent is active if its variance over the sample is above this, in squared units of the codes.
      continuous: see `inputs.Continuous`; default: detected. Continuous factors are cut into num_bins equal-width bins.

    Returns:
      {'mig_sup': float in [0, 1], 1 is best, 0 without an active latent; 'mig_sup_per_latent': [D], 0 for an inactive
      latent; 'mig_sup_factor': [D] int, the best factor, the first one of equals, -1 for an inactive latent;
      'mig_sup_num_active': int}; and 'binned_factors', the indices of the continuous factors, where there are any.

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample.

    Example:
      >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
      >>> codes = np.stack([factors[:, 0], 2 * factors[:, 0] + factors[:, 1]], axis=1)
      >>> mig_sup(codes, factors)["mig_sup_per_latent"]  # the second latent contains both factors
      array([1., 0.])
    """
    if not min_variance >= 0:
        raise ValueError(f"min_variance must be >= 0, got {min_variance!r}")
    sample = binned.bin_sample(codes, factors, continuous, num_bins)
    codes = inputs.finite_codes(codes).astype(np.float64)
    active_D = (np.ptp(codes, axis=0) > 0) & (codes.var(axis=0) > min_variance)
    share_DxF = sample.normalised_information()
    gap_D = mutual_information.gaps(share_DxF.T)
    return {
        "mig_sup": float(gap_D[active_D].mean()) if active_D.any() else 0.0,
        "mig_sup_per_latent": np.where(active_D, gap_D, 0.0),
        "mig_sup_factor": np.where(active_D, share_DxF.argmax(axis=1), -1),
        "mig_sup_num_active": int(active_D.sum()),
    } | sample.notes
