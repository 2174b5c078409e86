"""Part of a data set: factors held at one value, or restricted to some of their values."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from deft_jax.data.source import Source

# Words for values of factors, where the field has them.
WORDS = {"shape": ("square", "ellipse", "heart")}


def _indices(name, size, wanted):
    """What is wanted of one factor -> its values, int32 [n]; a single value means that it is held there."""
    words = WORDS.get(name, ())[:size]
    allowed = f"0 to {size - 1}" + (f", or {', '.join(words)}" if len(words) == size else "")
    if isinstance(wanted, str) and ":" in wanted:
        try:
            wanted = range(size)[slice(*(int(part) if part else None for part in wanted.split(":")))]
        except ValueError:
            raise ValueError(f"{name} = {wanted!r} is no range; write start:stop or start:stop:step") from None
    given = wanted if isinstance(wanted, (tuple, list, range)) else (wanted,)
    found = []
    for value in given:
        if isinstance(value, str) and value in words:
            value = words.index(value)
        if isinstance(value, str) and value.isdigit():
            value = int(value)
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not 0 <= value < size:
            raise ValueError(f"{name} has no value {value!r}; allowed: {allowed}")
        found.append(int(value))
    if not found or len(set(found)) != len(found):
        raise ValueError(f"{name} must be given at least one value, each once, got {wanted!r}; allowed: {allowed}")
    return np.array(found, np.int32)


def subset(source: Source, only: Mapping) -> Source:
    """The part of a set in which some factors take some of their values only.

    Args:
      source: a set that holds every combination of its factors.
      only: factor name -> one value, which holds the factor there and takes it off the list of factors; or several of
        them, as a sequence or as text 'start:stop:step', which are renumbered 0, 1, ... in that order. Values are
        numbers from 0, or words where the factor has them (shape: square, ellipse, heart).

    Returns:
      A Source that draws the very images of `source`.

    Raises:
      ValueError: a factor or a value is unknown, the set is a list of images, or no factor is left.
    """
    if not source.is_grid:
        raise ValueError("a list of images has no factors that could be held; leave out 'only'")
    unknown = [name for name in only if name not in source.factor_names]
    if unknown:
        raise ValueError(f"no factor {unknown[0]!r} to hold; known: {', '.join(source.factor_names)}")
    kept, tables, columns = [], [], []
    for column, (name, size) in enumerate(zip(source.factor_names, source.factor_sizes, strict=True)):
        values = _indices(name, size, only[name]) if name in only else np.arange(size, dtype=np.int32)
        tables.append(values)
        if name not in only or isinstance(only[name], (tuple, list, range)) or ":" in str(only[name]):
            kept.append(name)
            columns.append(column)
    if not kept:
        raise ValueError("all factors are held, so there is one image; leave one free")

    def whole(factors_NxF):
        """The factors that `source.render` takes."""
        free = {column: factors_NxF[:, place] for place, column in enumerate(columns)}
        zero = jnp.zeros(len(factors_NxF), jnp.int32)
        return jnp.stack([jnp.asarray(table)[free.get(column, zero)] for column, table in enumerate(tables)], axis=1)

    def render(arrays, factors_NxF, key):
        return source.render(arrays, whole(factors_NxF), key)

    sizes = tuple(len(tables[column]) for column in columns)
    return dataclasses.replace(source, factor_names=tuple(kept), factor_sizes=sizes, render=render)
