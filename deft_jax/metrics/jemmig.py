"""Joint entropy minus mutual information gap (JEMMIG), Do and Tran 2020 (arXiv 1908.09961)."""

from typing import Any

import numpy as np

from deft_jax.metrics import binned, mutual_information
from deft_jax.metrics.inputs import Continuous, NumBins


def jemmig(
    codes: np.ndarray, factors: np.ndarray, num_bins: NumBins = 20, continuous: Continuous = None
) -> dict[str, Any]:
    """Whether one latent contains a factor, and that latent contains nothing else.

      JEMMIG(f) = H(z_(1), v_f) - I(z_(1); v_f) + I(z_(2); v_f),    0 <= JEMMIG(f) <= H(v_f) + log(num_bins),

    where (1) and (2) are the two latents with the highest mutual information with factor f. The joint entropy is high
    where the latent also varies for other reasons than the factor. 0 is best. The score is the normalised form of the
    survey of Carbonneau et al. 2022 (arXiv 2012.09276), where 1 is best:

      jemmig = mean over f of 1 - JEMMIG(f) / (H(v_f) + log(num_bins)).

    H and I are plug-in estimates, in nats, from equal-width bins; with one latent the second highest I is 0. Among
    latents with the same highest I, which independent ones can have exactly (0), (1) is the one with the lowest joint
    entropy, so that the order of latents does not matter. The code of the survey takes the last of equals, has 10 bins,
    and counts in bits, which cancel; Do and Tran estimate both terms from the posteriors instead of their means.
    disentanglement_lib does not have this metric.

    A narrow code has a low joint entropy even if it is uninformative: constant codes score
    log(num_bins) / (H(v_f) + log(num_bins)) for each factor, which is far from 0. Read the score beside MIG.

    Args:
      codes: [N, D] finite real numbers, the posterior means by convention.
      factors: [N, F] integers >= 0; finite real numbers where continuous.
      num_bins: bins per latent and per continuous factor.
      continuous: see `inputs.Continuous`; default: detected. Continuous factors are cut into num_bins equal-width bins.

    Returns:
      {'jemmig': float in [0, 1], 1 is best; 'jemmig_per_factor': [F], its terms; 'jemmig_nats_per_factor': [F],
      JEMMIG(f) in nats, 0 is best; 'jemmig_latent': [F] int, (1)}; and 'binned_factors', the indices of the continuous
      factors, where there are any.

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample.

    Example:
      >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
      >>> jemmig(1.0 * factors, factors)["jemmig"]
      1.0
      >>> round(jemmig(np.zeros((4, 1)), factors, num_bins=2)["jemmig"], 3)
      0.5
    """
    sample = binned.bin_sample(codes, factors, continuous, num_bins)
    information_DxF = sample.information()
    joint_DxF = mutual_information.entropy(sample.bins)[:, None] + sample.entropy - information_DxF
    best_F = np.lexsort((joint_DxF, -information_DxF), axis=0)[0]
    first, second = mutual_information.top_two(information_DxF)
    nats_F = joint_DxF[best_F, np.arange(len(best_F))] - first + second
    score_F = 1 - nats_F / (sample.entropy + np.log(num_bins))
    return {
        "jemmig": float(score_F.mean()),
        "jemmig_per_factor": score_F,
        "jemmig_nats_per_factor": nats_F,
        "jemmig_latent": best_F,
    } | sample.notes
