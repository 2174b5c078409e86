"""Mean correlation coefficient (MCC) of matched latents and factors, Hyvarinen and Morioka 2016 (arXiv 1605.06336)."""

from typing import Any, Literal

import numpy as np

from deft_jax.metrics import inputs
from deft_jax.metrics.inputs import Continuous


def mcc(
    codes: np.ndarray,
    factors: np.ndarray,
    correlation: Literal["pearson", "spearman"] = "pearson",
    continuous: Continuous = None,
) -> dict[str, Any]:
    """The mean |correlation| of factors with latents, matched one to one: identifiability up to permutation.

      MCC = (1 / F) max over one-to-one matchings d(f) of sum over f of |corr(z_d(f), v_f)|,

    over the whole sample; the best matching is that of the Hungarian algorithm, scipy.optimize.linear_sum_assignment.
    'pearson' measures factors up to scale, sign and shift; 'spearman' (Pearson's coefficient of ranks, equal values
    have their mean rank) up to any monotone map. A latent that is constant in the sample has correlation 0.

    min(D, F) pairs are matched. With D > F unmatched latents are ignored; with D < F unmatched factors count 0. The
    code of iVAE and ICE-BeeM (Khemakhem et al. 2020, arXiv 1907.04809 and 2002.11537) averages over matched pairs
    instead, which is the same unless D < F. disentanglement_lib does not have this metric.

    Classes are treated as numbers: the score is meant for factors whose values have an order, and for others, such as
    shapes, it depends on how they are numbered. The absolute value and the choice among latents bias it upwards: in N
    examples |corr| of independent columns is about 0.8 / sqrt(N).

    Args:
      codes: [N, D] finite real numbers, the posterior means by convention.
      factors: [N, F] integers >= 0; finite real numbers where continuous.
      correlation: 'pearson' or 'spearman'.
      continuous: see `inputs.Continuous`; default: detected. It only decides which values are allowed.

    Returns:
      {'mcc': float in [0, 1], 1 is best; 'mcc_per_factor': [F], |corr| with the matched latent, 0 if there is none;
      'mcc_assignment': [F] int, the matched latent, -1 if there is none; 'mcc_correlation': [D, F], signed}.

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample.

    Example:
      >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
      >>> scores = mcc(-3.0 * factors[:, ::-1], factors)
      >>> round(scores["mcc"], 6), scores["mcc_assignment"]
      (1.0, array([1, 0]))
    """
    from scipy import optimize, stats

    inputs.check_choice("correlation", correlation, ("pearson", "spearman"))
    sample = inputs.mixed_samples(codes, factors, continuous)
    codes, factors = sample.codes.astype(np.float64), np.stack(sample.columns, axis=1).astype(np.float64)
    constant_D = np.ptp(codes, axis=0) == 0
    if correlation == "spearman":
        codes, factors = stats.rankdata(codes, axis=0), stats.rankdata(factors, axis=0)
    correlation_DxF = inputs.standardise(codes).T @ inputs.standardise(factors) / len(codes)
    correlation_DxF = np.where(constant_D[:, None], 0.0, np.clip(correlation_DxF, -1, 1))
    latents, matched = optimize.linear_sum_assignment(np.abs(correlation_DxF), maximize=True)
    per_factor_F, assignment_F = np.zeros(factors.shape[1]), np.full(factors.shape[1], -1)
    per_factor_F[matched] = np.abs(correlation_DxF[latents, matched])
    assignment_F[matched] = latents
    return {
        "mcc": float(per_factor_F.mean()),
        "mcc_per_factor": per_factor_F,
        "mcc_assignment": assignment_F,
        "mcc_correlation": correlation_DxF,
    }
