"""R^2 of linear regression from all latents to each factor, the usual score of identifiability up to a linear map.

Sources: Zimmermann et al. 2021 (arXiv 2102.08850) and von Kuegelgen et al. 2021 (arXiv 2106.04619).
"""

from typing import Any

import numpy as np

from deft_jax.metrics import held_out, inputs
from deft_jax.metrics.inputs import Continuous
from deft_jax.runtime.validation import Count, NonNegativeInt


def r2(
    codes: np.ndarray,
    factors: np.ndarray,
    num_train: Count | None = None,
    seed: NonNegativeInt = 0,
    continuous: Continuous = None,
    groups: np.ndarray | None = None,
) -> dict[str, Any]:
    """The share of each factor's variance that a linear map of all latents explains on held-out images.

      R^2(f) = 1 - sum over n of (v_nf - p_f(z_n))^2 / sum over n of (v_nf - mean of v_f)^2    over the test part,

    with p_f the least-squares fit, with an intercept, to the training part (sklearn.linear_model.LinearRegression), and
    r2 the mean over factors. It is negative where the fit is worse than the mean of the test part.

    The score does not change under an invertible linear map of the latents. It complements MCC, which requires one
    latent per factor. Von Kuegelgen et al. also fit kernel ridge regression; for nonlinear predictors see the
    informativeness of `dci` and `dci_es`. disentanglement_lib does not have this metric.

    Classes are treated as numbers: the score is meant for ordinal and continuous factors, and for others, such as
    shapes, it depends on how they are numbered.

    Args:
      codes: [N, D] finite real numbers, the posterior means by convention.
      factors: [N, F] integers >= 0; finite real numbers where continuous.
      num_train: the least number of rows in the training part; default: two thirds of N; see `held_out.split`.
      seed: integer in [0, 2**32), for the split.
      continuous: see `inputs.Continuous`; default: detected. It only decides which values are allowed.
      groups: [N] integers, equal for rows of one image; default: each row is a different image.

    Returns:
      {'r2': float, 1 is best; 'r2_per_factor': [F]; 'num_distinct_train', 'num_distinct_test': int, distinct images in
      each part}.

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample or in one of its parts.

    Example:
      >>> factors = np.arange(12).reshape(12, 1) ** 2
      >>> round(r2(3.0 * factors - 5, factors)["r2"], 6)
      1.0
    """
    from sklearn import linear_model

    sample = held_out.split_sample(codes, factors, continuous, num_train, seed, groups)
    train, test = sample.train, sample.test
    held_out.check_varies(sample.columns, test, "test")
    codes = sample.standardised_codes()
    factors = inputs.standardise(np.stack(sample.columns, axis=1).astype(np.float64), train)
    predictor = linear_model.LinearRegression().fit(codes[train], factors[train])
    residual_F = ((factors[test] - predictor.predict(codes[test])) ** 2).sum(axis=0)
    r2_F = 1 - residual_F / ((factors[test] - factors[test].mean(axis=0)) ** 2).sum(axis=0)
    return {"r2": float(r2_F.mean()), "r2_per_factor": r2_F, **sample.num_distinct()}
