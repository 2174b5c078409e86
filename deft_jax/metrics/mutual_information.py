"""Discrete information: bins of codes, entropies and mutual information of bins and factors, in nats.

Codes are continuous, factors are integers. The estimates are the plug-in ones of disentanglement_lib
(Locatello et al. 2019, arXiv 1811.12359): each latent is cut into equal-width bins, and entropies are those of the
counts of bins and factor values. Everything is computed in NumPy, without randomness.
"""

import numpy as np
import numpy.typing as npt


def check_samples(codes: npt.ArrayLike, factors: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Checks one sample of codes and factors.

    Args:
      codes: [N, D] real numbers, all finite.
      factors: [N, F] integers >= 0.

    Returns:
      (codes, factors) as NumPy arrays: codes of dtype float32 or float64 unchanged, others as float64; factors int64.

    Raises:
      ValueError: a shape, a type or a value does not fit.
    """
    codes, factors = np.asarray(codes), np.asarray(factors)
    for name, array, axes in (("codes", codes, "[N, D]"), ("factors", factors, "[N, F]")):
        if array.ndim != 2 or 0 in array.shape:
            raise ValueError(f"{name} must be a non-empty {axes} array, got shape {array.shape}")
    if len(codes) != len(factors):
        raise ValueError(f"codes and factors must have the same N, got {codes.shape} and {factors.shape}")
    codes = _as_float(codes)
    finite = np.isfinite(codes)
    if not finite.all():
        row, latent = np.argwhere(~finite)[0]
        raise ValueError(f"codes must be finite, got {codes[row, latent]} in row {row}, latent {latent}")
    if factors.dtype.kind == "f" and not (finite := np.isfinite(factors)).all():
        row, factor = np.argwhere(~finite)[0]
        raise ValueError(f"factors must be finite, got {factors[row, factor]} in row {row}, factor {factor}")
    return codes, _as_labels("factors", factors)


def discretise(codes: npt.ArrayLike, num_bins: int = 20) -> np.ndarray:
    """Cuts each latent into equal-width bins between its smallest and its largest value.

    The bins are those of disentanglement_lib: the edges are those of np.histogram (in the dtype of the codes), and the
    bin is that of np.digitize over all edges but the last, so the maximum falls into the last bin. Bins count from 0
    here and from 1 there. A constant latent falls into one bin. A latent that spans only a few float steps, which
    np.histogram refuses, leaves some bins empty.

    Args:
      codes: [N, D] finite real numbers.
      num_bins: bins per latent, at least 1.

    Returns:
      [N, D] int64 in [0, num_bins).

    Raises:
      ValueError: num_bins is not a positive integer, or the codes are not real numbers.

    Example:
      >>> discretise([[0.0], [0.4], [0.6], [1.0]], num_bins=2).ravel()
      array([0, 0, 1, 1])
    """
    if not isinstance(num_bins, int | np.integer) or isinstance(num_bins, bool) or num_bins < 1:
        raise ValueError(f"num_bins must be an integer >= 1, got {num_bins!r}")
    codes_DxN = np.ascontiguousarray(_as_float(np.asarray(codes)).T)
    bins_DxN = np.empty(codes_DxN.shape, np.int64)
    for column, bins in zip(codes_DxN, bins_DxN, strict=True):
        low, high = column.min(), column.max()
        if low == high:
            low, high = low - column.dtype.type(0.5), high + column.dtype.type(0.5)
        # The first edge is the minimum itself, so only the inner edges separate values. One call per column,
        # not one for all: linspace rounds all columns differently once the range of one underflows.
        edges = np.linspace(low, high, num_bins + 1, dtype=column.dtype)
        bins[:] = np.searchsorted(edges[1:-1], column, side="right")
    return bins_DxN.T


def mutual_information(bins: npt.ArrayLike, factors: npt.ArrayLike) -> np.ndarray:
    """Mutual information of each column of bins with each factor.

    I(b; v) = sum over (b, v) of p(b, v) log(p(b, v) / (p(b) p(v))), with p the frequencies in the sample.

    Args:
      bins: [N, D] integers >= 0.
      factors: [N, F] integers >= 0.

    Returns:
      [D, F] float64 in nats, >= 0. It is exactly 0 where a column of either side is constant; equal columns of bins
      have values that are equal to the last bit.

    Raises:
      ValueError: the inputs are not integers >= 0, or their N differs.

    Example:
      >>> mutual_information([[0], [0], [1], [1]], [[0, 0], [0, 1], [1, 0], [1, 1]]).round(3)
      array([[0.693, 0.   ]])
    """
    bins_DxN = _compact(_as_labels("bins", np.asarray(bins)))
    factors_FxN = _compact(_as_labels("factors", np.asarray(factors)))
    (num_codes, num_samples), num_bins = bins_DxN.shape, bins_DxN.max() + 1
    if factors_FxN.shape[1] != num_samples:
        raise ValueError(f"bins and factors must have the same N: {num_samples}, {factors_FxN.shape[1]}")
    result_DxF = np.empty((num_codes, len(factors_FxN)))
    # One row of a table per (latent, bin), so that one bincount per factor fills the tables of all latents.
    rows_DxN = bins_DxN + num_bins * np.arange(num_codes)[:, None]
    for f, factor in enumerate(factors_FxN):
        size = factor.max() + 1
        entries = (rows_DxN * size + factor).ravel()
        counts = np.bincount(entries, minlength=num_codes * num_bins * size).reshape(num_codes, num_bins, size)
        # Products of counts, unlike those of frequencies, are exact: the log of independent entries is exactly 0.
        independent = counts.sum(axis=2, keepdims=True) * counts[0].sum(axis=0)
        ratio = np.divide(counts * num_samples, independent, where=counts > 0, out=np.ones(counts.shape))
        result_DxF[:, f] = (counts * np.log(ratio)).reshape(num_codes, -1).sum(axis=1)
    return np.maximum(result_DxF / num_samples, 0.0)


def entropy(factors: npt.ArrayLike) -> np.ndarray:
    """Entropy of each factor over the sample: minus the sum over v of p(v) log p(v).

    Args:
      factors: [N, F] integers >= 0.

    Returns:
      [F] float64 in nats, exactly 0 for a factor that is constant in the sample.

    Raises:
      ValueError: the factors are not integers >= 0.

    Example:
      >>> entropy([[0, 1], [1, 1]]).round(3)  # log 2, and a constant
      array([0.693, 0.   ])
    """
    factors_FxN = _compact(_as_labels("factors", np.asarray(factors)))
    num_samples = factors_FxN.shape[1]
    counts = [np.bincount(factor) for factor in factors_FxN]
    counts = [count[count > 0] for count in counts]
    return np.array([(count * np.log(num_samples / count)).sum() / num_samples for count in counts])


def normalised_mutual_information(codes: npt.ArrayLike, factors: npt.ArrayLike, num_bins: int = 20) -> np.ndarray:
    """I(z_d; v_f) / H(v_f), the terms of eq. 6 of Chen et al. 2018 (arXiv 1802.04942).

    Args:
      codes: [N, D] finite real numbers.
      factors: [N, F] integers >= 0.
      num_bins: bins per latent.

    Returns:
      [D, F] float64 in [0, 1] up to rounding; no unit.

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample, which leaves the ratio undefined.

    Example:
      >>> normalised_mutual_information([[0.0], [0.0], [1.0], [1.0]], [[0, 0], [0, 1], [1, 0], [1, 1]])
      array([[1., 0.]])
    """
    codes, factors = check_samples(codes, factors)
    entropy_F = entropy(factors)
    if not entropy_F.all():
        constant = ", ".join(str(f) for f in np.flatnonzero(entropy_F == 0))
        raise ValueError(f"factor {constant} is constant in the sample, its entropy is 0: leave it out")
    return mutual_information(discretise(codes, num_bins), factors) / entropy_F


def top_two(values_DxF: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The highest and the second highest value of each column: two arrays [F]; with D = 1 the second is 0."""
    ordered = np.sort(values_DxF, axis=0)
    return ordered[-1], ordered[-2] if len(ordered) > 1 else np.zeros_like(ordered[-1])


def gaps(values_DxF: np.ndarray) -> np.ndarray:
    """The highest minus the second highest value of each column, [F]; with D = 1 the second is 0."""
    first, second = top_two(values_DxF)
    return first - second


def _as_float(codes: np.ndarray) -> np.ndarray:
    """float32 and float64 stay, because the bin edges follow the dtype; other real numbers become float64."""
    if codes.dtype in (np.float32, np.float64):
        return codes
    if codes.dtype.kind in "cOSUmM":
        raise ValueError(f"codes must be real numbers, got dtype {codes.dtype}")
    return codes.astype(np.float64)


def _as_labels(name: str, labels: np.ndarray) -> np.ndarray:
    """Labels [N, K] as int64, checked."""
    if labels.ndim != 2 or 0 in labels.shape:
        raise ValueError(f"{name} must be a non-empty 2-d array, got shape {labels.shape}")
    if labels.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integers, got dtype {labels.dtype}")
    if labels.min() < 0:
        raise ValueError(f"{name} must be >= 0, got {labels.min()} in column {labels.min(axis=0).argmin()}")
    return labels.astype(np.int64, copy=False)


def _compact(labels: np.ndarray) -> np.ndarray:
    """[N, K] as a contiguous [K, N], renumbered if a label is N or more, to keep tables of counts small."""
    labels_KxN = np.ascontiguousarray(labels.T)
    if labels_KxN.max() < len(labels):
        return labels_KxN
    return np.stack([np.unique(row, return_inverse=True)[1] for row in labels_KxN])
