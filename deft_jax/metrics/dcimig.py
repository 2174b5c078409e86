"""DCIMIG, Sepliarskaia et al. 2019 (arXiv 1910.05587), the mutual information gap of latents, credited to factors."""

from typing import Any

import numpy as np

from deft_jax.metrics import binned, mutual_information
from deft_jax.metrics.inputs import Continuous, NumBins


def dcimig(
    codes: np.ndarray, factors: np.ndarray, num_bins: NumBins = 20, continuous: Continuous = None
) -> dict[str, Any]:
    """The share of the factors' entropy in latents that are informative about one factor only.

    Each latent d has the gap G[d] = I(z_d; v_(1)) - I(z_d; v_(2)) between the two factors that it is most informative
    about, and credits it to factor (1). A factor gets the highest gap of the latents that credit it, 0 without any:

      DCIMIG = sum over f of max over d with (1) = f of G[d]    /    sum over f of H(v_f).

    The score is 1 if for each factor one latent determines it and is independent of the others. A copy of such a latent
    does not lower the score, unlike in MIG. I and H are plug-in estimates from equal-width bins, in nats; with one
    factor I(z_d; v_(2)) is 0. The semantics are those of the code of the survey of Carbonneau et al. 2022
    (arXiv 2012.09276), which has 10 bins; disentanglement_lib does not have this metric.

    Args:
      codes: [N, D] finite real numbers, the posterior means by convention.
      factors: [N, F] integers >= 0; finite real numbers where continuous.
      num_bins: bins per latent and per continuous factor.
      continuous: see `inputs.Continuous`; default: detected. Continuous factors are cut into num_bins equal-width bins.

    Returns:
      {'dcimig': float in [0, 1], 1 is best; 'dcimig_per_factor': [F], the gap of each factor as a share of H(v_f): the
      score is their mean weighted by H(v_f)}; and 'binned_factors', the indices of the continuous factors, where there
      are any.

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample.

    Example:
      >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
      >>> dcimig(factors[:, :1], factors)["dcimig_per_factor"]  # no latent for the second factor
      array([1., 0.])
    """
    sample = binned.bin_sample(codes, factors, continuous, num_bins)
    information_DxF = sample.information()
    credited_DxF = np.zeros_like(information_DxF)
    latents = np.arange(len(information_DxF))
    credited_DxF[latents, information_DxF.argmax(axis=1)] = mutual_information.gaps(information_DxF.T)
    gap_F = credited_DxF.max(axis=0)
    score = float(gap_F.sum() / sample.entropy.sum())
    return {"dcimig": score, "dcimig_per_factor": gap_F / sample.entropy} | sample.notes
