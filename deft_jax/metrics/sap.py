"""Separated attribute predictability (SAP), Kumar et al. 2018 (arXiv 1711.00848), section 3."""

from typing import Any

import numpy as np

from deft_jax.metrics import held_out, mutual_information
from deft_jax.metrics.inputs import Continuous
from deft_jax.metrics.progress import Progress
from deft_jax.runtime.validation import Count, NonNegativeInt


def sap(
    codes: np.ndarray,
    factors: np.ndarray,
    continuous: Continuous = None,
    num_train: Count | None = None,
    seed: NonNegativeInt = 0,
    groups: np.ndarray | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The gap between the two single latents that predict a factor best.

    SAP = mean over f of S[(1), f] - S[(2), f], where (1) and (2) are the latents with the highest scores of factor f,
    and S[d, f], from latent d only, is

      discrete factor: the accuracy on the test part of a linear support vector machine fitted to the training part:
        squared hinge loss, one against the rest, C = 0.01, values weighted to balance;
      continuous factor: the squared correlation in the training part, 0 if the latent's variance is at most 1e-12.

    The semantics are those of disentanglement_lib (Locatello et al. 2019) with two differences: the machine is solved
    in the primal, which needs no random order and has the same optimum, and no image is in both parts. Accuracies are
    not corrected for chance: an uninformative latent scores about 1 / (number of values). A linear machine on one
    latent cannot separate all inner values, so perfect latents may score below 1 where a factor has four values or
    more. Latents are not scaled, so with C = 0.01 and few samples their scale matters. With one latent the second
    highest score is 0.

    Args:
      codes: [N, D] finite real numbers, the posterior means by convention.
      factors: [N, F] integers >= 0; finite real numbers where continuous.
      continuous: see `inputs.Continuous`; default: detected.
      num_train: the least number of rows in the training part; default: two thirds of N; see `held_out.split`.
      seed: integer in [0, 2**32), for the split.
      groups: [N] integers, equal for rows of one image; default: each row is a different image.
      progress: called as progress(done, total) before the first factor and after each.

    Returns:
      {'sap': float, 'sap_per_factor': [F], 'scores': [D, F], the matrix S, no unit, 1 is best; 'num_distinct_train',
      'num_distinct_test': int, distinct images in each part}.

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample or in the training part.

    Example:
      >>> factors = np.arange(60).reshape(60, 1) % 2
      >>> codes = np.concatenate([20.0 * factors - 10, np.zeros((60, 1))], axis=1)
      >>> sap(codes, factors)["scores"][0]
      array([1.])
    """
    sample = held_out.split_sample(codes, factors, continuous, num_train, seed, groups)
    held_out.check_shared_values(sample.columns, sample.continuous, sample.train, sample.test)
    codes = sample.codes.astype(np.float64)
    scores_DxF = np.empty((codes.shape[1], len(sample.columns)))
    if progress is not None:
        progress(0, len(sample.columns))
    for f, (column, is_continuous) in enumerate(zip(sample.columns, sample.continuous, strict=True)):
        for d, code in enumerate(codes.T):
            if is_continuous:
                scores_DxF[d, f] = _squared_correlation(code[sample.train], column[sample.train])
            else:
                scores_DxF[d, f] = _accuracy(code[:, None], column, sample.train, sample.test)
        if progress is not None:
            progress(f + 1, len(sample.columns))
    gap_F = mutual_information.gaps(scores_DxF)
    return {"sap": float(gap_F.mean()), "sap_per_factor": gap_F, "scores": scores_DxF, **sample.num_distinct()}


def _accuracy(code_Nx1: np.ndarray, column: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    """Accuracy on the test part of a machine fitted to the training part."""
    from sklearn import svm

    machine = svm.LinearSVC(C=0.01, class_weight="balanced", dual=False).fit(code_Nx1[train], column[train])
    return machine.score(code_Nx1[test], column[test])


def _squared_correlation(code: np.ndarray, column: np.ndarray) -> float:
    """Squared correlation of two columns; 0 where the code is nearly constant."""
    covariance = np.cov(code, column)
    if covariance[0, 0] <= 1e-12:
        return 0.0
    return covariance[0, 1] ** 2 / (covariance[0, 0] * covariance[1, 1])
