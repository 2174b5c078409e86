"""Modularity and explicitness, Ridgeway & Mozer 2018 (arXiv 1802.05312), section 3."""

from typing import Any, Literal

import numpy as np

from deft_jax.metrics import held_out, inputs, mutual_information
from deft_jax.metrics.inputs import Continuous, NumBins
from deft_jax.runtime.validation import Count, NonNegativeInt


def modularity_explicitness(
    codes: np.ndarray,
    factors: np.ndarray,
    num_bins: NumBins = 20,
    num_train: Count | None = None,
    seed: NonNegativeInt = 0,
    probabilities: Literal["normalised", "separate"] = "normalised",
    groups: np.ndarray | None = None,
    continuous: Continuous = None,
) -> dict[str, Any]:
    """Whether each latent is informative about one factor only, and whether a linear model can classify each factor.

    Modularity of latent d = 1 - (sum over f of I[d, f]^2 - m^2) / (m^2 (F - 1)), with I the mutual information in the
    training part, from equal-width bins, and m the highest I[d, f] of the latent; 0 for an uninformative (collapsed)
    latent. The score is the plain mean over all latents, so collapsed latents lower it. With one factor, where the
    formula is 0 / 0, an informative latent has modularity 1.

    Explicitness of factor f = mean over its values v of the area under the ROC curve of 'v or not' scored by
    logistic regression on all latents: one against the rest, L2 penalty, C = 1, liblinear (which penalises the
    intercept too), on latents standardised in the training part. A value that is missing from one of the parts is left
    out of that part. 0.5 is chance. The score of a value depends on `probabilities`:

      'normalised': its probability divided by the sum of those of all values. An inner value is recognised by the low
        probabilities of the values on both sides, so codes that have a factor's values in order score near 1.
      'separate': its probability, which is monotone along one direction of the codes. No inner value of ordered codes
        can be recognised; they score about 0.75 where there are many values.

    The semantics are those of disentanglement_lib (Locatello et al. 2019), whose LogisticRegression() was one against
    the rest by liblinear, normalised, in the scikit-learn of its time. Since scikit-learn 0.22 the same line is a
    multinomial regression, which scores higher: 0.98 in place of 0.94 for perfect codes of factors of dSprites' sizes.
    There a latent constant in the training part, or a value missing from one part, is an error.

    Args:
      codes: [N, D] finite real numbers, the posterior means by convention.
      factors: [N, F] integers >= 0.
      num_bins: bins per latent.
      num_train: the least number of rows in the training part; default: two thirds of N; see `held_out.split`.
      seed: integer in [0, 2**32), for the split.
      probabilities: 'normalised' or 'separate'.
      groups: [N] integers, equal for rows of one image, which are then in one part; default: each row is a different
        image.
      continuous: see `inputs.Continuous`; default: detected. A continuous factor is an error: explicitness is for
        classes.

    Returns:
      {'modularity', 'explicitness_train', 'explicitness_test': floats; 'modularity_per_latent': [D],
      'explicitness_train_per_factor', 'explicitness_test_per_factor': [F]}, no unit, 1 is best; 'num_distinct_train',
      'num_distinct_test': int, distinct images in each part.

    Raises:
      ValueError: an input does not fit, a factor is continuous, or constant in the sample or in one of its parts, or
        its parts share no value.

    Example:
      >>> factors = np.tile([[0, 0], [0, 1], [1, 0], [1, 1]], (10, 1))
      >>> scores = modularity_explicitness(factors[:, :1], factors[:, :1])
      >>> scores["modularity"], scores["explicitness_test"]
      (1.0, 1.0)
    """
    inputs.check_choice("probabilities", probabilities, ("normalised", "separate"))
    sample = held_out.split_sample(codes, factors, continuous, num_train, seed, groups)
    _check_classes(sample)
    bins = mutual_information.discretise(sample.codes[sample.train], num_bins)
    classes = np.stack(sample.columns, axis=1)[sample.train]
    modularity_D = _modularity(mutual_information.mutual_information(bins, classes))
    train_F, test_F = _explicitness(sample, probabilities == "normalised", seed)
    return {
        "modularity": float(modularity_D.mean()),
        "explicitness_train": float(train_F.mean()),
        "explicitness_test": float(test_F.mean()),
        "modularity_per_latent": modularity_D,
        "explicitness_train_per_factor": train_F,
        "explicitness_test_per_factor": test_F,
        **sample.num_distinct(),
    }


def _check_classes(sample: held_out.HeldOutSample) -> None:
    """Raises ValueError where a factor is continuous, or constant in the test part."""
    if sample.continuous.any():
        raise ValueError(
            f"factor {np.flatnonzero(sample.continuous)[0]} is continuous and explicitness is for classes only: "
            "leave it out, or number its classes and pass continuous=False"
        )
    held_out.check_varies(sample.columns, sample.test, "test")


def _modularity(information_DxF: np.ndarray) -> np.ndarray:
    """Modularity of each latent, [D], from its mutual information with each factor."""
    informative = information_DxF.max(axis=1) > 0
    # Shares of the highest: the formula has no scale, and squares of small values do not underflow.
    highest = np.where(informative, information_DxF.max(axis=1), 1.0)
    rest = ((information_DxF / highest[:, None]) ** 2).sum(axis=1) - 1
    return np.where(informative, 1 - rest / max(information_DxF.shape[1] - 1, 1), 0.0)


def _explicitness(sample: held_out.HeldOutSample, normalise: bool, seed: int) -> np.ndarray:
    """Mean area under the ROC curve over the values of each factor, [2, F]: in the training part, in the test part."""
    from sklearn import linear_model, multiclass

    codes, areas_2xF = sample.standardised_codes(), np.empty((2, len(sample.columns)))
    for f, column in enumerate(sample.columns):
        # This solver draws nothing, but without a seed scikit-learn uses NumPy's global random state.
        binary = linear_model.LogisticRegression(solver="liblinear", max_iter=1000, random_state=seed)
        model = multiclass.OneVsRestClassifier(binary).fit(codes[sample.train], column[sample.train])
        for part, rows in enumerate((sample.train, sample.test)):
            scores = model.predict_proba(codes[rows]) if normalise else model.decision_function(codes[rows])
            if scores.ndim == 1:  # two values have one classifier
                scores = np.stack([-scores, scores], axis=1)
            is_value = column[rows, None] == model.classes_
            present = is_value.any(axis=0)
            if not present.any():
                raise ValueError(f"factor {f} has no value that is in both parts: give more samples")
            areas_2xF[part, f] = _area(is_value[:, present], scores[:, present]).mean()
    return areas_2xF


def _area(is_value: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each column, [N, K] -> [K], by ranks: share of pairs in order, ties one half."""
    from scipy import stats

    count = is_value.sum(axis=0)
    above = (stats.rankdata(scores, axis=0) * is_value).sum(axis=0) - count * (count + 1) / 2
    return above / (count * (len(scores) - count))
