"""InfoMEC: InfoM (modularity), InfoC (compactness), InfoE (explicitness), Hsu et al. 2023 (arXiv 2305.18378).

The estimators of I and H, in nats:

  'knn': scikit-learn's nearest-neighbour estimates, the authors' choice for continuous latents, with num_neighbors; H
    of a continuous factor is the estimate for the factor with itself. A constant latent has 0.
  'binned': plug-in estimate over num_bins equal-width bins per latent and per continuous factor, as in MIG.
  'discrete': each distinct value of a latent is a class, as in the authors' code for quantised latents, which enter
    InfoE as one-hot vectors; a latent is active if it is not constant. If codes hardly repeat a value, every latent
    determines every factor and the scores mean nothing.

Bins limit the information to their resolution, and have a positive bias of about (bins - 1) (values - 1) / (2 N) nats,
which makes M more even and InfoM and InfoC lower where much of M is near 0. Nearest neighbours have hardly any bias
there, but scatter, are clipped at 0, break ties of equal codes by noise drawn with the seed, and take far longer; where
no latent is informative, InfoM and InfoC from them are ratios of that scatter and need not be low. Scores of different
estimators differ by up to 0.2 and do not compare: report the estimator, which is in the result, beside the score.
"""

import warnings
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from deft_jax.metrics import binned, inputs, mutual_information
from deft_jax.metrics.inputs import Continuous, NumBins
from deft_jax.runtime.validation import Count, NonNegative, NonNegativeInt

Estimator = Literal["binned", "knn", "discrete"]

# Samples x latents x factors up to which nearest neighbours take a minute or so on one core.
_LARGEST_FOR_NEIGHBOURS = 4_000_000


def infomec(
    codes: np.ndarray,
    factors: np.ndarray,
    continuous: Continuous = None,
    estimator: Estimator | None = None,
    num_bins: NumBins = 20,
    num_neighbors: Count = 10,
    inactive: Annotated[NonNegative, Field(lt=1)] = 0.05,
    seed: NonNegativeInt = 0,
) -> dict[str, Any]:
    """Modularity and compactness of the mutual information, and how well a linear model predicts each factor.

    M[d, f] = I(z_d; v_f) / H(v_f), over the active latents d, whose range in the sample is more than `inactive` times
    the widest range. With F factors and A active latents,

      InfoM = (mean over active d of max over f of M[d, f] / sum over f of M[d, f] - 1/F) / (1 - 1/F),
      InfoC = (mean over f of max over active d of M[d, f] / sum over active d of M[d, f] - 1/A) / (1 - 1/A),
      InfoE = mean over f of (loss of the null model - loss of the model) / loss of the null model.

    The losses of InfoE are mean log-losses, in the sample the models are fitted to, of multinomial logistic regression
    on all latents, standardised: no penalty, values weighted to balance, lbfgs stopped after 100 steps, as is usual
    where values can be separated. As in the authors' code there is no test part: with many latents and few samples
    InfoE rises by overfitting. The null model uses no latent, so its loss is the log of the number of values. Only the
    fit is balanced, so InfoE may be slightly negative. For a continuous factor the share is the R^2 of linear
    regression.

    A row or column of M whose sum is 0 counts as evenly spread, 0. With one factor, or one active latent, 0 / 0 is
    read as 1 if the sum is not 0. Without an active latent InfoM and InfoC are 0. The authors' code, whose defaults
    these are, leaves these cases undefined; disentanglement_lib does not have this metric. The code of Tripod (Hsu et
    al. 2024, arXiv 2404.10282) selects active latents by their interquartile range, above 0.1 for quantised ones in
    [-1, 1] and above a tenth of the widest for others; a latent that rarely leaves one value counts there as inactive.

    Args:
      codes: [N, D] finite real numbers, the posterior means by convention.
      factors: [N, F] integers >= 0; finite real numbers where continuous.
      continuous: see `inputs.Continuous`; default: detected. With estimator 'discrete' no factor may be continuous.
      estimator: 'knn', 'binned' or 'discrete', described at the top of this file. Default: 'knn' while N x D x F is at
        most 4,000,000 (10,000 samples of 10 latents and 5 factors, 500,000, take some 10 seconds), 'binned' beyond.
      num_bins: bins per latent and continuous factor; only for estimator 'binned'.
      num_neighbors: neighbours, from 1 to N - 1; only for estimator 'knn'.
      inactive: share of the widest range, in [0, 1); not for estimator 'discrete'.
      seed: integer in [0, 2**32); only for estimator 'knn'.

    Returns:
      {'infom', 'infoc', 'infoe': floats, 1 is best; 'infoe_per_factor': [F]; 'nmi': [D, F], the matrix M over all
      latents; 'active': [D] bool; 'estimator': str, the one that was used}; and 'binned_factors', the indices of the
      continuous factors, where 'binned' has cut any.

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample.

    Example:
      >>> factors = np.tile([[0, 0], [0, 1], [1, 0], [1, 1]], (10, 1))
      >>> scores = infomec(1.0 * factors, factors, estimator="binned")
      >>> scores["infom"], scores["infoc"], round(scores["infoe"], 2)
      (1.0, 1.0, 1.0)
    """
    if not 0 <= inactive < 1:
        raise ValueError(f"inactive must be in [0, 1), got {inactive!r}")
    sample = inputs.mixed_samples(codes, factors, continuous)
    estimator = _resolve_estimator(estimator, sample)
    if estimator == "knn":
        nmi_DxF = _nmi_of_neighbours(sample, num_neighbors, seed)
    else:
        nmi_DxF = _nmi_of_counts(sample, num_bins if estimator == "binned" else None)
    codes = sample.codes.astype(np.float64)
    range_D = codes.max(axis=0) - codes.min(axis=0)
    active_D = range_D > (0 if estimator == "discrete" else inactive * range_D.max())
    predictors = _one_hot(codes) if estimator == "discrete" else inputs.standardise(codes)
    infoe_F = np.array([_explicitness(predictors, *pair) for pair in zip(*sample[1:], strict=True)])
    has_bins = estimator == "binned" and sample.continuous.any()
    return {
        "infom": _concentration(nmi_DxF[active_D]),
        "infoc": _concentration(nmi_DxF[active_D].T),
        "infoe": float(infoe_F.mean()),
        "infoe_per_factor": infoe_F,
        "nmi": nmi_DxF,
        "active": active_D,
        "estimator": estimator,
    } | ({"binned_factors": np.flatnonzero(sample.continuous)} if has_bins else {})


