"""Part of a data set: factors fixed at one value, or restricted to some of their values."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from deft_jax.data.source import Source

# Words for the values of a factor, in the order of the values.
WORDS = {"shape": ("square", "ellipse", "heart")}


def _values(name: str, size: int, wanted: Any) -> npt.NDArray[np.int32]:
    """The wanted values of one factor, int32 [n]; raises ValueError where one is unknown or repeated."""
    words = WORDS.get(name, ())[:size]
    allowed = f"0 to {size - 1}" + (f", or {', '.join(words)}" if len(words) == size else "")
    if isinstance(wanted, str) and ":" in wanted:
        try:
            wanted = range(size)[slice(*(int(part) if part else None for part in wanted.split(":")))]
        except ValueError:
            raise ValueError(f"{name} = {wanted!r} is no range; write start:stop or start:stop:step") from None
    values: list[int] = []
    for value in wanted if isinstance(wanted, (tuple, list, range)) else (wanted,):
        if isinstance(value, str) and value in words:
            value = words.index(value)
        if isinstance(value, str) and value.isdigit():
            value = int(value)
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not 0 <= value < size:
            raise ValueError(f"{name} has no value {value!r}; allowed: {allowed}")
        values.append(int(value))
    if not values or len(set(values)) != len(values):
        raise ValueError(f"{name} must be given at least one value, each once, got {wanted!r}; allowed: {allowed}")
    return np.array(values, np.int32)


def subset(source: Source, only: Mapping[str, Any]) -> Source:
    """The part of a set in which some factors take some of their values only.

    Args:
      source: a grid, a set with every combination of its factors.
      only: factor name -> one value, which fixes the factor and removes it from the list of factors; or several values,
        as a sequence or as text 'start:stop:step', which are renumbered 0, 1, ... in that order. Values are numbers
        from 0, or words where the factor has them (shape: square, ellipse, heart).

    Returns:
      A Source with the same images as `source`.

    Raises:
      ValueError: a factor or a value is unknown, the set is a list of images, or no factor is left.

    Example:
      >>> from deft_jax.data.toy import translation
      >>> row = subset(translation(), {"posY": 4, "posX": "0:22:2"})
      >>> row.factor_names, row.factor_sizes
      (('posX',), (11,))
    """
    if not source.is_grid:
        raise ValueError("a list of images has no factors that could be held; leave out 'only'")
    unknown = [name for name in only if name not in source.factor_names]
    if unknown:
        raise ValueError(f"no factor {unknown[0]!r} to hold; known: {', '.join(source.factor_names)}")
    free_names, free_columns, tables = [], [], []
    for column, (name, size) in enumerate(zip(source.factor_names, source.factor_sizes, strict=True)):
        tables.append(_values(name, size, only[name]) if name in only else np.arange(size, dtype=np.int32))
        if name not in only or isinstance(only[name], (tuple, list, range)) or ":" in str(only[name]):
            free_names.append(name)
            free_columns.append(column)
    if not free_names:
        raise ValueError("all factors are held, so there is one image; leave one free")

    def all_factors(factors_NxF: jax.Array) -> jax.Array:
        """The factors of `source` from those that are free."""
        free = {column: factors_NxF[:, place] for place, column in enumerate(free_columns)}
        zero = jnp.zeros(len(factors_NxF), jnp.int32)
        return jnp.stack([jnp.asarray(table)[free.get(column, zero)] for column, table in enumerate(tables)], axis=1)

    def render(arrays: Any, factors_NxF: jax.Array, key: jax.Array) -> jax.Array:
        return source.render(arrays, all_factors(factors_NxF), key)

    sizes = tuple(len(tables[column]) for column in free_columns)
    return dataclasses.replace(source, factor_names=tuple(free_names), factor_sizes=sizes, render=render)
