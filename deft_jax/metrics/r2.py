"""R^2 of linear regression from all latents to each factor, the usual score of identifiability up to a linear map.

As in Zimmermann et al. 2021 (arXiv 2102.08850) and von Kuegelgen et al. 2021 (arXiv 2106.04619).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deft_jax.metrics import inputs
from deft_jax.runtime.validation import Count, NonNegativeInt


def r2(
    codes: np.ndarray,
    factors: np.ndarray,
    num_train: Count | None = None,
    seed: NonNegativeInt = 0,
    continuous: Sequence[bool] | bool | None = None,
    groups: np.ndarray | None = None,
) -> dict[str, Any]:
    """How much of each factor a linear map of all latents explains, on images that it was not fitted to.

      R^2(f) = 1 - sum over n of (v_nf - p_f(z_n))^2 / sum over n of (v_nf - mean of v_f)^2    over the test part,

    with p_f the least-squares fit, with an intercept, to the training part (sklearn.linear_model.LinearRegression), and
    r2 the mean over factors. It may be negative, where the fit does worse than the mean of the test part.

    It says how much of the factors the latents hold together, not how: an invertible linear map of the latents does not
    change it, so it complements MCC, which asks for one latent per factor. Von Kuegelgen et al. also fit kernel ridge
    regression; for predictors that are not linear see informativeness of `dci` and `dci_es`.

    Classes are treated as numbers: the score is meant for ordinal and continuous factors, and what it says of others,
    such as shapes, depends on how they are numbered.

    Args:
      codes: [N, D] finite real numbers, the posterior means by convention.
      factors: [N, F] integers >= 0; finite real numbers where continuous.
      num_train: rows of the training part, at least; default: two thirds of N; see `inputs.split`.
      seed: integer in [0, 2**32), for the split; default: 0.
      continuous: False (none), F booleans, or None, the default: columns that look continuous
        (`inputs.continuous_columns`). It only decides which values are allowed.
      groups: [N] integers, equal for rows of one image; default: each row is an image of its own.

    Returns:
      {'r2': float, 1 is best; 'r2_per_factor': [F]; 'num_distinct_train', 'num_distinct_test': int, distinct images in
      either part}.

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample, in the training part or in the test
        part; one line says which.
    """
    from sklearn import linear_model

    codes, columns, _ = inputs.mixed_samples(codes, factors, continuous)
    factors = np.stack(columns, axis=1).astype(np.float64)
    groups = inputs.image_groups(len(codes), groups)
    train, test = inputs.split(len(codes), num_train, seed, groups)
    for part, rows, advice in (("training", train, "raise"), ("test", test, "lower")):
        constant = np.flatnonzero(np.ptp(factors[rows], axis=0) == 0)
        if len(constant):
            raise ValueError(f"factor {constant[0]} is constant in the {part} part: leave it out or {advice} num_train")
    codes = inputs.standardise(codes.astype(np.float64), train)
    factors = inputs.standardise(factors, train)
    predictor = linear_model.LinearRegression().fit(codes[train], factors[train])
    residual_F = ((factors[test] - predictor.predict(codes[test])) ** 2).sum(axis=0)
    r2_F = 1 - residual_F / ((factors[test] - factors[test].mean(axis=0)) ** 2).sum(axis=0)
    return {
        "r2": float(r2_F.mean()),
        "r2_per_factor": r2_F,
        **inputs.distinct_counts(groups, train=train, test=test),
    }
