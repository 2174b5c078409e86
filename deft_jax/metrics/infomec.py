"""InfoMEC: InfoM (modularity), InfoC (compactness), InfoE (explicitness), Hsu et al. 2023 (arXiv 2305.18378)."""

import warnings
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from deft_jax.metrics import inputs, mutual_information
from deft_jax.runtime.validation import Count, NonNegative, NonNegativeInt

# Samples x latents x factors up to which nearest neighbours take a minute or so on one core.
_MOST_FOR_NEIGHBOURS = 4_000_000


def infomec(
    codes: np.ndarray,
    factors: np.ndarray,
    continuous: Sequence[bool] | bool | None = None,
    estimator: Literal["binned", "knn", "discrete"] | None = None,
    num_bins: Count = 20,
    num_neighbors: Count = 10,
    inactive: Annotated[NonNegative, Field(lt=1)] = 0.05,
    seed: NonNegativeInt = 0,
) -> dict[str, Any]:
    """Modularity and compactness of the mutual information, and how much of each factor is read off linearly.

    M[d, f] = I(z_d; v_f) / H(v_f), over the active latents d, those whose range in the sample is more than
    `inactive` times the widest range. With F factors and A active latents,

      InfoM = (mean over active d of max over f of M[d, f] / sum over f of M[d, f] - 1/F) / (1 - 1/F),
      InfoC = (mean over f of max over active d of M[d, f] / sum over active d of M[d, f] - 1/A) / (1 - 1/A),
      InfoE = mean over f of (loss of the null model - loss of the model) / loss of the null model.

    The losses of InfoE are mean log-losses, in the sample the models are fitted to, of multinomial logistic
    regression on all latents, scaled to mean 0 and standard deviation 1: no penalty, values weighted to balance,
    lbfgs stopped after 100 steps, as is usual where values can be separated. Nothing is held out, as in the
    authors' code: with many latents and few samples InfoE rises by fitting alone. The null model sees no latent,
    hence gives all values the same chance, and its loss is the log of their number. As only the fit is balanced,
    InfoE may be slightly negative. For a continuous factor the share is the R^2 of linear regression.

    A row or column of M whose sum is 0 knows nothing and counts as evenly spread, 0. With one factor, or one
    active latent, there is nothing to be spread over and 0 / 0 is read as 1, if the sum is not 0. Without an
    active latent InfoM and InfoC are 0. The authors' code, whose defaults these are, leaves these cases undefined.

    I and H in nats are estimated by

      'knn': scikit-learn's nearest-neighbour estimates, the authors' choice for continuous latents, with
        num_neighbors; H of a continuous factor is the estimate for the factor with itself. A constant latent has 0;
      'binned': plug-in estimate over num_bins equal-width bins per latent and per continuous factor, as in MIG;
      'discrete': every value of a latent is a value of its own, as in the authors' code for quantised latents,
        which enter InfoE as one-hot vectors; active is any latent that is not constant. Of codes that hardly repeat
        a value it says nothing: every latent then knows every factor whole.

    Bins know at most what they resolve, and have a positive bias of about (bins - 1) (values - 1) / (2 N) nats,
    which makes M more even and InfoM and InfoC lower where much of M is near 0. Nearest neighbours have hardly any
    bias there, but scatter, are clipped at 0, break ties of equal codes by noise drawn with the seed, and take
    far longer; where no latent knows anything, InfoM and InfoC from them are ratios of that scatter and need not
    be low. Scores of different estimators do not compare: they may differ by 0.2, so name the estimator, which the
    result holds, beside the score.

    Args:
      codes: [N, D] finite real numbers, the posterior means by convention.
      factors: [N, F] integers >= 0; columns declared continuous: finite real numbers.
      continuous: F booleans, False (no factor is continuous) or None, the default: the columns that look continuous
        (`inputs.continuous_columns`). With estimator 'discrete' none may be.
      estimator: 'knn', 'binned' or 'discrete'. None, the default: 'knn' while N x D x F is at most 4,000,000 (10,000
        samples of 10 latents and 5 factors, 500,000, take some 10 seconds), 'binned' beyond.
      num_bins: bins per latent and continuous factor, 20 by default; only for estimator 'binned'.
      num_neighbors: neighbours, from 1 to N - 1, 10 by default; only for estimator 'knn'.
      inactive: share of the widest range, in [0, 1), 0.05 by default; not for estimator 'discrete'.
      seed: integer in [0, 2**32), 0 by default; only for estimator 'knn'.

    Returns:
      {'infom', 'infoc', 'infoe': floats, 1 is best; 'infoe_per_factor': [F]; 'nmi': [D, F], the matrix M over all
      latents; 'active': [D] bool; 'estimator': str, the one that was used}; and where 'binned' has cut any,
      'binned_factors': indices of the continuous factors.

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample; one line says which.
    """
    if estimator not in (None, "binned", "knn", "discrete"):
        raise ValueError(f"estimator must be 'binned', 'knn' or 'discrete', got {estimator!r}")
    if not 0 <= inactive < 1:
        raise ValueError(f"inactive must be in [0, 1), got {inactive!r}")
    codes, columns, continuous = inputs.mixed_samples(codes, factors, continuous)
    if estimator is None:
        estimator = "knn" if codes.size * len(columns) <= _MOST_FOR_NEIGHBOURS else "binned"
    if estimator == "discrete" and continuous.any():
        raise ValueError("estimator 'discrete' takes no continuous factors")
    if estimator == "knn":
        nmi_DxF = _neighbours(codes.astype(np.float64), columns, continuous, num_neighbors, seed)
    else:  # on the codes as they came, because the edges of bins follow their dtype
        nmi_DxF = _plug_in(codes, columns, continuous, num_bins if estimator == "binned" else None)
    codes = codes.astype(np.float64)
    ranges_D = codes.max(axis=0) - codes.min(axis=0)
    active_D = ranges_D > (0 if estimator == "discrete" else inactive * ranges_D.max())
    predictors = _one_hot(codes) if estimator == "discrete" else _standardise(codes)
    infoe_F = np.array([_explicitness(predictors, *pair) for pair in zip(columns, continuous, strict=True)])
    result = {
        "infom": _concentration(nmi_DxF[active_D]),
        "infoc": _concentration(nmi_DxF[active_D].T),
        "infoe": float(infoe_F.mean()),
        "infoe_per_factor": infoe_F,
        "nmi": nmi_DxF,
        "active": active_D,
        "estimator": estimator,
    }
    named = estimator == "binned" and continuous.any()
    return result | ({"binned_factors": np.flatnonzero(continuous)} if named else {})


