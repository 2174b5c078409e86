"""What metrics share: checks of their inputs, the split into a training and a test part, encoding in chunks."""

import concurrent.futures
from collections.abc import Callable, Sequence

import numpy as np

from deft_jax.data.labels import continuous_columns
from deft_jax.metrics import mutual_information

Progress = Callable[[int, int], None]
"""progress(done, total): called from the calling thread as parts of a metric, mostly its factors, are finished."""




def split(num_samples, num_train, seed, groups=None):
    """Row numbers of the training part and of the test part, which share no group.

    Args:
      num_samples: N rows.
      num_train: rows of the training part; None: two thirds of N, rounded down. Where rows repeat, the training part is
        the smallest number of whole groups with at least so many rows.
      seed: integer in [0, 2**32).
      groups: [N] integers, equal for rows of one image; None: each row is an image of its own, and the training part is
        the first num_train rows of np.random.default_rng(seed).permutation(N).

    Raises:
      ValueError: a number is out of range, or no group is left for the test part; one line says which.
    """
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be an integer in [0, 2**32), got {seed!r}")
    if num_train is None:
        num_train = num_samples * 2 // 3
    if not isinstance(num_train, int | np.integer) or not 0 < num_train < num_samples:
        raise ValueError(f"num_train must be an integer from 1 to {num_samples - 1}, got {num_train!r}")
    rows = np.random.default_rng(seed).permutation(num_samples)
    if groups is None:
        return rows[:num_train], rows[num_train:]
    groups = np.asarray(groups)
    if groups.shape != (num_samples,):
        raise ValueError(f"groups must hold one number per row, {num_samples}, got shape {groups.shape}")
    _, first, group_N, counts = np.unique(groups[rows], return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)  # groups in the order in which the permutation meets them
    taken = np.searchsorted(np.cumsum(counts[order]), num_train) + 1
    if taken >= len(order):
        raise ValueError(f"{len(order)} distinct images leave none for the test part; give more, or lower num_train")
    in_train = np.isin(group_N, order[:taken])
    return rows[in_train], rows[~in_train]


def distinct_rows(codes, factors) -> np.ndarray:
    """Groups for `split` where nothing else tells images apart: [N], equal for rows of equal codes and factors.

    The posterior means of one image are equal, so rows of an image that was drawn twice are. So are those of different
    images that share all factors under codes that hold nothing else: these then count as one image.
    """
    rows = np.concatenate([np.asarray(codes, np.float64), np.asarray(factors, np.float64)], axis=1) + 0.0  # no -0.0
    # Compared as bytes: several times as fast as row by row.
    as_bytes = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.itemsize * rows.shape[1])))
    return np.unique(as_bytes, return_inverse=True)[1].reshape(-1)


def check_held_out(columns, continuous, train, test) -> None:
    """Raises ValueError for a factor of which the test part has no value that the training part has.

    Such a factor cannot be scored on the test part: where each of its values has one distinct image, say.

    Args:
      columns: F columns [N]. continuous: F booleans; those factors are not looked at.
      train, test: row numbers.
    """
    for f, column in enumerate(columns):
        if not continuous[f] and not np.isin(column[test], column[train]).any():
            raise ValueError(f"no value of factor {f} is in both the training and the test part, as where each has one "
                             "distinct image; where equal rows are different images, call "
                             "metrics.compute with groups=numpy.arange(N)")


def image_groups(num_samples, groups=None) -> np.ndarray:
    """The number of each row's image, [N]: `groups`, checked, or each row an image of its own."""
    if groups is None:
        return np.arange(num_samples)
    groups = np.asarray(groups)
    if groups.shape != (num_samples,) or groups.dtype.kind not in "iu":
        raise ValueError(f"groups must hold one integer per row, {num_samples}, got {groups.dtype} {groups.shape}")
    return groups


def distinct_counts(groups, **parts) -> dict[str, int]:
    """How many distinct images each part of a sample has: {'num_distinct_PART': count}."""
    return {f"num_distinct_{name}": len(np.unique(groups[rows])) for name, rows in parts.items()}


def count_distinct(factors, sizes) -> int:
    """How many distinct images drawn factors [..., F] stand for."""
    drawn = np.ascontiguousarray(np.asarray(factors).reshape(-1, len(sizes)))
    # Rows as bytes: the number of an image need not fit an integer.
    return len(np.unique(drawn.view(np.dtype((np.void, drawn.itemsize * len(sizes))))))


def report_progress(futures: Sequence[concurrent.futures.Future], progress: Progress | None) -> None:
    """Calls progress(done, total) as futures are finished; returns when all are, or at once without `progress`.

    What a future or `progress` raises ends the wait, and futures that have not begun are cancelled.
    """
    if progress is None:
        return
    try:
        for done, future in enumerate(concurrent.futures.as_completed(futures), 1):
            future.result()
            progress(done, len(futures))
    except BaseException:
        for future in futures:
            future.cancel()
        raise