def _resolve_estimator(estimator: Estimator | None, sample: inputs.Sample) -> Estimator:
    """The estimator to use: the given one, checked, or the default for this number of rows, latents and factors."""
    if estimator is not None:
        inputs.check_choice("estimator", estimator, ("binned", "knn", "discrete"))
    if estimator == "discrete" and sample.continuous.any():
        raise ValueError("estimator 'discrete' takes no continuous factors")
    if estimator is None:
        return "knn" if sample.codes.size * len(sample.columns) <= _LARGEST_FOR_NEIGHBOURS else "binned"
    return estimator


def _concentration(values: np.ndarray) -> float:
    """Mean over rows [R, C] of (max / sum - 1 / C) / (1 - 1 / C): 1 if one entry has all, 0 if all are equal."""
    if values.size == 0:
        return 0.0
    size, total = values.shape[1], values.sum(axis=1)
    if size == 1:
        return float((total > 0).mean())
    share = np.divide(values.max(axis=1), total, where=total > 0, out=np.full(len(values), 1 / size))
    return float(((share - 1 / size) / (1 - 1 / size)).mean())


def _nmi_of_counts(sample: inputs.Sample, num_bins: int | None) -> np.ndarray:
    """M [D, F] by plug-in estimates; with num_bins None each distinct value of a latent is a bin."""
    if num_bins is None:
        bins = np.stack([np.unique(code, return_inverse=True)[1] for code in sample.codes.T], axis=1)
        classes = np.stack(sample.columns, axis=1)
    else:
        bins = mutual_information.discretise(sample.codes, num_bins)
        classes = binned.bin_continuous(sample, num_bins)
    entropy_F = mutual_information.entropy(classes)
    if not entropy_F.all():
        raise ValueError(f"factor {np.flatnonzero(entropy_F == 0)[0]} falls into one bin: raise num_bins")
    return mutual_information.mutual_information(bins, classes) / entropy_F


def _nmi_of_neighbours(sample: inputs.Sample, num_neighbors: int, seed: int) -> np.ndarray:
    """M [D, F] by scikit-learn's nearest-neighbour estimates."""
    from sklearn import feature_selection

    codes = sample.codes.astype(np.float64)
    if not isinstance(num_neighbors, int | np.integer) or not 1 <= num_neighbors < len(codes):
        raise ValueError(f"num_neighbors must be an integer from 1 to {len(codes) - 1}, got {num_neighbors!r}")
    inputs.check_seed(seed)
    settings = {"discrete_features": False, "n_neighbors": num_neighbors, "random_state": seed}
    nmi_DxF = np.zeros((codes.shape[1], len(sample.columns)))
    for f, column in enumerate(sample.columns):
        if sample.continuous[f]:
            estimate = feature_selection.mutual_info_regression
            entropy = estimate(column[:, None], column, **settings)[0]
        else:
            estimate = feature_selection.mutual_info_classif
            entropy = mutual_information.entropy(column[:, None])[0]
        for d, code in enumerate(codes.T):
            # One call per latent, so that its noise does not depend on the latents before it.
            if code.max() > code.min():
                nmi_DxF[d, f] = estimate(code[:, None], column, **settings)[0] / entropy
    return nmi_DxF


def _explicitness(predictors: Any, column: np.ndarray, is_continuous: bool) -> float:
    """InfoE of one factor; the predictors are an array [N, D] or a sparse matrix."""
    from sklearn import exceptions, linear_model, metrics

    if is_continuous:
        return linear_model.LinearRegression().fit(predictors, column).score(predictors, column)
    model = linear_model.LogisticRegression(C=np.inf, class_weight="balanced", max_iter=100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
        model.fit(predictors, column)
    null_loss = np.log(len(model.classes_))
    return 1 - metrics.log_loss(column, model.predict_proba(predictors)) / null_loss


def _one_hot(codes: np.ndarray) -> Any:
    """A sparse matrix [N, distinct values of all latents] with D ones per row."""
    from sklearn import preprocessing

    return preprocessing.OneHotEncoder().fit_transform(codes)
