"""Disentanglement, completeness and informativeness (DCI), Eastwood & Williams 2018, section 2.

The paper: 'A Framework for the Quantitative Evaluation of Disentangled Representations', ICLR 2018.
"""

import concurrent.futures
import os
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from deft_jax.metrics import inputs
from deft_jax.runtime.validation import Count, NonNegativeInt, Positive


def dci(
    codes: np.ndarray,
    factors: np.ndarray,
    model: Literal["trees", "linear"] = "trees",
    num_train: Count | None = None,
    seed: NonNegativeInt = 0,
    continuous: Sequence[bool] | bool | None = None,
    num_workers: Count | None = None,
    logistic_c: Positive = 1.0,
    lasso_alpha: Positive = 0.02,
    groups: np.ndarray | None = None,
    progress: inputs.Progress | None = None,
) -> dict[str, Any]:
    """How far the prediction of each factor rests on one latent, and each latent serves one factor.

    One predictor per factor sees all latents. With its importances R[d, f] >= 0 of the latents,
    P[d, f] = R[d, f] / sum over f of R[d, f] and Q[d, f] = R[d, f] / sum over d of R[d, f],

      disentanglement of latent d = 1 - H(P[d, :]) / log F,    completeness of factor f = 1 - H(Q[:, f]) / log D,

    H the entropy. The scores weigh latents by their share of the sum of R, and factors alike. Informativeness
    is the mean over factors of how well the predictor does: the accuracy, or R^2 (which may be negative on
    test data) where the factor is continuous. The semantics are those of disentanglement_lib (Locatello et al.
    2019), which has model 'trees' and discrete factors only:

      'trees': gradient boosted trees, all settings scikit-learn's defaults (100 rounds, depth 3, rate 0.1);
        R is the impurity importance. A classifier, or a regressor where the factor is continuous.
      'linear': multinomial logistic regression with an L1 penalty, or Lasso where the factor is continuous, on
        latents (and continuous factors) of mean 0 and standard deviation 1 in the training part; R is |weight|,
        averaged over the factor's values (two values have the weights w / 2 and -w / 2, w that of their log-odds). As
        in the paper (section 2) it is not scaled per factor, so a factor with larger weights counts for more in the
        disentanglement; the importances of trees sum to 1 over latents.

    A latent of no importance (a collapsed one) has disentanglement 0 and weight 0; a factor which no latent
    predicts has completeness 0 and weight 0; if all of R is 0, both scores are 0. disentanglement_lib gets the
    same by adding 1e-11 to R. Where it divides by log 1 = 0, with a single factor or a single latent, there is
    nothing to be spread over: disentanglement, or completeness, is 1 where R is not all 0.

    Args:
      codes: [N, D] finite real numbers, the posterior means by convention.
      factors: [N, F] integers >= 0; columns declared continuous: finite real numbers.
      model: 'trees' (the default) or 'linear'.
      num_train: rows of the training part, see inputs.split; the test part is the rest and shares no image with it.
        None, the default: two thirds of N, rounded down.
      seed: integer in [0, 2**32), for the split and the predictors; 0 by default.
      continuous: which factors are numbers of a continuum rather than classes: F booleans, False for none, or None, the
        default: those that inputs.continuous_columns finds.
      num_workers: threads, each with a factor at a time; None, the default: os.cpu_count(). The result does not
        depend on it.
      logistic_c: inverse weight of the L1 penalty against the sum of the log-losses, 1 by default; only for
        model 'linear'.
      lasso_alpha: weight of the L1 penalty against half the mean squared error, 0.02 by default; only for model
        'linear'.
      groups: [N] integers, equal for rows of one image; None, the default: each row is an image of its own.
        inputs.distinct_rows makes them from codes that repeat.
      progress: called as progress(done, total) after each factor, see inputs.Progress.

    Returns:
      {'disentanglement', 'completeness', 'informativeness_train', 'informativeness_test': floats, 1 is best;
      'disentanglement_per_latent': [D], 'completeness_per_factor', 'informativeness_train_per_factor',
      'informativeness_test_per_factor': [F], 'importance': [D, F], the matrix R; 'num_distinct_train',
      'num_distinct_test': distinct images in each part}.

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample or in the training part; one line
        says which.
    """
    if model not in ("trees", "linear"):
        raise ValueError(f"model must be 'trees' or 'linear', got {model!r}")
    if num_workers is not None and (not isinstance(num_workers, int) or num_workers < 1):
        raise ValueError(f"num_workers must be None or an integer >= 1, got {num_workers!r}")
    codes, columns, continuous = inputs.mixed_samples(codes, factors, continuous)
    codes = codes.astype(np.float64)
    groups = inputs.image_groups(len(codes), groups)
    train, test = inputs.split(len(codes), num_train, seed, groups)
    for f, column in enumerate(columns):
        if (column[train] == column[train[0]]).all():
            raise ValueError(f"factor {f} is constant in the training part: leave it out or raise num_train")
    inputs.check_held_out(columns, continuous, train, test)
    if model == "linear":
        codes = inputs.standardise(codes, train)

    def fit(column, is_continuous):
        if is_continuous and model == "linear":
            column = inputs.standardise(column, train)
        predictor = _predictor(model, is_continuous, seed, logistic_c, lasso_alpha)
        predictor.fit(codes[train], column[train])
        if model == "trees":
            with np.errstate(invalid="ignore"):  # 0 / 0 where trees split and gain nothing
                importance = np.nan_to_num(predictor.feature_importances_)
        else:
            num_values = 1 if is_continuous else len(predictor.classes_)
            # One row of weights per value; but one for two values, whose weights are half of it with either sign.
            importance = np.abs(np.atleast_2d(predictor.coef_)).sum(axis=0) / num_values
        # score is the accuracy of a classifier and the R^2 of a regressor.
        scores = [predictor.score(codes[part], column[part]) for part in (train, test)]
        return importance if model == "linear" else _share(importance, axis=0), *scores

    with concurrent.futures.ThreadPoolExecutor(num_workers or os.cpu_count()) as pool:
        futures = [pool.submit(fit, *column) for column in zip(columns, continuous, strict=True)]
        inputs.report_progress(futures, progress)
        importances, score_train_F, score_test_F = zip(*(future.result() for future in futures), strict=True)
    importance_DxF = np.stack(importances, axis=1)
    score_train_F, score_test_F = np.array(score_train_F), np.array(score_test_F)
    disentanglement_D, completeness_F = _concentration(importance_DxF), _concentration(importance_DxF.T)
    return {
        "disentanglement": float(disentanglement_D @ _share(importance_DxF.sum(axis=1), axis=0)),
        "completeness": float(completeness_F @ _share(importance_DxF.any(axis=0).astype(np.float64), axis=0)),
        "informativeness_train": float(score_train_F.mean()),
        "informativeness_test": float(score_test_F.mean()),
        "disentanglement_per_latent": disentanglement_D,
        "completeness_per_factor": completeness_F,
        "informativeness_train_per_factor": score_train_F,
        "informativeness_test_per_factor": score_test_F,
        "importance": importance_DxF,
        **inputs.distinct_counts(groups, train=train, test=test),
    }


def _predictor(model, is_continuous, seed, logistic_c, lasso_alpha):
    from sklearn import ensemble, linear_model

    if model == "trees":
        trees = ensemble.GradientBoostingRegressor if is_continuous else ensemble.GradientBoostingClassifier
        return trees(random_state=seed)
    if is_continuous:
        return linear_model.Lasso(alpha=lasso_alpha)
    # saga, because liblinear draws from one random stream that all threads of the process share.
    return linear_model.LogisticRegression(C=logistic_c, l1_ratio=1, solver="saga", max_iter=1000, random_state=seed)


def _concentration(values):
    """1 - entropy / log(size) of every row [R, C] as a distribution: 1 if one entry has all, 0 if all are equal."""
    size, share = values.shape[1], _share(values, axis=1)
    if size == 1:
        return share[:, 0]
    entropy = -(share * np.log(share, where=share > 0, out=np.zeros_like(share))).sum(axis=1)
    return np.where(share.any(axis=1), 1 - entropy / np.log(size), 0.0)


def _share(values, axis):
    """values / their sum along the axis, 0 where the sum is 0."""
    total = values.sum(axis=axis, keepdims=True)
    return np.divide(values, total, where=total > 0, out=np.zeros_like(values))
