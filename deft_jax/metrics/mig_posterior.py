"""MIG of posteriors, as its authors compute it: Chen et al. 2018 (arXiv 1802.04942), section 4.1 and their code.

The authors draw samples for the entropies. A mixture of Gaussians in one dimension can be integrated instead
(posterior_mixtures.py), which leaves no sampling noise.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deft_jax.metrics import binned, inputs, mutual_information
from deft_jax.metrics.inputs import Continuous, NumBins
from deft_jax.metrics.posterior_mixtures import PosteriorMixtures

_LOGVAR_RANGE = (-600.0, 600.0)  # a logvar outside counts as the nearer end


def mig_posterior(
    codes: np.ndarray,
    factors: np.ndarray,
    logvar: np.ndarray,
    average_over: Sequence[int] | None = None,
    num_bins: NumBins = 20,
    continuous: Continuous = None,
) -> dict[str, Any]:
    """MIG with the mutual information of z ~ q(z|x) and the factors, without bins.

    `mig` cuts posterior means into 20 bins, as disentanglement_lib does; the encoder's precision, its logvar, does not
    enter, and the result depends on the edges of the bins. Here, as in Chen et al.,

        I(z_d; v_f) = H(q(z_d)) - sum over values k of p(v_f = k) H(q(z_d | v_f = k)),

    where q(z_d) is the mean of the posteriors q(z_d|x_n) of all images, and q(z_d | v_f = k) that of the images with
    v_f = k. MIG is the mean over f of (I of the best latent - I of the second best) / H(v_f). The authors estimate the
    entropies from samples; here they are integrated on a grid.

    The mixture of a value with few images is rough, which raises I: with the 250 of an orientation among 10,000 images
    of dSprites, by 0.01 to 0.02 of the entropy for all latents alike. The authors use all 737,280 images, and on
    dSprites leave shape out of the mean: average_over = (1, 2, 3, 4).

    Args:
      codes: [N, D] finite real numbers, the posterior means.
      factors: [N, F] integers >= 0; finite real numbers where continuous.
      logvar: [N, D] finite real numbers, the logarithm of the posterior variances.
      average_over: indices of the factors whose mean is the score; default: all.
      num_bins: bins per continuous factor; latents have none.
      continuous: see `inputs.Continuous`; default: detected. Continuous factors are cut into num_bins equal-width bins.

    Returns:
      {'mig_posterior': float; 'mig_posterior_per_factor': [F], the gaps; 'mig_posterior_nmi': [D, F],
      I(z_d; v_f) / H(v_f)}, no unit, 1 is best; and 'binned_factors', the indices of the continuous factors, where
      there are any.

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample.

    Example:
      >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
      >>> precise = mig_posterior(10.0 * factors, factors, logvar=np.zeros((4, 2)))
      >>> round(precise["mig_posterior"], 3)
      1.0
      >>> vague = mig_posterior(10.0 * factors, factors, logvar=np.full((4, 2), 6.0))
      >>> round(vague["mig_posterior"], 3)
      0.043
    """
    mean, classes, notes = binned.classes_of(codes, factors, continuous, num_bins)
    constant = np.flatnonzero((classes == classes[0]).all(axis=0))
    if len(constant):
        raise ValueError(f"factor {constant[0]} is constant in the sample: leave it out")
    logvar = inputs.finite_codes(logvar, "logvar")
    if logvar.shape != mean.shape:
        raise ValueError(f"logvar must have the shape of the codes, got {logvar.shape} and {mean.shape}")
    averaged = _check_average_over(average_over, classes.shape[1])
    labels = [np.unique(column, return_inverse=True)[1] for column in classes.T]
    std = np.exp(0.5 * np.clip(logvar.astype(np.float64), *_LOGVAR_RANGE))
    nats_DxF = np.stack([_information(m, s, labels) for m, s in zip(mean.T.astype(np.float64), std.T, strict=True)])
    nmi_DxF = nats_DxF / mutual_information.entropy(np.stack(labels, axis=1))
    gap_F = mutual_information.gaps(nmi_DxF)
    return {
        "mig_posterior": float(gap_F[averaged].mean()),
        "mig_posterior_per_factor": gap_F,
        "mig_posterior_nmi": nmi_DxF,
    } | notes


def _check_average_over(average_over: Sequence[int] | None, num_factors: int) -> list[int]:
    """The indices of the factors in the mean."""
    if average_over is None:
        return list(range(num_factors))
    indices = list(average_over)
    whole = all(isinstance(f, int | np.integer) and not isinstance(f, bool) for f in indices)
    distinct = bool(indices) and len(set(indices)) == len(indices)
    if not whole or not distinct or not 0 <= min(indices) <= max(indices) < num_factors:
        raise ValueError(f"average_over must be different indices from 0 to {num_factors - 1}, got {average_over!r}")
    return indices


def _information(mean_N: np.ndarray, std_N: np.ndarray, labels: list[np.ndarray]) -> np.ndarray:
    """I(z; v_f) in nats of one latent with each factor: [F]. labels: F arrays [N] of 0 .. values - 1."""
    mixtures = PosteriorMixtures(mean_N, std_N)
    marginal, *conditional = (
        mixtures.averages(label_N, overlap=False).mean_entropy for label_N in (np.zeros_like(labels[0]), *labels)
    )
    return np.maximum(marginal - np.array(conditional), 0.0)