def as_classes(codes, factors, continuous=None, num_bins=20):
    """One checked sample whose continuous factors are cut into equal-width bins, for metrics that count classes.

    Args:
      codes: [N, D]. factors: [N, F], integers >= 0; real numbers where continuous.
      continuous: False (none), F booleans, or None: those that `continuous_columns` finds.
      num_bins: bins of a continuous factor.

    Returns:
      (codes float [N, D], classes int64 [N, F], indices of the factors that were binned [K]).

    Raises:
      ValueError: an input does not fit; one line says which.
    """
    codes, columns, continuous = mixed_samples(codes, factors, continuous, allow_constant=True)
    binned = np.flatnonzero(continuous)
    classes = [
        mutual_information.discretise(column[:, None], num_bins)[:, 0] if is_continuous else column
        for column, is_continuous in zip(columns, continuous, strict=True)
    ]
    return codes, np.stack(classes, axis=1), binned


def standardise(values, train):
    """Mean 0 and standard deviation 1 of each column in the training rows; what is constant there is not scaled."""
    part = values[train]
    scale = np.where(part.max(axis=0) > part.min(axis=0), part.std(axis=0), 1.0)
    return (values - part.mean(axis=0)) / scale


def mixed_samples(codes, factors, continuous, allow_constant=False):
    """information.check_samples, and real numbers where a factor is continuous.

    continuous: False (no factor is), F booleans, or None: those that `continuous_columns` finds.
    Returns codes [N, D] (float32 or float64), F columns [N] (int64, or float64 if continuous), and continuous as
    [F] bool.
    """
    factors = labels = np.asarray(factors)
    if continuous is None:
        usable = factors.ndim == 2 and factors.dtype.kind in "iuf" and np.isfinite(factors).all()
        continuous = continuous_columns(factors) | _single_fraction(factors) if usable else False
    if factors.ndim == 2 and continuous is not False:
        continuous = np.asarray(continuous)
        if continuous.dtype != bool or continuous.shape != factors.shape[1:]:
            got = f"got {continuous.dtype} of shape {continuous.shape}"
            raise ValueError(f"continuous must be False or {factors.shape[1]} booleans, {got}")
        if factors.dtype.kind not in "iuf":
            raise ValueError(f"factors must be real numbers, got dtype {factors.dtype}")
        for wrong, what in (
            (~np.isfinite(factors), "finite"),
            ((factors != np.floor(factors)) & ~continuous, "integers unless declared continuous"),
        ):
            if wrong.any():
                row, f = np.argwhere(wrong)[0]
                raise ValueError(f"factors must be {what}, got {factors[row, f]} in row {row}, factor {f}")
        labels = np.where(continuous, 0, factors).astype(np.int64)
    codes, labels = mutual_information.check_samples(codes, labels)
    if continuous is False:
        continuous = np.zeros(labels.shape[1], bool)
    columns = [factors[:, f].astype(np.float64) if continuous[f] else labels[:, f] for f in range(labels.shape[1])]
    for f, column in enumerate(columns):
        if not allow_constant and (column == column[0]).all():
            raise ValueError(f"factor {f} is constant in the sample: leave it out")
    return codes, columns, continuous


def _single_fraction(factors):
    """Columns [F] of one value that is no integer: an error names them as constant, not as wrong classes."""
    return (factors == factors[:1]).all(axis=0) & (factors != np.floor(factors)).any(axis=0)


def encode_in_chunks(encode, factors_NxF, chunk):
    """Codes [N, D] float64, checked, in calls of at most `chunk` rows."""
    parts = [factors_NxF[start : start + chunk] for start in range(0, len(factors_NxF), chunk)]
    codes = [mutual_information.check_samples(encode(part), part)[0] for part in parts]
    return np.concatenate(codes).astype(np.float64, copy=False)


def checked_sizes(factor_sizes):
    """(sizes [F], indices of the factors that can vary)."""
    sizes = np.asarray(factor_sizes)
    if sizes.ndim != 1 or sizes.dtype.kind not in "iu" or (sizes < 1).any():
        raise ValueError(f"factor_sizes must be positive integers, got {factor_sizes!r}")
    free = np.flatnonzero(sizes > 1)
    if len(free) < 2:
        raise ValueError(f"two factors or more must have more than one value, got sizes {tuple(sizes.tolist())}")
    return sizes, free


def check_at_least(numbers):
    """Checks that each number is an integer of at least so much: name -> (number, least)."""
    for name, (number, least) in numbers.items():
        if not isinstance(number, int | np.integer) or isinstance(number, bool) or number < least:
            raise ValueError(f"{name} must be an integer >= {least}, got {number!r}")



def finite_codes(codes, name="codes"):
    """codes [N, D] as an array; raises ValueError unless it is not empty and holds finite real numbers."""
    codes = np.asarray(codes)
    if codes.ndim != 2 or 0 in codes.shape:
        raise ValueError(f"{name} must be a non-empty [N, D] array, got shape {codes.shape}")
    if codes.dtype.kind not in "fiub" or not np.isfinite(codes).all():
        raise ValueError(f"{name} must be finite real numbers")
    return codes
