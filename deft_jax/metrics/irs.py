"""Interventional robustness score (IRS), Suter et al. 2019 (ICML; arXiv 1811.00007)."""

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from deft_jax.metrics import binned, mutual_information
from deft_jax.metrics.inputs import Continuous, NumBins
from deft_jax.runtime.validation import NonNegative


def irs(
    codes: np.ndarray,
    factors: np.ndarray,
    difference_quantile: Annotated[NonNegative, Field(le=1)] = 0.99,
    num_bins: NumBins = 10,
    continuous: Continuous = None,
) -> dict[str, Any]:
    """How little a latent varies while one factor is fixed and the others change.

    For latent d and factor f, with the factor cut into bins g:

        R[d, f] = 1 - mean over g of Q(|z_d - E[z_d | g]| given g) / max |z_d - E[z_d]|,

    where Q is the `difference_quantile` of the deviations within the bin. The score of a latent is its largest R[d, f],
    the factor of it is the match, and IRS is the mean over latents weighted by max |z_d - E[z_d]|.

    The estimator is that of disentanglement_lib (there `scalable_disentanglement_score`), which weights bins equally;
    with difference_quantile = 1, the maximum, it is the paper's. As there, factors are cut into equal-width bins, codes
    are not, and constant latents are left out. Two differences: the number of bins has no default there (its large
    study has 20), and num_active counts latents here, while there it sums their codes.

    The score of perfect codes is 1 if no factor has more than num_bins values; within a wider bin the code still
    varies. Useless codes score a little above 0, because a quantile is compared to a maximum: 0.01 for uniform noise,
    more for heavy tails.

    Args:
      codes: [N, D] finite real numbers, the posterior means by convention.
      factors: [N, F] integers >= 0; finite real numbers where continuous.
      difference_quantile: in [0, 1].
      num_bins: bins per factor, continuous or not.
      continuous: see `inputs.Continuous`; default: detected.

    Returns:
      {'irs': float; 'irs_per_latent': [D], 0 for a constant latent; 'irs_factor': [D] int, the matched factor, the
      first one of equals, -1 for a constant latent; 'irs_num_active': int, latents that are not constant}. Scores are
      at most 1, which is best, and 0 if all latents are constant. Also 'binned_factors', the indices of the continuous
      factors, where there are any.

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample, which allows no intervention.

    Example:
      >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
      >>> scores = irs(5.0 * factors[:, ::-1], factors)
      >>> scores["irs"], scores["irs_factor"]
      (1.0, array([1, 0]))
    """
    codes, classes, notes = binned.classes_of(codes, factors, continuous, num_bins)
    if not 0 <= difference_quantile <= 1:
        raise ValueError(f"difference_quantile must be in [0, 1], got {difference_quantile!r}")
    constant = np.flatnonzero(np.ptp(classes, axis=0) == 0)
    if len(constant):
        indices = ", ".join(map(str, constant))
        raise ValueError(f"factor {indices} is constant in the sample, which allows no intervention: leave it out")
    bins_NxF = mutual_information.discretise(classes, num_bins)
    active_D = np.ptp(codes, axis=0) > 0
    score_D, match_D, score = np.zeros(len(active_D)), np.full(len(active_D), -1), 0.0
    if active_D.any():
        codes = codes[:, active_D].astype(np.float64)
        largest = np.abs(codes - codes.mean(axis=0)).max(axis=0)
        robustness = _robustness(codes, bins_NxF, difference_quantile, largest)
        score_D[active_D], match_D[active_D] = robustness.max(axis=1), robustness.argmax(axis=1)
        score = float(np.average(score_D[active_D], weights=largest))
    return {
        "irs": score,
        "irs_per_latent": score_D,
        "irs_factor": match_D,
        "irs_num_active": int(active_D.sum()),
    } | notes


def _robustness(codes: np.ndarray, bins_NxF: np.ndarray, quantile: float, largest_D: np.ndarray) -> np.ndarray:
    """R [D, F] of latents that are not constant; largest_D is their largest deviation from the mean."""
    robustness_DxF = np.empty((codes.shape[1], bins_NxF.shape[1]))
    for f, bins in enumerate(bins_NxF.T):
        groups = [codes[bins == g] for g in np.unique(bins)]
        deviations = [np.quantile(np.abs(group - group.mean(axis=0)), quantile, axis=0) for group in groups]
        robustness_DxF[:, f] = 1 - np.mean(deviations, axis=0) / largest_D
    return robustness_DxF
