"""Factors of variation: index <-> factors in mixed radix, and uniform sampling from a key.

A data set whose factors have the sizes (s_0, ..., s_{F-1}) holds their product of images, numbered with the
last factor fastest. All functions are pure and jittable; `sizes` is a static tuple of ints. Values are
int32 throughout.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt


def _checked(sizes: Sequence[int]) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in sizes)
    if not sizes or min(sizes) < 1:
        raise ValueError(f"factor sizes must be one or more positive integers, got {sizes}")
    if math.prod(sizes) > np.iinfo(np.int32).max:
        raise ValueError(f"factor sizes {sizes} multiply to {math.prod(sizes)}, more than int32 can number")
    return sizes


def _strides(sizes: Sequence[int]) -> npt.NDArray[np.int32]:
    """How far the index moves when each factor moves by one: int32 [F], the last one 1."""
    return np.cumprod((1, *sizes[:0:-1]))[::-1].astype(np.int32)


def to_index(factors_NxF: npt.ArrayLike, sizes: Sequence[int]) -> jax.Array:
    """Numbers combinations of factor values.

    Args:
      factors_NxF: integers [..., F], factor j in 0 .. sizes[j] - 1. Values are not checked (they may be
        traced); one out of range gives the index of another combination, or of none.
      sizes: F positive integers whose product fits int32.

    Returns:
      int32 [...], in 0 .. prod(sizes) - 1.

    Raises:
      ValueError: the last axis is not F long, the values are not integers, or `sizes` is not usable.

    Example:
      >>> print(to_index([[0, 0, 0], [0, 0, 1], [1, 2, 3]], (2, 3, 4)))
      [ 0  1 23]
    """
    sizes = _checked(sizes)
    factors_NxF = jnp.asarray(factors_NxF)
    if factors_NxF.ndim == 0 or factors_NxF.shape[-1] != len(sizes):
        raise ValueError(f"factors for sizes {sizes} must be [..., {len(sizes)}], got {factors_NxF.shape}")
    if not jnp.issubdtype(factors_NxF.dtype, jnp.integer):
        raise ValueError(f"factors must be integers, got {factors_NxF.dtype}")
    return jnp.sum(factors_NxF.astype(jnp.int32) * _strides(sizes), axis=-1, dtype=jnp.int32)


def from_index(index_N: npt.ArrayLike, sizes: Sequence[int]) -> jax.Array:
    """Factor values of numbered combinations; the inverse of `to_index`.

    Args:
      index_N: integers [...], in 0 .. prod(sizes) - 1. Values are not checked (they may be traced); an
        index out of range wraps around, so the result is always a valid combination.
      sizes: F positive integers whose product fits int32.

    Returns:
      int32 [..., F].

    Raises:
      ValueError: the values are not integers, or `sizes` is not usable.

    Example:
      >>> print(from_index([0, 1, 23], (2, 3, 4)))
      [[0 0 0]
       [0 0 1]
       [1 2 3]]
    """
    sizes = _checked(sizes)
    index_N = jnp.asarray(index_N)
    if not jnp.issubdtype(index_N.dtype, jnp.integer):
        raise ValueError(f"indices must be integers, got {index_N.dtype}")
    return index_N.astype(jnp.int32)[..., None] // _strides(sizes) % np.asarray(sizes, np.int32)


def sample(key: jax.Array, sizes: Sequence[int]) -> jax.Array:
    """Draws one example's factors, each uniform and independent of the others.

    Args:
      key: one key. For a batch, `jax.vmap(lambda key: sample(key, sizes))(keys)`, so that an example's
        factors depend on its own key only.
      sizes: F positive integers whose product fits int32.

    Returns:
      int32 [F], factor j in 0 .. sizes[j] - 1.

    Raises:
      ValueError: `key` is a batch of keys, or `sizes` is not usable.
    """
    sizes = _checked(sizes)
    key = jnp.asarray(key)
    if key.ndim != (0 if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else 1):
        raise ValueError(f"sample takes one key (vmap it over a batch), got keys of shape {key.shape}")
    return jax.random.randint(key, (len(sizes),), 0, np.asarray(sizes, np.int32), jnp.int32)


def draw(seed: int, num_samples: int, sizes: Sequence[int]) -> npt.NDArray[np.int32]:
    """Draws the factors of many examples, uniform and independent.

    Args:
      seed: of the draw; equal seeds give equal factors.
      num_samples: N.
      sizes: F positive integers whose product fits int32.

    Returns:
      numpy int32 [N, F].

    Example:
      >>> factors_NxF = draw(0, 1_000, (2, 5))
      >>> factors_NxF.shape, factors_NxF.min(axis=0).tolist(), factors_NxF.max(axis=0).tolist()
      ((1000, 2), [0, 0], [1, 4])
    """
    keys = jax.random.split(jax.random.key(seed), num_samples)
    return np.asarray(jax.vmap(lambda key: sample(key, sizes))(keys))


def sweep(base_F: npt.ArrayLike, factor: int, sizes: Sequence[int]) -> npt.NDArray[np.int32]:
    """Varies one factor over all its values.

    Args:
      base_F: integers [F], the values of the other factors.
      factor: which one varies.
      sizes: F positive integers.

    Returns:
      numpy int32 [sizes[factor], F].

    Example:
      >>> sweep([1, 2, 3], 1, (2, 3, 4)).tolist()
      [[1, 0, 3], [1, 1, 3], [1, 2, 3]]
    """
    swept = np.tile(np.asarray(base_F, np.int32), (sizes[factor], 1))
    swept[:, factor] = np.arange(sizes[factor])
    return swept
