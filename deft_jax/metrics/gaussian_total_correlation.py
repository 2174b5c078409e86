"""Total correlation and Wasserstein correlation of a Gaussian fitted to codes, Locatello et al. 2019 (1811.12359)."""

from typing import Any

import numpy as np

from deft_jax.metrics import inputs


def gaussian_total_correlation(codes: np.ndarray) -> dict[str, Any]:
    """The dependence of latents, measured by their covariance only.

    With S the covariance of the codes over the sample (ddof = 1), as in disentanglement_lib:

        total correlation        = KL(N(m, S) || N(m, diag S)) = (sum_d log S_dd - log det S) / 2,
        Wasserstein correlation  = W2^2(N(m, S), N(m, diag S)) = 2 tr S - 2 tr (S^1/2_diag S S^1/2_diag)^1/2,
        normalised               = Wasserstein correlation / tr S,

    where S_diag = diag S. All are 0 if and only if the latents are uncorrelated. The total correlation does not depend
    on the scale of a latent, so a passive one has the same weight; in the Wasserstein correlation a latent has the
    weight of its variance. Codes from an encoder's means are often more correlated than samples from its posterior
    (Locatello et al., section 5.2).

    Two differences from disentanglement_lib: constant latents are left out, and where a latent is a linear function of
    others, whose true total correlation is infinite, eigenvalues of the correlation matrix are at least 2.2e-16, the
    spacing of float64, so that it adds at most 18 nats.

    Args:
      codes: [N, D] finite real numbers, posterior means or samples. N should be far above D: with fewer examples than
        latents the latents are dependent.

    Returns:
      {'gaussian_total_correlation': float, nats; 'gaussian_wasserstein_correlation': float, squared units of the
      codes; 'gaussian_wasserstein_correlation_norm': float, in [0, 2), no unit; 'gaussian_num_active': int, latents
      that are not constant}. All correlations are >= 0, 0 is best, and 0 if fewer than two latents are active.

    Raises:
      ValueError: the codes are not a non-empty [N, D] array of finite real numbers.

    Example:
      >>> codes = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
      >>> gaussian_total_correlation(codes)["gaussian_total_correlation"]
      0.0
    """
    codes = inputs.finite_codes(codes).astype(np.float64)
    codes = codes[:, np.ptp(codes, axis=0) > 0]
    total = wasserstein = normalised = 0.0
    if codes.shape[1] > 1:
        scale = codes.std(axis=0, ddof=1)
        standard = (codes - codes.mean(axis=0)) / scale
        correlation = standard.T @ standard / (len(codes) - 1)
        eigenvalues = np.linalg.eigvalsh(correlation)
        total = -0.5 * np.log(np.maximum(eigenvalues, np.finfo(np.float64).eps)).sum()
        variance = scale**2
        inner = np.linalg.eigvalsh(variance[:, None] * correlation * variance)
        wasserstein = 2 * (variance.sum() - np.sqrt(np.maximum(inner, 0)).sum())
        normalised = wasserstein / variance.sum()
    return {
        "gaussian_total_correlation": max(float(total), 0.0),
        "gaussian_wasserstein_correlation": max(float(wasserstein), 0.0),
        "gaussian_wasserstein_correlation_norm": max(float(normalised), 0.0),
        "gaussian_num_active": codes.shape[1],
    }
