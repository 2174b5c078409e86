"""Modularity and explicitness, Ridgeway & Mozer 2018 (arXiv 1802.05312), section 3."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from deft_jax.metrics import inputs, mutual_information
from deft_jax.runtime.validation import Count, NonNegativeInt


def modularity_explicitness(
    codes: np.ndarray,
    factors: np.ndarray,
    num_bins: Count = 20,
    num_train: Count | None = None,
    seed: NonNegativeInt = 0,
    probabilities: Literal["normalised", "separate"] = "normalised",
    groups: np.ndarray | None = None,
    continuous: Sequence[bool] | bool | None = None,
) -> dict[str, Any]:
    """Whether each latent knows one factor only, and whether the values of a factor can be read off linearly.

    Modularity of latent d = 1 - (sum over f of I[d, f]^2 - m^2) / (m^2 (F - 1)), with I the mutual information of
    the training part, from equal-width bins, and m the highest I[d, f] of the latent; 0 for a latent that knows
    nothing (a collapsed one). The score is the plain mean over all latents, so collapsed latents lower it. With one
    factor, where the formula is 0 / 0, a latent that knows the factor has modularity 1.

    Explicitness of factor f = mean over its values v of the area under the ROC curve of 'v or not' scored by
    logistic regression on all latents: one against the rest, L2 penalty, C = 1, liblinear (which penalises the
    intercept too), on latents of mean 0 and standard deviation 1 in the training part (a latent constant there is
    not scaled). A value that is missing from the training part or from the test part does not count there. 0.5 is
    chance. The score of a value is, as `probabilities` says,

      'normalised': its probability divided by the sum of those of all values. A value between others can be told
        from both sides by their low probabilities, so that codes that are a factor's values in order score near 1.
      'separate': its probability alone, which is monotone along one direction of the codes: no inner value of codes
        in order can be told apart, and they score about 0.75 where there are many values.

    The semantics are those of disentanglement_lib (Locatello et al. 2019), whose LogisticRegression() was one
    against the rest by liblinear, normalised, in the scikit-learn of its time. Since scikit-learn 0.22 the same line is
    a multinomial regression, which scores higher: 0.98 in place of 0.94 for perfect codes of factors of dSprites'
    sizes. There a latent constant in the training part, or a value missing from one part, is an error.

    Args:
      codes: [N, D] finite real numbers, the posterior means by convention.
      factors: [N, F] integers >= 0.
      num_bins: bins per latent, 20 by default.
      num_train: the training part is the first num_train rows of np.random.default_rng(seed).permutation(N), the
        test part is the rest. None, the default: two thirds of N, rounded down. With groups: see `inputs.split`.
      seed: integer in [0, 2**32), for the split; 0 by default.
      probabilities: 'normalised' (the default) or 'separate'.
      groups: [N] integers, equal for rows of one image, which then fall into one part. None, the default: each row is
        an image of its own.
      continuous: F booleans, False (no factor is continuous) or None, the default: the columns that look continuous
        (`inputs.continuous_columns`). A continuous factor is refused: explicitness is for classes.

    Returns:
      {'modularity', 'explicitness_train', 'explicitness_test': floats; 'modularity_per_latent': [D],
      'explicitness_train_per_factor', 'explicitness_test_per_factor': [F]}, no unit, 1 is best; 'num_distinct_train',
      'num_distinct_test': ints, distinct images of a part.

    Raises:
      ValueError: an input does not fit, a factor is continuous, or constant in the sample or in the training part,
        or the test part has one value of it only, or none of the training part; one line says which.
    """
    if probabilities not in ("normalised", "separate"):
        raise ValueError(f"probabilities must be 'normalised' or 'separate', got {probabilities!r}")
    codes, factors, binned = inputs.as_classes(codes, factors, continuous, num_bins)
    if len(binned):
        raise ValueError(f"factor {binned[0]} is continuous and explicitness is for classes only: "
                         "leave it out, or number its classes and pass continuous=False")
    _check_constant(factors, "sample: leave it out")
    train, test = inputs.split(len(codes), num_train, seed, groups)
    _check_constant(factors[train], "training part: leave it out or raise num_train")
    _check_constant(factors[test], "test part: leave it out or lower num_train")
    bins = mutual_information.discretise(codes[train], num_bins)
    modularity_D = _modularity(mutual_information.mutual_information(bins, factors[train]))
    scaled = inputs.standardise(codes.astype(np.float64), train)
    fit = {"normalise": probabilities == "normalised", "seed": seed}
    areas_Fx2 = np.array([_areas(scaled, f, factor, train, test, **fit) for f, factor in enumerate(factors.T)])
    images_N = inputs.image_groups(len(codes), groups)
    return {
        "modularity": float(modularity_D.mean()),
        "explicitness_train": float(areas_Fx2[:, 0].mean()),
        "explicitness_test": float(areas_Fx2[:, 1].mean()),
        "modularity_per_latent": modularity_D,
        "explicitness_train_per_factor": areas_Fx2[:, 0],
        "explicitness_test_per_factor": areas_Fx2[:, 1],
        "num_distinct_train": len(np.unique(images_N[train])),
        "num_distinct_test": len(np.unique(images_N[test])),
    }


def _modularity(information_DxF):
    """Modularity of each latent, [D], from its mutual information with each factor."""
    known = information_DxF.max(axis=1) > 0
    # Shares of the highest: the formula has no scale, and squares of small values do not underflow.
    highest = np.where(known, information_DxF.max(axis=1), 1.0)
    spread = ((information_DxF / highest[:, None]) ** 2).sum(axis=1) - 1
    return np.where(known, 1 - spread / max(information_DxF.shape[1] - 1, 1), 0.0)


def _areas(codes, f, factor, train, test, normalise, seed):
    """Mean area under the ROC curve of a factor's values in the training part and in the test part."""
    from sklearn import linear_model, multiclass

    # The seed changes nothing, as this solver draws nothing; without one, scikit-learn reads numpy's global state.
    binary = linear_model.LogisticRegression(solver="liblinear", max_iter=1000, random_state=seed)
    model = multiclass.OneVsRestClassifier(binary).fit(codes[train], factor[train])
    means = []
    for rows in (train, test):
        scores = model.predict_proba(codes[rows]) if normalise else model.decision_function(codes[rows])
        if scores.ndim == 1:  # the one classifier of two values
            scores = np.stack([-scores, scores], axis=1)
        is_value = factor[rows, None] == model.classes_
        present = is_value.any(axis=0)
        if not present.any():
            raise ValueError(f"factor {f} has no value that is in both parts: give more samples")
        means.append(_area(is_value[:, present], scores[:, present]).mean())
    return means


def _area(is_value, scores):
    """Area under the ROC curve of each column, [N, K] -> [K], by ranks: share of pairs in order, ties one half."""
    from scipy import stats

    count = is_value.sum(axis=0)
    above = (stats.rankdata(scores, axis=0) * is_value).sum(axis=0) - count * (count + 1) / 2
    return above / (count * (len(scores) - count))


def _check_constant(factors, where):
    constant = np.flatnonzero((factors == factors[0]).all(axis=0))
    if len(constant):
        raise ValueError(f"factor {constant[0]} is constant in the {where}")
