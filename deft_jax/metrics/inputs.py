"""Checks of the arrays and numbers that metrics take, and their standard forms."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from deft_jax.data.labels import continuous_columns
from deft_jax.metrics import mutual_information
from deft_jax.runtime.validation import Count

NumBins = Annotated[Count, Field(le=100_000)]
"""Equal-width bins per latent, 1 to 100,000: tables have a row per bin."""
Continuous = Sequence[bool] | bool | None
"""Which factors are continuous: F booleans, False for none, or None to detect them (`continuous_columns`)."""


class Sample(NamedTuple):
    """A checked sample of N rows."""

    codes: np.ndarray
    """[N, D] float32 or float64."""
    columns: list[np.ndarray]
    """F columns [N]: int64 classes, or float64 numbers where the factor is continuous."""
    continuous: np.ndarray
    """[F] bool."""


def mixed_samples(
    codes: npt.ArrayLike, factors: npt.ArrayLike, continuous: Continuous, allow_constant: bool = False
) -> Sample:
    """Checks a sample whose factors are classes or continuous.

    Args:
      codes: [N, D] finite real numbers.
      factors: [N, F] integers >= 0; finite real numbers where continuous.
      continuous: see `Continuous`.
      allow_constant: whether a factor may have one value only.

    Raises:
      ValueError: a shape, a type or a value does not fit, or a factor is constant in the sample.
    """
    factors = labels = np.asarray(factors)
    continuous_F = None
    if continuous is None:
        continuous = _detect_continuous(factors)
    if factors.ndim == 2 and continuous is not False:
        continuous_F = np.asarray(continuous)
        _check_continuous(factors, continuous_F)
        labels = np.where(continuous_F, 0, factors).astype(np.int64)
    codes, labels = mutual_information.check_samples(codes, labels)
    if continuous_F is None:
        continuous_F = np.zeros(labels.shape[1], bool)
    columns = [factors[:, f].astype(np.float64) if continuous_F[f] else labels[:, f] for f in range(labels.shape[1])]
    for f, column in enumerate(columns):
        if not allow_constant and is_constant(column):
            raise ValueError(f"factor {f} is constant in the sample: leave it out")
    return Sample(codes, columns, continuous_F)


def is_constant(column: np.ndarray) -> bool:
    """Whether all entries of a non-empty column [N] are equal."""
    return bool((column == column[0]).all())


def finite_codes(codes: npt.ArrayLike, name: str = "codes") -> np.ndarray:
    """Codes [N, D] as an array.

    Raises:
      ValueError: the array is empty or not two-dimensional, or not all of its entries are finite real numbers.
    """
    codes = np.asarray(codes)
    if codes.ndim != 2 or 0 in codes.shape:
        raise ValueError(f"{name} must be a non-empty [N, D] array, got shape {codes.shape}")
    if codes.dtype.kind not in "fiub" or not np.isfinite(codes).all():
        raise ValueError(f"{name} must be finite real numbers")
    return codes


def distinct_rows(codes: npt.ArrayLike, factors: npt.ArrayLike) -> np.ndarray:
    """The image of each row where rows of equal codes and factors count as one image.

    Posterior means of one image are equal, so an image that was drawn twice has two equal rows. Different images with
    equal factors also count as one image if their codes are equal.

    Args:
      codes: [N, D] real numbers.
      factors: [N, F] real numbers.

    Returns:
      [N] integers, equal for equal rows.
    """
    rows = np.concatenate([np.asarray(codes, np.float64), np.asarray(factors, np.float64)], axis=1) + 0.0  # no -0.0
    # Comparing rows as bytes is several times as fast as comparing them number by number.
    as_bytes = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.itemsize * rows.shape[1])))
    return np.unique(as_bytes, return_inverse=True)[1].reshape(-1)


def standardise(values: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Columns with mean 0 and standard deviation 1 over the given rows; a column constant there is only shifted.

    Args:
      values: [N, ...] real numbers.
      rows: row numbers; default: all rows.
    """
    part = values[rows]
    scale = np.where(part.max(axis=0) > part.min(axis=0), part.std(axis=0), 1.0)
    return (values - part.mean(axis=0)) / scale


def check_at_least(numbers: Mapping[str, tuple[Any, int]]) -> None:
    """Checks that numbers are integers with a lower bound.

    Args:
      numbers: name -> (number, smallest value allowed).

    Raises:
      ValueError: a number is not an integer, or too small.
    """
    for name, (number, least) in numbers.items():
        if not isinstance(number, int | np.integer) or isinstance(number, bool) or number < least:
            raise ValueError(f"{name} must be an integer >= {least}, got {number!r}")


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Raises ValueError unless the value of the argument is one of the choices."""
    if value not in choices:
        *first, last = map(repr, choices)
        raise ValueError(f"{name} must be {', '.join(first)} or {last}, got {value!r}")


def check_seed(seed: Any) -> None:
    """Raises ValueError unless the seed is an integer in [0, 2**32), the range that scikit-learn takes."""
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be an integer in [0, 2**32), got {seed!r}")


def _detect_continuous(factors: np.ndarray) -> Any:
    """[F] bool; False where the array is unfit, so that the check of its shape and type reports it."""
    if factors.ndim != 2 or factors.dtype.kind not in "iuf" or not np.isfinite(factors).all():
        return False
    # A column of one value that is not an integer: the error then names the factor as constant.
    single_fraction = (factors == factors[:1]).all(axis=0) & (factors != np.floor(factors)).any(axis=0)
    return continuous_columns(factors) | single_fraction


def _check_continuous(factors: np.ndarray, continuous: np.ndarray) -> None:
    """Checks the values of factors [N, F] of which some are continuous."""
    if continuous.dtype != bool or continuous.shape != factors.shape[1:]:
        got = f"got {continuous.dtype} of shape {continuous.shape}"
        raise ValueError(f"continuous must be False or {factors.shape[1]} booleans, {got}")
    if factors.dtype.kind not in "iuf":
        raise ValueError(f"factors must be real numbers, got dtype {factors.dtype}")
    for wrong, what in (
        (~np.isfinite(factors), "finite"),
        ((factors != np.floor(factors)) & ~continuous, "integers where not declared continuous"),
    ):
        if wrong.any():
            row, f = np.argwhere(wrong)[0]
            raise ValueError(f"factors must be {what}, got {factors[row, f]} in row {row}, factor {f}")
