"""Examples that are no images: vectors of F features, series of T steps with C channels, and their normalisation.

Within the package they are images of one row, [1, F, 1] and [1, T, C], so that everything that takes [N, H, W, C] takes
them. `Features` is what differs: which of the two they are, the names, and the way between the user's units and those
of the model.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deft_jax.runtime.messages import short_repr

RULES = ("standard", "common", "none")
LISTED = 5  # most features that a message names


@dataclasses.dataclass(frozen=True)
class Features:
    """Names and normalisation of vectors or series.

    Attributes:
      layout: 'vector' or 'series'.
      names: of the F features of a vector, or of the C channels of a series.
      rule: by which they are normalised, see `fit`.
      offset: subtracted from each feature or channel, in its own unit.
      scale: each is then divided by, in its own unit, above 0.

    Example:
      >>> features = fit(np.array([[1.0, 10.0], [3.0, 30.0]]), "standard", ("length", "weight"))
      >>> features.offset, features.scale
      ((2.0, 20.0), (1.0, 10.0))
      >>> features.normalise([[3.0, 10.0]]).shape, features.normalise([[3.0, 10.0]]).ravel().tolist()
      ((1, 1, 2, 1), [1.0, -1.0])
      >>> features.restore(features.normalise([[3.0, 10.0]])).tolist()
      [[3.0, 10.0]]
    """

    layout: str
    names: tuple[str, ...]
    rule: str
    offset: tuple[float, ...]
    scale: tuple[float, ...]

    @property
    def axes(self) -> str:
        """The axes of examples in the user's units, for messages."""
        return "[N, F]" if self.layout == "vector" else "[N, T, C]"

    @property
    def plural(self) -> str:
        """'vectors' or 'series'."""
        return "vectors" if self.layout == "vector" else "series"

    @property
    def drawn_unit(self) -> str:
        """How lines of these examples are drawn: vectors of many units in standard deviations, others as they are."""
        if self.layout == "vector" and self.rule == "standard":
            return "in standard deviations from the mean"
        return "in the units of the data"

    def for_lines(self, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Examples as the lines of a figure, in `drawn_unit`.

        Args:
          values: [..., F] or [..., T, C] in the units of the data.

        Returns:
          [..., S, C]: S steps, or features of vectors with C = 1.
        """
        lines = np.asarray(values, np.float64)
        if self.layout == "series":
            return lines
        if self.rule == "standard":
            lines = (lines - np.array(self.offset)) / np.array(self.scale)
        return lines[..., None]

    def normalise(self, values: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Examples as the model takes them.

        Args:
          values: numbers [N, F] or [N, T, C] in the units of the data.

        Returns:
          float32 [N, 1, F, 1] or [N, 1, T, C].
        """
        scaled = (np.asarray(values, np.float64) - np.array(self.offset)) / np.array(self.scale)
        return scaled.astype(np.float32)[:, None, :, None if self.layout == "vector" else slice(None)]

    def restore(self, images: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """The inverse of `normalise`.

        Args:
          images: [..., 1, F, 1] or [..., 1, T, C], in the units of the model.

        Returns:
          float32 [..., F] or [..., T, C], in the units of the data.
        """
        images = np.asarray(images, np.float64)
        values = images[..., 0, :, 0] if self.layout == "vector" else images[..., 0, :, :]
        return (values * np.array(self.scale) + np.array(self.offset)).astype(np.float32)

    def check(self, values: npt.ArrayLike, shape: Sequence[int], name: str) -> np.ndarray:
        """Numbers in the units of the data; raises ValueError where they do not fit.

        Args:
          values: what was given.
          shape: of one example as the model takes it, (1, F, 1) or (1, T, C).
          name: what the values are called in messages.
        """
        array = np.asarray(values)
        wanted = (shape[1],) if self.layout == "vector" else (shape[1], shape[2])
        if array.ndim != len(wanted) + 1 or array.shape[1:] != wanted:
            raise ValueError(f"{name} must be [N, {', '.join(map(str, wanted))}], got {list(array.shape)}")
        return check_finite(array, self.names, name)


def from_json(values: dict[str, Any] | None) -> Features | None:
    """Features from a JSON object with the fields of the class; None of None."""
    if values is None:
        return None
    fields: dict[str, Any] = {
        name: tuple(entry) if isinstance(entry, list) else entry for name, entry in values.items()
    }
    return Features(**fields)


def check_finite(values: np.ndarray, names: Sequence[str], name: str) -> np.ndarray:
    """The values, if they are finite real numbers; raises ValueError that names the features and rows that are not.

    Args:
      values: [N, F] or [N, T, C].
      names: of the last axis.
      name: what the values are called in messages.
    """
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be real numbers, got dtype {values.dtype}")
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return values
    bad = ~np.isfinite(values)
    per_feature = np.count_nonzero(bad, axis=tuple(range(values.ndim - 1)))
    columns = [f"{feature!r} in {count}" for feature, count in zip(names, per_feature, strict=True) if count]
    first = ", ".join(map(str, np.argwhere(bad)[0]))
    raise ValueError(f"{name} must be finite numbers; NaN or infinite: {listed(columns)} places, first at [{first}]")


def listed(entries: Sequence[str]) -> str:
    """The first entries, and how many more there are."""
    more = f" and {len(entries) - LISTED} more" if len(entries) > LISTED else ""
    return ", ".join(entries[:LISTED]) + more


def fit(values: np.ndarray, rule: str, names: Sequence[str], keep_constant: bool = False) -> Features:
    """The normalisation of a data set.

    Args:
      values: finite numbers [N, F] or [N, T, C].
      rule: 'standard' subtracts the mean of each feature (of each channel over all steps) and divides by its standard
        deviation; 'common' subtracts the mean and divides all by one number, the root of the mean variance, for
        features of one unit such as pixels; 'none' leaves them as they are.
      names: F or C names.
      keep_constant: whether a feature of one value stays, always 0 under 'standard'; otherwise it is refused.

    Returns:
      Features.

    Raises:
      ValueError: the rule is unknown, or features are constant.

    Example:
      >>> fit(np.array([[0.0, 0.0], [8.0, 6.0]]), "common", ("a", "b")).scale
      (3.5355339059327378, 3.5355339059327378)
    """
    if rule not in RULES:
        raise ValueError(f"data.normalise must be one of {', '.join(RULES)}, got {short_repr(rule)}")
    axes = tuple(range(values.ndim - 1))
    lowest, highest = values.min(axis=axes), values.max(axis=axes)
    constant = [name for name, is_constant in zip(names, lowest == highest, strict=True) if is_constant]
    if constant and (not keep_constant or len(constant) == len(names)):
        way_out = "" if len(constant) == len(names) else "; leave them out, or keep them by data.constant=keep"
        count = f"{len(constant)} of {len(names)} features have" if len(constant) > 1 else "a feature has"
        raise ValueError(f"{count} one value in all examples: {listed(constant)}{way_out}")
    with np.errstate(over="ignore", invalid="ignore"):
        mean, variance = values.mean(axis=axes, dtype=np.float64), values.var(axis=axes, dtype=np.float64)
    if not np.isfinite(variance).all():
        large = [name for name, is_finite in zip(names, np.isfinite(variance), strict=True) if not is_finite]
        raise ValueError(f"features are too large to have a variance: {listed(large)}")
    if rule == "none":
        offset, scale = np.zeros(len(names)), np.ones(len(names))
    elif rule == "common":
        offset, scale = mean, np.full(len(names), np.sqrt(variance.mean()))
    else:
        offset, scale = mean, np.sqrt(variance)
    scale = np.where(lowest == highest, 1.0 if rule == "standard" else scale, scale)
    offset = np.where((lowest == highest) & (rule != "none"), lowest, offset)
    layout = "vector" if values.ndim == 2 else "series"
    return Features(layout, tuple(names), rule, tuple(offset.tolist()), tuple(scale.tolist()))
