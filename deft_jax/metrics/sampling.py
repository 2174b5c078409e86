"""Images that a metric draws: factors drawn by the metric, encoded in chunks by the caller's function."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from deft_jax.metrics import mutual_information
from deft_jax.metrics.progress import Progress

Encode = Callable[[np.ndarray], np.ndarray]
"""Factors int32 [n, F] -> codes [n, D]."""


class Sampler(NamedTuple):
    """How factors become codes, and where progress is reported."""

    encode: Encode
    sizes: np.ndarray
    """[F] number of values of each factor."""
    chunk: int
    """The most examples in one call of `encode`."""
    total: int
    """Batches in all, for `progress`."""
    progress: Progress | None

    def encoded_batches(self, factors: np.ndarray, done: int) -> Iterator[tuple[slice, np.ndarray]]:
        """Encodes batches in blocks, so that never all codes are in memory.

        Args:
          factors: [B, ..., F] integers, B batches.
          done: batches that were finished before these, for `progress`.

        Yields:
          (which batches, their codes [b, ..., D] float64).
        """
        batch_shape = factors.shape[1:-1]
        step = max(1, self.chunk // int(np.prod(batch_shape)))
        for start in range(0, len(factors), step):
            block = factors[start : start + step]
            codes = encode_in_chunks(self.encode, block.reshape(-1, len(self.sizes)), self.chunk)
            yield slice(start, start + step), codes.reshape(len(block), *batch_shape, -1)
            if self.progress is not None:
                self.progress(done + start + len(block), self.total)


def encode_in_chunks(encode: Encode, factors_NxF: np.ndarray, chunk: int) -> np.ndarray:
    """Codes [N, D] float64, checked, in calls of at most `chunk` rows."""
    parts = [factors_NxF[start : start + chunk] for start in range(0, len(factors_NxF), chunk)]
    codes = [mutual_information.check_samples(encode(part), part)[0] for part in parts]
    return np.concatenate(codes).astype(np.float64, copy=False)


def check_sizes(factor_sizes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Checks the number of values of each factor.

    Args:
      factor_sizes: F positive integers.

    Returns:
      (sizes [F], indices of the factors with more than one value).

    Raises:
      ValueError: a size is not a positive integer, or fewer than two factors have more than one value.
    """
    sizes = np.asarray(factor_sizes)
    if sizes.ndim != 1 or sizes.dtype.kind not in "iu" or (sizes < 1).any():
        raise ValueError(f"factor_sizes must be positive integers, got {factor_sizes!r}")
    varying = np.flatnonzero(sizes > 1)
    if len(varying) < 2:
        raise ValueError(f"two factors or more must have more than one value, got sizes {tuple(sizes.tolist())}")
    return sizes, varying


def count_distinct(factors: np.ndarray) -> int:
    """The number of distinct images among factors [..., F]."""
    rows = np.ascontiguousarray(factors.reshape(-1, factors.shape[-1]))
    # Rows are compared as bytes: the index of an image need not fit an integer.
    return len(np.unique(rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1])))))
