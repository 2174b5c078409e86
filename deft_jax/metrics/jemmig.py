"""Joint entropy minus mutual information gap (JEMMIG), Do and Tran 2020 (arXiv 1908.09961)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deft_jax.metrics import binned, mutual_information
from deft_jax.runtime.validation import Count


def jemmig(
    codes: np.ndarray,
    factors: np.ndarray,
    num_bins: Count = 20,
    continuous: Sequence[bool] | bool | None = None,
) -> dict[str, Any]:
    """Whether a factor sits in one latent, and that latent holds nothing else.

      JEMMIG(f) = H(z_(1), v_f) - I(z_(1); v_f) + I(z_(2); v_f),    0 <= JEMMIG(f) <= H(v_f) + log(num_bins),

    where (1) and (2) are the two latents with the highest mutual information with factor f: MIG's gap, held against the
    joint entropy, which is high where the latent moves for other reasons than the factor. 0 is best. The score is the
    normalised form, with 1 best, of the survey of Carbonneau et al. 2022 (arXiv 2012.09276):

      jemmig = mean over f of 1 - JEMMIG(f) / (H(v_f) + log(num_bins)).

    H and I are plug-in estimates, in nats, from equal-width bins; with one latent the second highest I is 0. Among
    latents with the same highest I, which independent ones can have exactly (0), the one with the lowest joint entropy
    is (1), so that the order of latents does not matter. The code of the survey takes the last of equals, has 10
    bins, and counts in bits, which cancel; Do and Tran estimate both from the posteriors instead of their means.

    A narrow code lowers the joint entropy whatever it knows: codes that are constant score
    log(num_bins) / (H(v_f) + log(num_bins)) for each factor, which is far from 0. Read the score beside MIG.

    Args:
      codes: [N, D] finite real numbers, the posterior means by convention.
      factors: [N, F] integers >= 0; finite real numbers where continuous.
      num_bins: bins per latent and per continuous factor; default: 20.
      continuous: False (none), F booleans, or None, the default: columns that look continuous
        (`inputs.continuous_columns`). Continuous factors are cut into num_bins equal-width bins.

    Returns:
      {'jemmig': float in [0, 1], 1 is best; 'jemmig_per_factor': [F], the same; 'jemmig_nats_per_factor': [F],
      JEMMIG(f) in nats, 0 is best; 'jemmig_latent': [F] int, (1)}, and 'binned_factors', indices, where a factor was
      binned.

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample; one line says which.
    """
    bins_NxD, classes, entropy_F, notes = binned.sample(codes, factors, continuous, num_bins)
    known_DxF = mutual_information.mutual_information(bins_NxD, classes)
    joint_DxF = mutual_information.entropy(bins_NxD)[:, None] + entropy_F - known_DxF
    best_F = np.lexsort((joint_DxF, -known_DxF), axis=0)[0]
    first, second = mutual_information.top_two(known_DxF)
    nats_F = joint_DxF[best_F, np.arange(len(best_F))] - first + second
    score_F = 1 - nats_F / (entropy_F + np.log(num_bins))
    return {
        "jemmig": float(score_F.mean()),
        "jemmig_per_factor": score_F,
        "jemmig_nats_per_factor": nats_F,
        "jemmig_latent": best_F,
    } | notes
