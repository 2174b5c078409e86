"""Betas of DEFT's stages and sizes of its groups, from freezing points."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from deft_jax.annealing.freezing_points import Point


class StageBetas(NamedTuple):
    """Stages that separate freezing points.

    Attributes:
      betas: one per stage, strictly falling.
      thresholds: the betas without the last, for the exponential rule of stages.
      stages: for each stage, the names of the points that freeze in it.
    """

    betas: list[float]
    thresholds: list[float]
    stages: list[list[str]]


def stage_betas(
    points: Mapping[str, float], *, last: float = 1.0, separation: float = 1.25, max_stages: int = 4
) -> StageBetas:
    """The betas of DEFT's stages that separate freezing points.

    A stage ends between two neighbouring points whose ratio is at least `separation`; if there are more than
    max_stages - 1 such gaps, only the widest ones count. The beta of the stage is the geometric mean of the two
    neighbours, so that all points above it have frozen and none below.

    Args:
      points: name -> freezing point, positive.
      last: beta of the last stage.
      separation: least ratio of two neighbours between which a stage may end.
      max_stages: most stages.

    Raises:
      ValueError: there is no point, a point is not positive, or `last` is not below every other beta.
    """
    if not points:
        raise ValueError("no factor froze within the sweep: there is nothing to separate; lower beta_min")
    ordered = sorted(points.items(), key=lambda item: -item[1])
    values = [value for _, value in ordered]
    if values[-1] <= 0:
        raise ValueError(f"freezing points must be above 0, got {values[-1]:g} for {ordered[-1][0]}")
    gaps = [(values[i] / values[i + 1], i) for i in range(len(values) - 1)]
    wide = sorted((gap for gap in gaps if gap[0] >= separation), reverse=True)[: max(0, max_stages - 1)]
    cuts = sorted(index for _, index in wide)
    betas = [math.sqrt(values[index] * values[index + 1]) for index in cuts]
    if last >= min(betas, default=values[0]):
        raise ValueError(f"betas.last must be below {min(betas, default=values[0]):.3g}, got {last:g}")
    edges = [0, *(index + 1 for index in cuts), len(ordered)]
    stages = [[name for name, _ in ordered[a:b]] for a, b in itertools.pairwise(edges)]
    return StageBetas([*betas, float(last)], betas, stages)


def group_sizes(betas: Sequence[float], points: Sequence[Point]) -> list[int]:
    """Latents of each stage's group: the number of points that freeze in the stage, and at least one.

    Args:
      betas: one per stage, strictly falling, as of `stage_betas`.
      points: of latents, which need no labels, or of factors.
    """
    orders = np.array([point.order for point in points])
    counts = [np.sum((low < orders) & (orders <= high)) for high, low in itertools.pairwise([math.inf, *betas])]
    return [max(1, int(count)) for count in counts]
