"""Mixtures of the posteriors of one latent, integrated on a grid.

A posterior q(z|x_n) = N(mean_n, std_n^2) of one latent is a density on a line, and the aggregate posterior of a set of
images is the mean of theirs. Information of the latent follows from integrals of densities times logarithms of such
means, which are sums over a grid of two thirds of the narrowest standard deviation: no bins and no sampling noise.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

_SUPPORT = 6  # standard deviations beyond which a posterior density counts as 0
_RESOLUTION = 1.5  # points of the grid per narrowest standard deviation: sums and integrals differ by 1e-8
_MAX_POINTS = 1 << 14  # of the grid
_BLOCK = 1 << 18  # densities computed at a time
_MAX_CACHED = 1 << 22  # densities kept for the next integral
_MAX_TABLE = 1 << 22  # entries of a table of mixtures at a time


class Averages(NamedTuple):
    """Integrals of N posteriors q_n against the mixtures q_c of their classes, c = label[n]."""

    cross_entropy: np.ndarray
    """[N] - integral of q_n log q_c, in nats."""
    overlap: np.ndarray
    """[N] integral of q_n^2 / q_c, no unit: 1 where all posteriors of a class are equal."""
    class_size: np.ndarray
    """[N] images in the class."""

    @property
    def mean_entropy(self) -> float:
        """The mean over images of the entropy of the mixture of their class, in nats."""
        return float(self.cross_entropy.mean())

    def entropy_bias(self) -> float:
        """By how much the mean entropy of the mixtures is too low, in nats, for images that are a sample.

        To first order in 1 / N_c the entropy of a mixture of N_c drawn posteriors is too low by X_c / (2 N_c), where
        1 + X_c is the mean overlap of drawn posteriors with the whole mixture, as Miller (1955) has for counts.
        Variances over a sample of N_c are too small by 1 - 1 / N_c, which is corrected. A class of one image, whose
        variance nothing tells, counts as without bias.
        """
        excess = (self.overlap - 1) / np.maximum(self.class_size - 1, 1)
        return float(excess.sum() / (2 * len(excess)))


class _Block(NamedTuple):
    """Some posteriors on the grid points around their means."""

    rows: np.ndarray
    """[n] indices of the images."""
    points: np.ndarray
    """[n, W] indices of grid points."""
    density: np.ndarray
    """[n, W] densities there."""


class PosteriorMixtures:
    """Posteriors of N images of one latent.

    The grid has at most 16,384 points; a posterior that is narrower than 1.5 of them counts as that wide.

    Attributes:
      entropy: [N] differential entropies of the posteriors, in nats.
    """

    def __init__(self, mean_N: np.ndarray, std_N: np.ndarray):
        """
        Args:
          mean_N: means, finite float64 [N].
          std_N: standard deviations, above 0, float64 [N].
        """
        mean_N = mean_N - mean_N.min()
        extent = mean_N.max() + 2 * _SUPPORT * std_N.max()
        self._step = max(std_N.min() / _RESOLUTION, extent / (_MAX_POINTS - 8 * _SUPPORT))
        self._std = np.maximum(std_N, _RESOLUTION * self._step)
        self._half = np.ceil(_SUPPORT * self._std / self._step).astype(np.int64)
        self._mean = mean_N / self._step + self._half.max()  # in points of the grid
        self._num_points = int(np.ceil(self._mean.max())) + self._half.max() + 1
        self._by_width = np.argsort(self._half, kind="stable")  # neighbours need windows of about the same width
        self._may_cache = (2 * self._half + 1).sum() <= _MAX_CACHED
        self.entropy = 0.5 * np.log(2 * np.pi * np.e) + np.log(self._std)

    def averages(self, label_N: np.ndarray, overlap: bool = True) -> Averages:
        """Integrals of the posteriors against the mixtures of their classes.

        Args:
          label_N: the class of each image, integers 0 .. classes - 1, each of which occurs.
          overlap: whether to compute the overlap; otherwise it is 1.
        """
        count_C = np.bincount(label_N)
        result = Averages(np.empty(len(label_N)), np.ones(len(label_N)), count_C[label_N])
        per_table = max(1, _MAX_TABLE // self._num_points)
        for first in range(0, len(count_C), per_table):
            count = count_C[first : first + per_table]
            inside = None if len(count) == len(count_C) else (label_N >= first) & (label_N < first + per_table)
            self._add_averages(result, label_N - first, count, inside, overlap)
        return result

    def _add_averages(
        self, result: Averages, label_N: np.ndarray, count_C: np.ndarray, inside_N: np.ndarray | None, overlap: bool
    ) -> None:
        """Fills in the entries of the images inside, whose classes are those of the counts."""
        size = len(count_C) * self._num_points
        mixture = np.zeros(size)
        for block in self._blocks(inside_N):
            cells = label_N[block.rows, None] * self._num_points + block.points
            low, high = cells.min(), cells.max() + 1
            mixture[low:high] += np.bincount((cells - low).ravel(), block.density.ravel(), minlength=high - low)
        mixture /= np.repeat(count_C, self._num_points)
        log_mixture = np.log(mixture, where=mixture > 0, out=np.zeros(size))
        for block in self._blocks(inside_N):
            cells = label_N[block.rows, None] * self._num_points + block.points
            result.cross_entropy[block.rows] = -self._step * np.einsum("nw,nw->n", block.density, log_mixture[cells])
            if overlap:  # where a density underflows to 0, the mixture may be 0 as well
                ratio = np.divide(block.density, mixture[cells], where=block.density > 0, out=np.zeros(cells.shape))
                result.overlap[block.rows] = self._step * np.einsum("nw,nw->n", block.density, ratio)

    def _blocks(self, inside_N: np.ndarray | None) -> Iterator[_Block]:
        """The posteriors of the images inside, in blocks. inside_N: bool, or None for all."""
        for block in self._cached if self._may_cache else self._compute_blocks():
            if inside_N is None:
                yield block
                continue
            kept = inside_N[block.rows]
            if kept.any():
                yield _Block(block.rows[kept], block.points[kept], block.density[kept])

    @functools.cached_property
    def _cached(self) -> list[_Block]:
        return list(self._compute_blocks())

    def _compute_blocks(self) -> Iterator[_Block]:
        start = 0
        while start < len(self._by_width):
            # At least half of the entries of a block lie within the support: widths are sorted.
            half = self._half[self._by_width[start:]]
            stop = start + max(1, min(_BLOCK // int(2 * half[0] + 1), int(np.searchsorted(half, 2 * half[0], "right"))))
            rows = self._by_width[start:stop]
            offset = np.arange(-self._half[rows[-1]], self._half[rows[-1]] + 1)
            points = np.rint(self._mean[rows]).astype(np.int64)[:, None] + offset
            std = self._std[rows, None]
            density = np.exp(-0.5 * ((points - self._mean[rows, None]) * (self._step / std)) ** 2)
            yield _Block(rows, points, density / (std * np.sqrt(2 * np.pi)))
            start = stop
