"""Betas of DEFT's stages and sizes of its groups, from freezing points."""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from deft_jax.annealing.freezing_points import Point


def stage_betas(
    points: Mapping[str, float], *, last: float = 1.0, separation: float = 1.25, max_stages: int = 4
) -> dict:
    """The betas of DEFT's stages that separate freezing points.

    Rule: points in falling order; a cut between two neighbours whose ratio is at least `separation`, and where there
    are more than max_stages - 1 such cuts, the widest ones; at each cut a stage ends, and its beta is the geometric
    mean of the two neighbours, so that all points above it have frozen and none below; the last stage has the beta
    `last`.

    points: name -> freezing point, positive; names are for the result alone.
    Returns {'betas': one a stage, strictly falling; 'thresholds': the same without the last, for the exponential rule
    of stages; 'stages': the names that freeze in each stage}.
    Raises ValueError where there is no point, or where `last` is not below every other beta.
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
        raise ValueError(f"the last beta, {last:g}, must lie below {min(betas, default=values[0]):.3g}; lower it")
    edges = [0, *(index + 1 for index in cuts), len(ordered)]
    stages = [[name for name, _ in ordered[a:b]] for a, b in itertools.pairwise(edges)]
    return {"betas": [*betas, float(last)], "thresholds": betas, "stages": stages}


def group_sizes(betas: Sequence[float], points: Sequence[Point]) -> list[int]:
    """Latents of each stage's group: as many as freeze from the stage before on until it ends, and one at least.

    betas: one a stage, strictly falling, as of `stage_betas`. points: of latents, which need no labels, or of factors.
    """
    orders = np.array([point.order for point in points])
    froze = [np.sum((low < orders) & (orders <= high)) for high, low in itertools.pairwise([math.inf, *betas])]
    return [max(1, int(count)) for count in froze]
