"""Reading freezing points off curves: crossings, censoring, medians with their uncertainty, peaks, betas of stages.

An information freezing point (IFP) is the beta at which information leaves zero as beta falls (Wu et al. 2022,
section 3). Plain numpy; betas are in nats of reconstruction a nat of KL throughout.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.signal import find_peaks
from scipy.stats import binom

ABOVE, BELOW = "above", "below"


class Point(NamedTuple):
    """A freezing point. beta: where it lies, or the end of the sweep that it lies beyond if `censored`.

    censored: '' if it was seen; 'above' if the information was there from the start, so that it lies above the
    sweep; 'below' if it was absent to the end.
    """

    beta: float
    censored: str = ""

    @property
    def order(self) -> float:
        """A number to sort by: infinity where it lies above the sweep, 0 where below."""
        return {ABOVE: math.inf, BELOW: 0.0}.get(self.censored, self.beta)

    def __str__(self):
        return f"{ {ABOVE: '>', BELOW: '<'}.get(self.censored, '') }{self.beta:.3g}"


def smooth(values_E: np.ndarray, window: int) -> np.ndarray:
    """Centred moving mean over `window` (odd) entries; at the ends over as many as there are on both sides."""
    if window < 1 or window % 2 == 0:
        raise ValueError(f"the window of a moving mean must be odd and at least 1, got {window}")
    totals = np.concatenate([[0.0], np.cumsum(values_E, dtype=np.float64)])
    place = np.arange(len(values_E))
    half = np.minimum(window // 2, np.minimum(place, place[::-1]))
    return (totals[place + half + 1] - totals[place - half]) / (2 * half + 1)


def freezing_point(betas_E: np.ndarray, values_E: np.ndarray, threshold: float = 0.1, window: int = 3) -> Point:
    """Where a curve over falling beta last rises through a threshold after it has been below.

    betas_E: positive, strictly falling. values_E: for example KL in nats. threshold: in the same unit.
    window: of the moving mean that the values go through first.

    The crossing is interpolated linearly in log beta. A curve never below the threshold is censored 'above', one
    below it at the end 'below'. Raises ValueError where the shapes differ, betas do not fall or a value is not finite.
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
    part = (threshold - values[last]) / (values[last + 1] - values[last])
    return Point(float(betas[last] * (betas[last + 1] / betas[last]) ** part))


class Summary(NamedTuple):
    """Freezing points of many trials.

    median, lower, upper: the median and the quartiles, each one of the trials (no interpolation).
    interval: two trials between which the median of all possible trials lies with at least `confidence`, whatever
      their distribution; None where there are too few trials for that.
    above, below: trials censored on either side. count: all trials.
    """

    median: Point
    lower: Point
    upper: Point
    interval: tuple[Point, Point] | None
    above: int
    below: int
    count: int


def summarise(points: Sequence[Point], confidence: float = 0.95) -> Summary:
    """Median, quartiles and the distribution-free interval of the median (order statistics, binomial).

    Censored points take part with their order alone, which is all that these statistics use.
    Raises ValueError where there is no point.
    """
    if not points:
        raise ValueError("no freezing points to summarise")
    ordered = sorted(points, key=lambda point: point.order)
    count = len(ordered)
    # The median lies between the r-th smallest and the r-th largest unless fewer than r trials fall on one side.
    rank = int(binom.ppf((1 - confidence) / 2, count, 0.5))
    interval = (ordered[rank - 1], ordered[count - rank]) if rank >= 1 else None
    place = [math.ceil(count * q) - 1 for q in (0.25, 0.5, 0.75)]
    lower, median, upper = (ordered[index] for index in place)
    censored = [point.censored for point in points]
    return Summary(median, lower, upper, interval, censored.count(ABOVE), censored.count(BELOW), count)


class Peak(NamedTuple):
    """A freezing point of a whole data set. beta: its place; height: -dI/d(log beta) there, in nats."""

    beta: float
    height: float


def information_rate(betas_E: np.ndarray, information_E: np.ndarray, window: int = 3) -> np.ndarray:
    """-dI/d(log beta) = beta (-dI/dbeta), in nats, of the smoothed curve: [E].

    In the logarithm because there a frozen latent adds a constant: a linear model of K frozen latents has
    I = 1/2 sum log(beta_k / beta), so K / 2 of this, while -dI/dbeta grows like 1 / beta and buries the later peaks.
    """
    return -np.gradient(smooth(information_E, window), np.log(betas_E))


def peaks(
    betas_E: np.ndarray, information_E: np.ndarray, window: int = 3, prominence: float = 0.25
) -> list[Peak]:
    """Peaks of -dI/d(log beta), the freezing points that need no labels, from the highest beta down.

    prominence: least height above the higher of the two valleys beside a peak, in nats; half of what one more
    linear latent adds.
    """
    rate = information_rate(betas_E, information_E, window)
    found, _ = find_peaks(rate, prominence=prominence)
    return [Peak(float(betas_E[index]), float(rate[index])) for index in found]
