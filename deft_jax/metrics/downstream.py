"""How well, and from how few labels, simple predictors read factors from codes. Locatello et al. 2019, section 5.4."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from deft_jax.metrics import boosted_trees, held_out, inputs
from deft_jax.metrics.held_out import HeldOutSample
from deft_jax.metrics.inputs import Continuous
from deft_jax.metrics.progress import Progress, map_in_threads
from deft_jax.runtime.validation import Count, NonNegativeInt

Counts = Annotated[Sequence[Count], Field(min_length=1)]


def downstream(
    codes: np.ndarray,
    factors: np.ndarray,
    num_labels: Counts = (10, 100, 1_000, 10_000),
    few: Count = 100,
    seed: NonNegativeInt = 0,
    continuous: Continuous = None,
    num_workers: Count | None = None,
    groups: np.ndarray | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Accuracy of logistic regression and of boosted trees on held-out images, for several numbers of labels.

    One predictor per factor reads all latents. The test part is a third of the images; the first so many rows of the
    training part have labels. The score is the accuracy, or R^2 of linear regression and of trees where the factor is
    continuous, and the mean over factors. Sample efficiency is the mean score with `few` labels over that with most.

    Logistic regression is that of scikit-learn with its defaults on standardised latents; disentanglement_lib
    (Locatello et al. 2019) chooses the penalty by cross-validation. Trees are those of `dci`. Where all labels are
    equal, that class is predicted.

    Args:
      codes: [N, D] finite real numbers, the posterior means by convention.
      factors: [N, F] integers >= 0; finite real numbers where continuous.
      num_labels: numbers of labelled images, rising; those above the training part are replaced by all of it.
      few: the number of labels of the sample efficiency; at most the training part.
      seed: integer in [0, 2**32), for the split and the trees.
      continuous: see `inputs.Continuous`; default: detected.
      num_workers: threads, one factor each; default: os.cpu_count(). The result does not depend on it.
      groups: [N] integers, equal for rows of one image; default: each row is a different image.
      progress: called as progress(done, total) before the first factor and after each.

    Returns:
      {'downstream_linear', 'downstream_trees': floats, mean scores with most labels, 1 is best; 'efficiency_linear',
      'efficiency_trees': floats; 'num_labels': [S]; 'linear_per_factor', 'trees_per_factor': [S, F]}.

    Raises:
      ValueError: an input does not fit, numbers of labels do not rise, or a factor is constant in the sample or in one
        of its parts.

    Example:
      >>> factors = np.tile([[0, 0], [0, 1], [1, 0], [1, 1]], (30, 1))
      >>> scores = downstream(2.0 * factors, factors, num_labels=(20, 80), few=20)
      >>> scores["downstream_linear"], scores["efficiency_trees"]
      (1.0, 1.0)
    """
    numbers = [int(number) for number in num_labels]
    if sorted(set(numbers)) != numbers:
        raise ValueError(f"num_labels must rise, got {tuple(num_labels)}")
    sample = held_out.split_sample(codes, factors, continuous, None, seed, groups)
    held_out.check_varies(sample.columns, sample.test, "test")
    available = len(sample.train)
    if few > available:
        raise ValueError(f"few must be at most the training part, {available} rows, got {few}")
    sizes = sorted({min(number, available) for number in [*numbers, few]})
    both = map_in_threads(
        lambda column, is_continuous: _scores_of_factor(sample, column, is_continuous, sizes, seed),
        sample.columns, sample.continuous, num_workers=num_workers, progress=progress,
    )  # fmt: skip
    linear_SxF, trees_SxF = np.moveaxis(np.array(both), 0, -1)
    shown = [sizes.index(size) for size in sorted({min(number, available) for number in numbers})]
    result: dict[str, Any] = {}
    for name, scores_SxF in (("linear", linear_SxF), ("trees", trees_SxF)):
        mean_S = scores_SxF.mean(axis=1)
        result[f"downstream_{name}"] = float(mean_S[shown[-1]])
        most = mean_S[shown[-1]]
        result[f"efficiency_{name}"] = float(mean_S[sizes.index(few)] / most) if most > 0 else 0.0
    per_factor = {"linear_per_factor": linear_SxF[shown], "trees_per_factor": trees_SxF[shown]}
    return result | {"num_labels": np.array(sizes)[shown]} | per_factor


def _scores_of_factor(
    sample: HeldOutSample, column: np.ndarray, is_continuous: bool, sizes: Sequence[int], seed: int
) -> tuple[list[float], list[float]]:
    """Scores of the linear predictor and of trees for each number of labels."""
    linear, trees = [], []
    for size in sizes:
        rows = sample.train[:size]
        if inputs.is_constant(column[rows]):
            score = 0.0 if is_continuous else float(np.mean(column[sample.test] == column[rows[0]]))
            linear.append(score)
            trees.append(score)
            continue
        codes = inputs.standardise(sample.codes.astype(np.float64), rows)
        predictor = _linear(is_continuous).fit(codes[rows], column[rows])
        linear.append(float(predictor.score(codes[sample.test], column[sample.test])))
        trees.append(boosted_trees.fit_and_score(codes, column, is_continuous, rows, sample.test, seed)[2])
    return linear, trees


def _linear(is_continuous: bool) -> Any:
    from sklearn import linear_model

    return linear_model.LinearRegression() if is_continuous else linear_model.LogisticRegression(max_iter=1_000)
