"""Disentanglement, completeness and informativeness (DCI), Eastwood & Williams 2018, section 2.

The paper: 'A Framework for the Quantitative Evaluation of Disentangled Representations', ICLR 2018.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from deft_jax.metrics import boosted_trees, held_out, inputs
from deft_jax.metrics.inputs import Continuous
from deft_jax.metrics.progress import Progress, map_in_threads
from deft_jax.runtime.validation import Count, NonNegativeInt, Positive

Model = Literal["trees", "linear"]
Boosting = Literal["presorted", "scikit-learn"]


def dci(
    codes: np.ndarray,
    factors: np.ndarray,
    model: Model = "trees",
    num_train: Count | None = None,
    seed: NonNegativeInt = 0,
    continuous: Continuous = None,
    num_workers: Count | None = None,
    logistic_c: Positive = 1.0,
    lasso_alpha: Positive = 0.02,
    groups: np.ndarray | None = None,
    progress: Progress | None = None,
    boosting: Boosting = "presorted",
) -> dict[str, Any]:
    """Whether each latent predicts one factor, each factor is predicted by one latent, and how well.

    One predictor per factor uses all latents. With its importances R[d, f] >= 0 of the latents,
    P[d, f] = R[d, f] / sum over f of R[d, f] and Q[d, f] = R[d, f] / sum over d of R[d, f],

      disentanglement of latent d = 1 - H(P[d, :]) / log F,    completeness of factor f = 1 - H(Q[:, f]) / log D,

    H the entropy. Disentanglement weights latents by their share of the sum of R; completeness weights factors equally.
    Informativeness is the mean over factors of the predictor's accuracy, or of its R^2 (negative where it is worse than
    the mean of the test data) where the factor is continuous.

      'trees': gradient boosted trees, all settings scikit-learn's defaults (100 rounds, depth 3, rate 0.1); R is the
        impurity importance. `boosting` chooses between two programs for the same trees.
      'linear': multinomial logistic regression with an L1 penalty, or Lasso where the factor is continuous, on latents
        (and continuous factors) standardised in the training part; R is |weight|, averaged over the factor's values
        (two values have the weights w / 2 and -w / 2, w that of their log-odds). As in the paper it is not scaled per
        factor, so a factor with larger weights has more influence. The importances of trees sum to 1 over latents.

    The semantics are those of disentanglement_lib (Locatello et al. 2019) with three differences. It has model 'trees'
    and discrete factors only. It adds 1e-11 to R; here a latent without importance has disentanglement 0 and weight 0,
    a factor that no latent predicts has completeness 0 and weight 0, and both scores are 0 if all of R is 0, which is
    the same. It divides by log 1 = 0 with one factor or one latent; here the score is then 1 where R is not all 0.

    Args:
      codes: [N, D] finite real numbers, the posterior means by convention.
      factors: [N, F] integers >= 0; finite real numbers where continuous.
      model: 'trees' or 'linear'.
      num_train: the least number of rows in the training part; default: two thirds of N; see `held_out.split`.
      seed: integer in [0, 2**32), for the split and the predictors.
      continuous: see `inputs.Continuous`; default: detected.
      num_workers: threads, one factor each; default: os.cpu_count(). The result does not depend on it.
      logistic_c: inverse weight of the L1 penalty against the sum of the log-losses; only for model 'linear'.
      lasso_alpha: weight of the L1 penalty against half the mean squared error; only for model 'linear'.
      groups: [N] integers, equal for rows of one image; default: each row is a different image.
      progress: called as progress(done, total) before the first factor and after each.
      boosting: 'presorted', four times as fast, sorts the latents once (boosted_trees.py); 'scikit-learn' sorts them in
        every node. They differ where two splits save equally much, of which either takes some. Only for model 'trees'.

    Returns:
      {'disentanglement', 'completeness', 'informativeness_train', 'informativeness_test': floats, 1 is best;
      'disentanglement_per_latent': [D], 'completeness_per_factor', 'informativeness_train_per_factor',
      'informativeness_test_per_factor': [F], 'importance': [D, F], the matrix R; 'num_distinct_train',
      'num_distinct_test': int, distinct images in each part}.

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample or in the training part.

    Example:
      >>> factors = np.tile([[0, 0], [0, 1], [1, 0], [1, 1]], (10, 1))
      >>> scores = dci(factors[:, ::-1], factors, model="linear")
      >>> round(scores["disentanglement"], 2), round(scores["completeness"], 2), scores["informativeness_test"]
      (1.0, 1.0, 1.0)
    """
    inputs.check_choice("model", model, ("trees", "linear"))
    inputs.check_choice("boosting", boosting, ("presorted", "scikit-learn"))
    sample = held_out.split_sample(codes, factors, continuous, num_train, seed, groups)
    held_out.check_shared_values(sample.columns, sample.continuous, sample.train, sample.test)
    codes = sample.standardised_codes() if model == "linear" else sample.codes.astype(np.float64)

    def fit(column: np.ndarray, is_continuous: bool) -> tuple[np.ndarray, float, float]:
        """Importance [D] of each latent, score in the training part, score in the test part."""
        if model == "trees" and boosting == "presorted":
            return boosted_trees.fit_and_score(codes, column, is_continuous, sample.train, sample.test, seed)
        if is_continuous and model == "linear":
            column = inputs.standardise(column, sample.train)
        predictor = _predictor(model, is_continuous, seed, logistic_c, lasso_alpha)
        predictor.fit(codes[sample.train], column[sample.train])
        train, test = (predictor.score(codes[part], column[part]) for part in (sample.train, sample.test))
        return _importance(predictor, model, is_continuous), train, test

    fits = map_in_threads(fit, sample.columns, sample.continuous, num_workers=num_workers, progress=progress)
    return _scores(*map(np.array, zip(*fits, strict=True))) | sample.num_distinct()


def _predictor(model: Model, is_continuous: bool, seed: int, logistic_c: float, lasso_alpha: float) -> Any:
    """A scikit-learn classifier, scored by its accuracy, or a regressor, by R^2, where the factor is continuous."""
    from sklearn import ensemble, linear_model

    if model == "trees":
        trees = ensemble.GradientBoostingRegressor if is_continuous else ensemble.GradientBoostingClassifier
        return trees(random_state=seed)
    if is_continuous:
        return linear_model.Lasso(alpha=lasso_alpha)
    # Solver saga, because liblinear draws from one random stream that all threads of the process share.
    return linear_model.LogisticRegression(C=logistic_c, l1_ratio=1, solver="saga", max_iter=1000, random_state=seed)


def _importance(predictor: Any, model: Model, is_continuous: bool) -> np.ndarray:
    """Importance [D] of each latent in a fitted predictor."""
    if model == "trees":
        with np.errstate(invalid="ignore"):  # 0 / 0 where trees split without gain
            return _share(np.nan_to_num(predictor.feature_importances_), axis=0)
    num_values = 1 if is_continuous else len(predictor.classes_)
    # scikit-learn has one row of weights per value, but a single row for two values.
    return np.abs(np.atleast_2d(predictor.coef_)).sum(axis=0) / num_values


def _scores(importance_FxD: np.ndarray, train_F: np.ndarray, test_F: np.ndarray) -> dict[str, Any]:
    """The scores of importances, and of the predictors' scores in each part."""
    importance_DxF = np.ascontiguousarray(importance_FxD.T)
    disentanglement_D, completeness_F = _concentration(importance_DxF), _concentration(importance_DxF.T)
    return {
        "disentanglement": float(disentanglement_D @ _share(importance_DxF.sum(axis=1), axis=0)),
        "completeness": float(completeness_F @ _share(importance_DxF.any(axis=0).astype(np.float64), axis=0)),
        "informativeness_train": float(train_F.mean()),
        "informativeness_test": float(test_F.mean()),
        "disentanglement_per_latent": disentanglement_D,
        "completeness_per_factor": completeness_F,
        "informativeness_train_per_factor": train_F,
        "informativeness_test_per_factor": test_F,
        "importance": importance_DxF,
    }


def _concentration(values: np.ndarray) -> np.ndarray:
    """1 - entropy / log(size) of each row [R, C] as a distribution: 1 if one entry has all, 0 if all are equal."""
    size, share = values.shape[1], _share(values, axis=1)
    if size == 1:
        return share[:, 0]
    entropy = -(share * np.log(share, where=share > 0, out=np.zeros_like(share))).sum(axis=1)
    return np.where(share.any(axis=1), 1 - entropy / np.log(size), 0.0)


def _share(values: npt.ArrayLike, axis: int) -> np.ndarray:
    """values / their sum along the axis, 0 where the sum is 0."""
    values = np.asarray(values)
    total = values.sum(axis=axis, keepdims=True)
    return np.divide(values, total, where=total > 0, out=np.zeros_like(values))
