"""Reading freezing points off curves: crossings, censoring, medians with their uncertainty, peaks.

An information freezing point (IFP) is the beta at which information leaves zero as beta falls (Wu et al. 2022,
section 3). Plain numpy; betas are in nats of reconstruction per nat of KL throughout.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.signal import find_peaks
from scipy.stats import binom

ABOVE, BELOW = "above", "below"


class Point(NamedTuple):
    """A freezing point.

    Attributes:
      beta: where it lies; if `censored`, the end of the sweep that it lies beyond.
      censored: '' if it lies within the sweep; 'above' if the information was present from the start, so that it lies
        above the sweep; 'below' if it was absent to the end.
    """

    beta: float
    censored: str = ""

    @property
    def order(self) -> float:
        """A number to sort by: beta within the sweep, infinity above it, 0 below it."""
        return {ABOVE: math.inf, BELOW: 0.0}.get(self.censored, self.beta)

    def __str__(self) -> str:
        return f"{ {ABOVE: '>', BELOW: '<'}.get(self.censored, '') }{self.beta:.3g}"


def smooth(values_E: np.ndarray, window: int) -> np.ndarray:
    """Centred moving mean.

    Args:
      values_E: [E].
      window: odd number of entries; near the ends fewer, as many as there are on both sides.

    Returns:
      float64 [E].

    Raises:
      ValueError: the window is even or below 1.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"the window of a moving mean must be odd and at least 1, got {window}")
    totals = np.concatenate([[0.0], np.cumsum(values_E, dtype=np.float64)])
    index = np.arange(len(values_E))
    half = np.minimum(window // 2, np.minimum(index, index[::-1]))
    return (totals[index + half + 1] - totals[index - half]) / (2 * half + 1)


def freezing_point(betas_E: np.ndarray, values_E: np.ndarray, threshold: float = 0.1, window: int = 3) -> Point:
    """Where a curve over falling beta last rises through a threshold.

    The crossing is interpolated linearly in log beta. A curve that is never below the threshold is censored 'above', a
    curve that is below it at the end 'below'.

    Args:
      betas_E: [E], positive, strictly falling.
      values_E: [E], for example a KL in nats.
      threshold: in the unit of the values.
      window: of the moving mean that is applied to the values first.

    Raises:
      ValueError: the shapes differ, betas do not fall, or a value is not finite.
    """
    betas, values = np.asarray(betas_E, np.float64), np.asarray(values_E, np.float64)
    if betas.ndim != 1 or betas.shape != values.shape or not len(betas):
        shapes = f"{betas.shape}, {values.shape}"
        raise ValueError(f"betas and values must be one-dimensional and equally long, got {shapes}")
    if not (np.all(betas > 0) and np.all(np.diff(betas) < 0)):
        raise ValueError("betas must be positive and fall from entry to entry")
    if not np.all(np.isfinite(values)):
        raise ValueError("a curve with values that are not finite has no freezing point")
    values = smooth(values, window)
    below = np.flatnonzero(values < threshold)
    if not len(below):
        return Point(float(betas[0]), ABOVE)
    last = below[-1]
    if last == len(betas) - 1:
        return Point(float(betas[-1]), BELOW)
    fraction = (threshold - values[last]) / (values[last + 1] - values[last])
    return Point(float(betas[last] * (betas[last + 1] / betas[last]) ** fraction))


@dataclasses.dataclass(frozen=True)
class Summary:
    """Freezing points of many trials.

    Attributes:
      median: one of the trials, without interpolation.
      lower: the lower quartile, one of the trials.
      upper: the upper quartile, one of the trials.
      interval: two trials between which the median of the population lies with at least `confidence`, whatever the
        distribution; None if there are too few trials.
      above: number of trials censored 'above'.
      below: number of trials censored 'below'.
      count: number of trials.
    """

    median: Point
    lower: Point
    upper: Point
    interval: tuple[Point, Point] | None
    above: int
    below: int
    count: int


def summarise(points: Sequence[Point], confidence: float = 0.95) -> Summary:
    """Median, quartiles and the distribution-free confidence interval of the median (order statistics, binomial).

    These statistics use only the order of the points, so censored points take part.

    Args:
      points: freezing points, one per trial.
      confidence: of the interval.

    Raises:
      ValueError: there is no point.
    """
    if not points:
        raise ValueError("no freezing points to summarise")
    ordered = sorted(points, key=lambda point: point.order)
    count = len(ordered)
    # The median lies between the r-th smallest and the r-th largest unless fewer than r trials fall on one side.
    rank = int(binom.ppf((1 - confidence) / 2, count, 0.5))
    interval = (ordered[rank - 1], ordered[count - rank]) if rank >= 1 else None
    lower, median, upper = (ordered[math.ceil(count * q) - 1] for q in (0.25, 0.5, 0.75))
    censored = [point.censored for point in points]
    return Summary(median, lower, upper, interval, censored.count(ABOVE), censored.count(BELOW), count)


class Peak(NamedTuple):
    """A freezing point of a whole data set.

    Attributes:
      beta: of the peak.
      height: -dI/d(log beta) at the peak, in nats.
    """

    beta: float
    height: float


def information_rate(betas_E: np.ndarray, information_E: np.ndarray, window: int = 3) -> np.ndarray:
    """-dI/d(log beta) = beta (-dI/dbeta) of the smoothed curve.

    The derivative is in the logarithm because a frozen latent then adds a constant: a linear model with K frozen
    latents has I = 1/2 sum_k log(beta_k / beta), so this rate is K / 2, whereas -dI/dbeta grows like 1 / beta and hides
    the later peaks.

    Args:
      betas_E: [E], positive, strictly falling.
      information_E: [E], I(x; z) in nats.
      window: of the moving mean.

    Returns:
      [E], in nats.
    """
    return -np.gradient(smooth(information_E, window), np.log(betas_E))


def peaks(
    betas_E: np.ndarray, information_E: np.ndarray, window: int = 3, prominence: float = 0.25
) -> list[Peak]:
    """Peaks of -dI/d(log beta): freezing points that need no labels.

    Args:
      betas_E: [E], positive, strictly falling.
      information_E: [E], I(x; z) in nats.
      window: of the moving mean.
      prominence: least height of a peak above the higher of the two valleys beside it, in nats. The default is half of
        what one more linear latent adds.

    Returns:
      The peaks, from the highest beta to the lowest.
    """
    rate = information_rate(betas_E, information_E, window)
    indices, _ = find_peaks(rate, prominence=prominence)
    return [Peak(float(betas_E[index]), float(rate[index])) for index in indices]
