"""Interventional robustness score (IRS), Suter et al. 2019 (ICML; arXiv 1811.00007)."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from deft_jax.metrics import inputs, mutual_information
from deft_jax.runtime.validation import Count, NonNegative


def irs(
    codes: np.ndarray,
    factors: np.ndarray,
    difference_quantile: Annotated[NonNegative, Field(le=1)] = 0.99,
    num_bins: Count = 10,
    continuous: Sequence[bool] | bool | None = None,
) -> dict[str, Any]:
    """How little a latent moves when one factor is held and the others change.

    For latent d and factor f, with the factor cut into bins g:

        R[d, f] = 1 - mean over g of Q(|z_d - E[z_d | g]| given g) / max |z_d - E[z_d]|,

    where Q is the `difference_quantile` of the deviations within the bin. The score of a latent is its largest
    R[d, f], the factor of it is the match, and IRS is the mean over latents weighted by max |z_d - E[z_d]|.
    This is the estimator of disentanglement_lib (there `scalable_disentanglement_score`), which weights bins
    equally; with difference_quantile = 1, the maximum, it is the paper's. As there, the factors are cut into
    equal-width bins and the codes are not, and constant latents are left out. The number of bins has no
    default there; its large study has 20. num_active counts latents (there: sums their codes).

    The score of perfect codes is 1 if no factor has more than num_bins values; within a wider bin the code still
    moves. Useless codes score a little above 0, because a quantile is held against a maximum: 0.01 for
    uniform noise, more for heavy tails.

    Args:
      codes: [N, D] finite real numbers, the posterior means by convention.
      factors: [N, F] integers >= 0; finite real numbers where continuous.
      difference_quantile: in [0, 1].
      num_bins: bins per factor.
      continuous: F booleans, False (no factor is continuous) or None, the default: the columns that look continuous
        (`inputs.continuous_columns`). Every factor is cut into bins.

    Returns:
      {'irs': float; 'irs_per_latent': [D], 0 for a constant latent; 'irs_factor': [D] int, the matched factor,
      the first one of equals, -1 for a constant latent; 'irs_num_active': int, latents that are not constant}.
      Scores are at most 1, which is best, and 0 if all latents are constant. Where there are any, 'binned_factors':
      indices of the continuous factors.

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample, which leaves nothing to intervene
        on; one line says which.
    """
    codes, classes, binned = inputs.as_classes(codes, factors, continuous, num_bins)
    if not 0 <= difference_quantile <= 1:
        raise ValueError(f"difference_quantile must be in [0, 1], got {difference_quantile!r}")
    constant = np.flatnonzero(np.ptp(classes, axis=0) == 0)
    if len(constant):
        listed = ", ".join(map(str, constant))
        raise ValueError(f"factor {listed} is constant in the sample, no intervention on it is seen: leave it out")
    bins_NxF = mutual_information.discretise(classes, num_bins)
    named = {"binned_factors": binned} if len(binned) else {}
    active = np.ptp(codes, axis=0) > 0
    scores_D, match_D = np.zeros(len(active)), np.full(len(active), -1)
    if not active.any():
        return {"irs": 0.0, "irs_per_latent": scores_D, "irs_factor": match_D, "irs_num_active": 0} | named

    codes = codes[:, active].astype(np.float64)
    largest = np.abs(codes - codes.mean(axis=0)).max(axis=0)
    robust = np.empty((codes.shape[1], bins_NxF.shape[1]))
    for f, bins in enumerate(bins_NxF.T):
        groups = [codes[bins == g] for g in np.unique(bins)]
        moved = [np.quantile(np.abs(group - group.mean(axis=0)), difference_quantile, axis=0) for group in groups]
        robust[:, f] = 1 - np.mean(moved, axis=0) / largest
    scores_D[active], match_D[active] = robust.max(axis=1), robust.argmax(axis=1)
    return {
        "irs": float(np.average(scores_D[active], weights=largest)),
        "irs_per_latent": scores_D,
        "irs_factor": match_D,
        "irs_num_active": int(active.sum()),
    } | named
