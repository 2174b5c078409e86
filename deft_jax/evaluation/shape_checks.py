"""Checks of the shapes of arrays that figures are drawn from."""

import numpy as np
from numpy.typing import ArrayLike


def as_array(name: str, values: ArrayLike, axes: str) -> np.ndarray:
    """A non-empty float array.

    Args:
      name: for the message.
      values: an array or nested sequence.
      axes: the expected axes, for example '[N, H, W, C]'.

    Returns:
      float64 with that many axes.

    Raises:
      ValueError: the number of axes is another, or one is of length 0.
    """
    array = np.asarray(values, float)
    if array.ndim != axes.count(",") + 1 or 0 in array.shape:
        raise ValueError(f"{name} must be a non-empty {axes} array, got shape {array.shape}")
    return array


def check_equal_counts(name: str, count: int, other_name: str, other_count: int) -> None:
    """Raises ValueError where two counts differ; the names are plurals, such as 'labels' and 'rows of images'."""
    if count != other_count:
        raise ValueError(f"{count} {name}, but {other_count} {other_name}")
