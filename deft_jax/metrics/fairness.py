"""Whether predictions of one factor change with another one. Locatello et al. 2019, arXiv 1905.13662, section 3."""

from typing import Any

import numpy as np

from deft_jax.metrics import boosted_trees, held_out
from deft_jax.metrics.inputs import Continuous
from deft_jax.metrics.progress import Progress, map_in_threads
from deft_jax.runtime.validation import Count, NonNegativeInt


def fairness(
    codes: np.ndarray,
    factors: np.ndarray,
    num_train: Count | None = None,
    seed: NonNegativeInt = 0,
    continuous: Continuous = None,
    num_workers: Count | None = None,
    groups: np.ndarray | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The distance between the predictions of a target and those where a sensitive factor has one value.

    Trees (those of `dci`) predict each target y from all latents. For each other factor s,

      unfairness(y, s) = mean over values v of s of TV(p(prediction of y), p(prediction of y | s = v)),

    TV the total variation, 1/2 sum |p - q|, over images of the test part, each value weighed equally as in the paper;
    `unfairness` is the mean over pairs. Factors are independent in a grid, so a fair predictor has 0 there, and a
    representation that mixes factors does not allow it.

    Frequencies of few images differ by chance. `unfairness_by_chance` is the same number with the values of s shuffled
    among the images of the test part; what exceeds it is unfairness. The paper draws images for each value instead.

    Args:
      codes: [N, D] finite real numbers, the posterior means by convention.
      factors: [N, F] integers >= 0, F >= 2; classes only.
      num_train: the least number of rows in the training part; default: two thirds of N; see `held_out.split`.
      seed: integer in [0, 2**32), for the split, the trees and the shuffles.
      continuous: see `inputs.Continuous`; default: detected.
      num_workers: threads, one target each; default: os.cpu_count(). The result does not depend on it.
      groups: [N] integers, equal for rows of one image; default: each row is a different image.
      progress: called as progress(done, total) before the first target and after each.

    Returns:
      {'unfairness', 'unfairness_by_chance': floats in [0, 1], 0 is best; 'unfairness_matrix': [F, F], target by
      sensitive factor, 0 on the diagonal}.

    Raises:
      ValueError: an input does not fit, a factor is continuous, there is one factor, or a factor is constant in the
        sample or in one of its parts.

    Example:
      A latent that tells whether either factor is 1 predicts both, and neither fairly:

      >>> factors = np.random.default_rng(0).integers(0, 2, (3000, 2))
      >>> codes = factors.max(axis=1, keepdims=True).astype(float)
      >>> bool(abs(fairness(codes, factors)["unfairness"] - 1 / 4) < 0.05)
      True
      >>> round(fairness(factors.astype(float), factors)["unfairness"], 1)
      0.0
    """
    sample = held_out.split_sample(codes, factors, continuous, num_train, seed, groups)
    if sample.continuous.any():
        raise ValueError(f"factor {int(sample.continuous.argmax())} is continuous: fairness takes classes only")
    if len(sample.columns) < 2:
        raise ValueError("fairness needs two factors or more, a target and a sensitive one")
    held_out.check_varies(sample.columns, sample.test, "test")

    def predict(column: np.ndarray) -> np.ndarray:
        codes = sample.codes.astype(np.float64)
        return boosted_trees.fit_and_predict(codes, column, False, sample.train, sample.test, seed)

    predictions = map_in_threads(predict, sample.columns, num_workers=num_workers, progress=progress)
    sensitive = [column[sample.test] for column in sample.columns]
    order = np.random.default_rng(seed).permutation(len(sample.test))
    found_FxF, chance_FxF = (
        np.array([[_distance(prediction, column[rows]) for column in sensitive] for prediction in predictions])
        for rows in (slice(None), order)
    )
    others = ~np.eye(len(predictions), dtype=bool)
    return {
        "unfairness": float(found_FxF[others].mean()),
        "unfairness_by_chance": float(chance_FxF[others].mean()),
        "unfairness_matrix": np.where(others, found_FxF, 0.0),
    }


def _distance(prediction_M: np.ndarray, sensitive_M: np.ndarray) -> float:
    """Mean over values of the sensitive factor of the total variation to the predictions of all images."""
    _, prediction = np.unique(prediction_M, return_inverse=True)
    _, value = np.unique(sensitive_M, return_inverse=True)
    counts = np.zeros((value.max() + 1, prediction.max() + 1))
    np.add.at(counts, (value, prediction), 1.0)
    share = counts.sum(axis=0) / counts.sum()
    return float(0.5 * np.abs(counts / counts.sum(axis=1, keepdims=True) - share).sum(axis=1).mean())