def _concentration(values):
    """Mean over rows [R, C] of (max / sum - 1 / C) / (1 - 1 / C): 1 if one entry has all, 0 if all are equal."""
    if values.size == 0:
        return 0.0
    size, total = values.shape[1], values.sum(axis=1)
    if size == 1:
        return float((total > 0).mean())
    share = np.divide(values.max(axis=1), total, where=total > 0, out=np.full(len(values), 1 / size))
    return float(((share - 1 / size) / (1 - 1 / size)).mean())


def _plug_in(codes, columns, continuous, num_bins):
    """[D, F] from counts; num_bins None: each value of a latent is a bin."""
    bins = _ranks(codes) if num_bins is None else mutual_information.discretise(codes, num_bins)
    labels = [
        mutual_information.discretise(column[:, None], num_bins)[:, 0] if is_continuous else column
        for column, is_continuous in zip(columns, continuous, strict=True)
    ]
    labels = np.stack(labels, axis=1)
    entropy_F = mutual_information.entropy(labels)
    if not entropy_F.all():
        raise ValueError(f"factor {np.flatnonzero(entropy_F == 0)[0]} falls into one bin: raise num_bins")
    return mutual_information.mutual_information(bins, labels) / entropy_F


def _neighbours(codes, columns, continuous, num_neighbors, seed):
    from sklearn import feature_selection

    if not isinstance(num_neighbors, int | np.integer) or not 1 <= num_neighbors < len(codes):
        raise ValueError(f"num_neighbors must be an integer from 1 to {len(codes) - 1}, got {num_neighbors!r}")
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be an integer in [0, 2**32), got {seed!r}")
    settings = {"discrete_features": False, "n_neighbors": num_neighbors, "random_state": seed}
    nmi_DxF = np.zeros((codes.shape[1], len(columns)))
    for f, column in enumerate(columns):
        if continuous[f]:
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


def _explicitness(predictors, column, is_continuous):
    from sklearn import exceptions, linear_model, metrics

    if is_continuous:
        return linear_model.LinearRegression().fit(predictors, column).score(predictors, column)
    model = linear_model.LogisticRegression(C=np.inf, class_weight="balanced", max_iter=100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
        model.fit(predictors, column)
    null_loss = np.log(len(model.classes_))
    return 1 - metrics.log_loss(column, model.predict_proba(predictors)) / null_loss


def _standardise(codes):
    """Mean 0 and standard deviation 1 of each column; a constant one is not scaled."""
    return (codes - codes.mean(axis=0)) / np.where(codes.max(axis=0) > codes.min(axis=0), codes.std(axis=0), 1.0)


def _ranks(codes):
    """[N, D] int64: the values of each latent, numbered in their order."""
    return np.stack([np.unique(code, return_inverse=True)[1] for code in codes.T], axis=1)


def _one_hot(codes):
    """Sparse [N, distinct values of all latents]: D ones in a row."""
    from sklearn import preprocessing

    return preprocessing.OneHotEncoder().fit_transform(codes)
