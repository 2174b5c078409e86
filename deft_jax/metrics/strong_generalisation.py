"""Whether predictors of factors hold where another factor has values that they were not trained on.

The setting is the strong generalisation of disentanglement_lib (Locatello et al. 2019) and the extrapolation of Schott
et al. 2022, arXiv 2107.08221, for predictors from codes.
"""

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from deft_jax.metrics import boosted_trees, held_out, inputs
from deft_jax.metrics.held_out import HeldOutSample
from deft_jax.metrics.inputs import Continuous
from deft_jax.metrics.progress import Progress, map_in_threads
from deft_jax.runtime.validation import Count, NonNegativeInt

Share = Annotated[float, Field(gt=0, lt=1)]


def strong_generalisation(
    codes: np.ndarray,
    factors: np.ndarray,
    held_out_share: Share = 0.5,
    seed: NonNegativeInt = 0,
    continuous: Continuous = None,
    num_workers: Count | None = None,
    groups: np.ndarray | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Accuracy of predictors of each factor on images whose value of another factor they never saw.

    The highest values of a factor h, `held_out_share` of them, are held out. Trees (those of `dci`) learn every other
    factor from the images with the lower values, and are scored on those with the higher ones. For comparison the same
    trees are scored on images with lower values that they were not trained on, a third of them. A representation in
    which h moves no latent of other factors has the same score on both.

    Args:
      codes: [N, D] finite real numbers, the posterior means by convention.
      factors: [N, F] integers >= 0, F >= 2; finite real numbers where continuous.
      held_out_share: share of the values of h that are held out, at least one value and not all.
      seed: integer in [0, 2**32), for the split and the trees.
      continuous: see `inputs.Continuous`; default: detected.
      num_workers: threads, one pair of factors each; default: os.cpu_count(). The result does not depend on it.
      groups: [N] integers, equal for rows of one image; default: each row is a different image.
      progress: called as progress(done, total) before the first pair and after each.

    Returns:
      {'strong_generalisation': float, mean score on values that are held out, over pairs; 'seen_values': the same on
      values that are not; 'generalisation_ratio': the first over the second; 'strong_per_pair', 'seen_per_pair':
      [F, F], factor whose values are held out by predicted factor, 0 on the diagonal}. Scores are accuracies, or R^2
      where the predicted factor is continuous.

    Raises:
      ValueError: an input does not fit, there is one factor, or a predicted factor is constant in a part.

    Example:
      >>> factors = np.random.default_rng(0).integers(0, 4, (2000, 2))
      >>> round(strong_generalisation(factors.astype(float), factors)["strong_generalisation"], 2)
      1.0
    """
    sample = held_out.split_sample(codes, factors, continuous, None, seed, groups)
    count = len(sample.columns)
    if count < 2:
        raise ValueError("strong_generalisation needs two factors or more, one of which has values that are held out")
    pairs = [(h, f) for h in range(count) for f in range(count) if h != f]
    parts = [_parts(sample, column, held_out_share) for column in sample.columns]
    for h, f in pairs:
        for part, name in zip(parts[h], ("training", "test", "held-out"), strict=True):
            if len(part) < 2 or inputs.is_constant(sample.columns[f][part]):
                raise ValueError(f"factor {f} is constant in the {name} part where values of factor {h} are held out: "
                                 "take more images, or another held_out_share")

    def scores(h: int, f: int) -> tuple[float, float]:
        train, seen, new = parts[h]
        column, is_continuous = sample.columns[f], bool(sample.continuous[f])
        test = np.concatenate([seen, new])
        predicted = boosted_trees.fit_and_predict(
            sample.codes.astype(np.float64), column, is_continuous, train, test, seed
        )
        halves = (predicted[: len(seen)], seen), (predicted[len(seen) :], new)
        strong = [_score(part, column[part_rows], is_continuous) for part, part_rows in halves]
        return strong[0], strong[1]

    firsts, seconds = zip(*pairs, strict=True)
    found = map_in_threads(scores, firsts, seconds, num_workers=num_workers, progress=progress)
    seen_FxF, new_FxF = np.zeros((2, count, count))
    seen_FxF[firsts, seconds], new_FxF[firsts, seconds] = np.transpose(found)
    seen_mean, new_mean = np.mean(found, axis=0).tolist()
    return {
        "strong_generalisation": new_mean,
        "seen_values": seen_mean,
        "generalisation_ratio": new_mean / seen_mean if seen_mean > 0 else 0.0,
        "strong_per_pair": new_FxF,
        "seen_per_pair": seen_FxF,
    }


def _parts(sample: HeldOutSample, column: np.ndarray, held_out_share: float) -> tuple[np.ndarray, ...]:
    """Row numbers of the training part and of the test part with low values of a factor, and of all with high ones."""
    values = np.unique(column)
    first_held_out = values[max(1, min(len(values) - 1, round(len(values) * (1 - held_out_share))))]
    train, test = (part[column[part] < first_held_out] for part in (sample.train, sample.test))
    return train, test, np.flatnonzero(column >= first_held_out)


def _score(predicted_M: np.ndarray, true_M: np.ndarray, is_continuous: bool) -> float:
    """Accuracy, or R^2 where the factor is continuous."""
    if not is_continuous:
        return float(np.mean(predicted_M == true_M))
    return float(1 - np.square(true_M - predicted_M).sum() / np.square(true_M - true_M.mean()).sum())
