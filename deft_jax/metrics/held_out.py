"""The split of a sample into a training part and a test part that share no image, for metrics that fit predictors."""

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from deft_jax.metrics import inputs


class HeldOutSample(NamedTuple):
    """A checked sample of N rows and the row numbers of its two parts."""

    codes: np.ndarray
    """[N, D] float32 or float64."""
    columns: list[np.ndarray]
    """F columns [N]: int64 classes, or float64 numbers where the factor is continuous."""
    continuous: np.ndarray
    """[F] bool."""
    groups: np.ndarray
    """[N] the image of each row."""
    train: np.ndarray
    """Row numbers of the training part."""
    test: np.ndarray
    """Row numbers of the test part."""

    def standardised_codes(self) -> np.ndarray:
        """Codes [N, D] float64 with mean 0 and standard deviation 1 in the training part."""
        return inputs.standardise(self.codes.astype(np.float64), self.train)

    def num_distinct(self) -> dict[str, int]:
        """The number of distinct images in each part."""
        parts = {"num_distinct_train": self.train, "num_distinct_test": self.test}
        return {name: len(np.unique(self.groups[rows])) for name, rows in parts.items()}


def split_sample(
    codes: npt.ArrayLike,
    factors: npt.ArrayLike,
    continuous: inputs.Continuous,
    num_train: int | None,
    seed: int,
    groups: npt.ArrayLike | None,
) -> HeldOutSample:
    """Checks a sample and splits it.

    Args:
      codes: [N, D] finite real numbers.
      factors: [N, F] integers >= 0; finite real numbers where continuous.
      continuous: see `inputs.Continuous`.
      num_train: see `split`.
      seed: see `split`.
      groups: [N] integers, equal for rows of one image; None: each row is a different image.

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample or in the training part.
    """
    checked = inputs.mixed_samples(codes, factors, continuous)
    groups = _image_groups(len(checked.codes), groups)
    sample = HeldOutSample(*checked, groups, *split(len(checked.codes), num_train, seed, groups))
    check_varies(sample.columns, sample.train, "training")
    return sample


def split(
    num_samples: int, num_train: int | None, seed: int, groups: npt.ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of a training part and of a test part that share no group.

    Args:
      num_samples: N rows.
      num_train: rows of the training part; None: two thirds of N, rounded down. Where rows repeat, the training part is
        the smallest number of whole groups with at least so many rows.
      seed: integer in [0, 2**32).
      groups: [N] integers, equal for rows of one image; None: each row is a different image, and the training part is
        the first num_train rows of np.random.default_rng(seed).permutation(N).

    Returns:
      (training rows, test rows).

    Raises:
      ValueError: a number is out of range, or no group is left for the test part.
    """
    inputs.check_seed(seed)
    if num_train is None:
        num_train = num_samples * 2 // 3
    if not isinstance(num_train, int | np.integer) or not 0 < num_train < num_samples:
        raise ValueError(f"num_train must be an integer from 1 to {num_samples - 1}, got {num_train!r}")
    rows = np.random.default_rng(seed).permutation(num_samples)
    if groups is None:
        return rows[:num_train], rows[num_train:]
    groups = _image_groups(num_samples, groups)
    _, first, group_N, counts = np.unique(groups[rows], return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)  # groups in the order of their first row in the permutation
    num_groups = np.searchsorted(np.cumsum(counts[order]), num_train) + 1
    if num_groups >= len(order):
        raise ValueError(f"{len(order)} distinct images leave none for the test part: add images, or lower num_train")
    in_train = np.isin(group_N, order[:num_groups])
    return rows[in_train], rows[~in_train]


def check_varies(
    columns: list[np.ndarray], rows: np.ndarray, part: Literal["training", "test"], only: np.ndarray | None = None
) -> None:
    """Checks that no factor is constant in a part.

    Args:
      columns: F columns [N].
      rows: row numbers of the part.
      part: its name.
      only: [F] bool, the factors to check; None: all.

    Raises:
      ValueError: a factor is constant in the part.
    """
    advice = {"training": "raise", "test": "lower"}[part]
    for f, column in enumerate(columns):
        if (only is None or only[f]) and inputs.is_constant(column[rows]):
            raise ValueError(f"factor {f} is constant in the {part} part: leave it out or {advice} num_train")


def check_shared_values(
    columns: list[np.ndarray], continuous: npt.ArrayLike, train: np.ndarray, test: np.ndarray
) -> None:
    """Checks that the test part of each class factor has a value that the training part has too.

    A classifier cannot be scored otherwise, for example where each value has one distinct image.

    Args:
      columns: F columns [N].
      continuous: [F] bool; continuous factors are not checked.
      train: row numbers of the training part.
      test: row numbers of the test part.

    Raises:
      ValueError: the parts of a factor share no value.
    """
    for f, (column, is_continuous) in enumerate(zip(columns, np.asarray(continuous), strict=True)):
        if not is_continuous and not np.isin(column[test], column[train]).any():
            raise ValueError(
                f"no value of factor {f} is in both the training and the test part, as where each has one "
                "distinct image; where equal rows are different images, call "
                "metrics.compute with groups=numpy.arange(N)"
            )


def _image_groups(num_samples: int, groups: npt.ArrayLike | None) -> np.ndarray:
    """The image of each row, [N]: the groups, checked; by default each row is a different image."""
    if groups is None:
        return np.arange(num_samples)
    groups = np.asarray(groups)
    if groups.shape != (num_samples,) or groups.dtype.kind not in "iu":
        raise ValueError(f"groups must be {num_samples} integers, one per row, got {groups.dtype} {groups.shape}")
    return groups
