"""MIG of posteriors, as its authors compute it: Chen et al. 2018 (arXiv 1802.04942), section 4.1 and their code."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deft_jax.metrics import inputs, mutual_information
from deft_jax.runtime.validation import Count

_REACH = 8  # standard deviations beyond which a posterior is zero
_MOST_POINTS = 1 << 14
_CELLS = 1 << 20  # numbers held at once
_LOGVARS = (-600.0, 600.0)  # beyond these a variance counts as that of the end


def mig_posterior(
    codes: np.ndarray,
    factors: np.ndarray,
    logvar: np.ndarray,
    average_over: Sequence[int] | None = None,
    num_bins: Count = 20,
    continuous: Sequence[bool] | bool | None = None,
) -> dict[str, Any]:
    """MIG with the mutual information of z ~ q(z|x) and the factors, without bins.

    `mig` cuts posterior means into 20 bins, as disentanglement_lib does; how precise an encoder is, its logvar, does
    not enter, and what the bins hide depends on where their edges fall. Here, as in Chen et al.,

        I(z_d; v_f) = H(q(z_d)) - sum over values k of p(v_f = k) H(q(z_d | v_f = k)),

    where q(z_d) is the mean of the posteriors q(z_d|x_n) of all images, and q(z_d | v_f = k) that of the images with
    v_f = k. MIG is the mean over f of (I of the best latent - I of the second best) / H(v_f). The authors draw samples
    for the entropies; a mixture of Gaussians in one dimension can be integrated instead, on a grid of half the
    narrowest standard deviation, which leaves no noise. (The grid has at most 16,384 points; a posterior that is
    narrower than two of them counts as that wide.)

    A value with few images has too rough a mixture, which adds to I: with the 250 of an orientation among 10,000 images
    of dSprites, one or two hundredths of the entropy, to all latents alike. The authors take all 737,280 images, and on
    dSprites leave shape out of the mean: average_over = (1, 2, 3, 4).

    Args:
      codes: [N, D] finite real numbers, the posterior means.
      factors: [N, F] integers >= 0; finite real numbers where continuous.
      logvar: [N, D] finite real numbers, the logarithm of the posterior variances.
      average_over: indices of the factors whose mean is the score, all if None.
      num_bins: bins per continuous factor; latents have none.
      continuous: F booleans, False (no factor is continuous) or None, the default: the columns that look continuous
        (`inputs.continuous_columns`). A continuous factor is cut into num_bins equal-width bins.

    Returns:
      {'mig_posterior': float; 'mig_posterior_per_factor': [F], the gaps; 'mig_posterior_nmi': [D, F],
      I(z_d; v_f) / H(v_f)}, no unit, 1 is best; and where there are any, 'binned_factors': indices of the continuous
      factors.

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample; one line says which.
    """
    mean, classes, binned = inputs.as_classes(codes, factors, continuous, num_bins)
    constant = np.flatnonzero((classes == classes[0]).all(axis=0))
    if len(constant):
        raise ValueError(f"factor {constant[0]} is constant in the sample: leave it out")
    logvar = inputs.finite_codes(logvar, "logvar")
    if logvar.shape != mean.shape:
        raise ValueError(f"logvar must have the shape of the codes, got {logvar.shape} and {mean.shape}")
    chosen = _chosen(average_over, classes.shape[1])
    labels = [np.unique(column, return_inverse=True)[1] for column in classes.T]
    spread = np.exp(0.5 * np.clip(logvar.astype(np.float64), *_LOGVARS))
    nats_DxF = np.stack([_information(m, s, labels) for m, s in zip(mean.T.astype(np.float64), spread.T, strict=True)])
    nmi_DxF = nats_DxF / mutual_information.entropy(np.stack(labels, axis=1))
    first, second = mutual_information.top_two(nmi_DxF)
    gaps = first - second
    result = {
        "mig_posterior": float(gaps[chosen].mean()),
        "mig_posterior_per_factor": gaps,
        "mig_posterior_nmi": nmi_DxF,
    }
    return result | ({"binned_factors": binned} if len(binned) else {})


def _chosen(average_over, num_factors):
    if average_over is None:
        return list(range(num_factors))
    chosen = list(average_over)
    whole = all(isinstance(f, int | np.integer) and not isinstance(f, bool) for f in chosen)
    if not whole or not chosen or len(set(chosen)) < len(chosen) or not 0 <= min(chosen) <= max(chosen) < num_factors:
        raise ValueError(f"average_over must be different indices from 0 to {num_factors - 1}, got {average_over!r}")
    return chosen


def _information(mean_N, spread_N, labels):
    """I(z; v_f) in nats of one latent with every factor: [F]. labels: F arrays [N] of 0 .. values - 1."""
    mean_N = mean_N - mean_N.min()
    reach = mean_N.max() + 2 * _REACH * spread_N.max()
    step = max(spread_N.min() / 2, reach / (_MOST_POINTS - 4 * _REACH))
    spread_N = np.maximum(spread_N, 2 * step)
    low, high = np.min(mean_N - _REACH * spread_N), np.max(mean_N + _REACH * spread_N)
    grid = low + step * np.arange(np.ceil((high - low) / step) + 1)
    sums = [np.zeros((label.max() + 1, len(grid))) for label in labels]
    rows = max(1, _CELLS // len(grid))
    for start in range(0, len(mean_N), rows):
        part = slice(start, start + rows)
        mean, spread = mean_N[part, None], spread_N[part, None]
        density = np.exp(-0.5 * ((grid - mean) / spread) ** 2) / (spread * np.sqrt(2 * np.pi))
        for table, label in zip(sums, labels, strict=True):
            table += (label[part] == np.arange(len(table))[:, None]).astype(np.float64) @ density
    whole = _entropy(sums[0].sum(axis=0, keepdims=True) / len(mean_N), step)[0]
    shares = [np.bincount(label) for label in labels]
    within = [
        share @ _entropy(table / share[:, None], step) / len(mean_N) for table, share in zip(sums, shares, strict=True)
    ]
    return np.maximum(whole - np.array(within), 0.0)


def _entropy(densities_KxG, step):
    """Differential entropies of densities on a grid, in nats: [K]."""
    logs = np.log(densities_KxG, where=densities_KxG > 0, out=np.zeros_like(densities_KxG))
    return -step * (densities_KxG * logs).sum(axis=1)
