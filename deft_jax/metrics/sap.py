"""Separated attribute predictability (SAP), Kumar et al. 2018 (arXiv 1711.00848), section 3."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deft_jax.metrics import inputs, mutual_information
from deft_jax.runtime.validation import Count, NonNegativeInt


def sap(
    codes: np.ndarray,
    factors: np.ndarray,
    continuous: Sequence[bool] | bool | None = None,
    num_train: Count | None = None,
    seed: NonNegativeInt = 0,
    groups: np.ndarray | None = None,
    progress: inputs.Progress | None = None,
) -> dict[str, Any]:
    """How much better the best single latent predicts a factor than the second best.

    SAP = mean over f of S[(1), f] - S[(2), f], where (1) and (2) are the latents with the highest scores of
    factor f. S[d, f], from latent d alone, is

      discrete factor: the accuracy on the test part of a linear support vector machine fitted to the training
        part: squared hinge, one against the rest, C = 0.01, values weighted to balance;
      continuous factor: the squared correlation in the training part, 0 if the latent's variance there is
        1e-12 or less.

    The semantics are those of disentanglement_lib (Locatello et al. 2019), but the machine is solved in the primal,
    which needs no random order and has the same optimum. The accuracies are not corrected for chance: a
    latent that knows nothing, a collapsed one too, scores about 1 / (number of values). Cuts of a
    single latent cannot tell all inner values apart, so that perfect latents may score below 1 where a factor has
    four values or more. Latents are not scaled, so with C = 0.01 and few samples their scale matters. With one
    latent the second highest is 0.

    Args:
      codes: [N, D] finite real numbers, the posterior means by convention.
      factors: [N, F] integers >= 0; columns declared continuous: finite real numbers.
      continuous: which factors are numbers of a continuum rather than classes: F booleans, False for none, or None, the
        default: those that inputs.continuous_columns finds.
      num_train: rows of the training part, see inputs.split; the test part is the rest and shares no image with it.
        None, the default: two thirds of N, rounded down.
      seed: integer in [0, 2**32), for the split; 0 by default.
      groups: [N] integers, equal for rows of one image; None, the default: each row is an image of its own.
        inputs.distinct_rows makes them from codes that repeat.
      progress: called as progress(done, total) after each factor, see inputs.Progress.

    Returns:
      {'sap': float, 'sap_per_factor': [F], 'scores': [D, F], the matrix S, no unit, 1 is best; 'num_distinct_train',
      'num_distinct_test': distinct images in each part}.

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample or in the training part; one line
        says which.
    """
    codes, columns, continuous = inputs.mixed_samples(codes, factors, continuous)
    codes = codes.astype(np.float64)
    groups = inputs.image_groups(len(codes), groups)
    train, test = inputs.split(len(codes), num_train, seed, groups)
    inputs.check_held_out(columns, continuous, train, test)
    scores_DxF = np.empty((codes.shape[1], len(columns)))
    for f, column in enumerate(columns):
        if (column[train] == column[train[0]]).all():
            raise ValueError(f"factor {f} is constant in the training part: leave it out or raise num_train")
        score = _squared_correlation if continuous[f] else _accuracy
        scores_DxF[:, f] = [score(code, column, train, test) for code in codes.T]
        if progress is not None:
            progress(f + 1, len(columns))
    first, second = mutual_information.top_two(scores_DxF)
    return {
        "sap": float((first - second).mean()),
        "sap_per_factor": first - second,
        "scores": scores_DxF,
        **inputs.distinct_counts(groups, train=train, test=test),
    }


def _accuracy(code, column, train, test):
    from sklearn import svm

    machine = svm.LinearSVC(C=0.01, class_weight="balanced", dual=False)
    machine.fit(code[train, None], column[train])
    return machine.score(code[test, None], column[test])


def _squared_correlation(code, column, train, _):
    covariance = np.cov(code[train], column[train])
    if covariance[0, 0] <= 1e-12:
        return 0.0
    return covariance[0, 1] ** 2 / (covariance[0, 0] * covariance[1, 1])
