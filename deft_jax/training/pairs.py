"""Factors of pairs of images that differ in few of them, for objectives with `pairs` (objectives/base.py)."""

import jax
import jax.numpy as jnp
import numpy as np

from deft_jax.data.source import Source
from deft_jax.objectives.base import Objective
from deft_jax.training.draws import random_words


def pair_factors(
    key: jax.Array,
    factors_BxF: jax.Array,
    examples_B: jax.Array,
    factor_sizes: tuple[int, ...],
    changed_factors: int | None,
) -> jax.Array:
    """Makes examples 2 i and 2 i + 1 a pair: the second is the first one with some factors changed.

    Which factors change is uniform over the sets of their number; a changed factor is uniform over its other values.

    Args:
      key: of the step, for this purpose only.
      factors_BxF: uniform and independent, integers [B, F]; B is even.
      examples_B: indices in the whole batch, integers [B], from an even one on.
      factor_sizes: F positive integers; factors of size 1 cannot change.
      changed_factors: how many change, at most those of more than one value; None: a number between 1 and all but one
        of these (1 if there is only one), uniform.

    Returns:
      int32 [B, F], in which the even examples are as before.
    """
    sizes = np.asarray(factor_sizes)
    varying = int(np.sum(sizes > 1))
    words_PxW = random_words(key, examples_B[::2] // 2, 2 * len(sizes) + 1)
    order_PxF, shift_PxF, number_P = words_PxW[:, : len(sizes)], words_PxW[:, len(sizes) : -1], words_PxW[:, -1]
    order_PxF = jnp.where(sizes > 1, order_PxF >> 1, np.uint32(2**32 - 1))  # constant factors come last
    rank_PxF = jnp.argsort(jnp.argsort(order_PxF, axis=1), axis=1)
    if changed_factors is None:
        changed = 1 + (number_P % np.uint32(max(varying - 1, 1))).astype(jnp.int32)[:, None]
    else:
        changed = jnp.int32(changed_factors)
    first_PxF = factors_BxF[::2]
    shift = 1 + (shift_PxF % np.maximum(sizes - 1, 1).astype(np.uint32)).astype(jnp.int32)
    second_PxF = jnp.where(rank_PxF < changed, (first_PxF + shift) % sizes, first_PxF)
    return jnp.stack([first_PxF, second_PxF], axis=1).reshape(factors_BxF.shape).astype(jnp.int32)


def check_pairs(objective: Objective, source: Source) -> list[str]:
    """What hinders an objective that trains on pairs, a line per fault; none for other objectives.

    Args:
      objective: with `pairs`, if it trains on pairs.
      source: the data set; a grid of factors.
    """
    if objective.pairs is None:
        return []
    varying = [name for name, size in zip(source.factor_names, source.factor_sizes, strict=True) if size > 1]
    if not source.is_grid:
        return ["objective.name trains on pairs of images that share factors; data.name must be a set with an image of "
                "any combination of factors, got a list of images"]
    if len(varying) < 2:
        return [f"objective.name trains on pairs of images that share factors; data.name must have two factors or more "
                f"with more than one value, got {', '.join(varying) or 'none'}"]
    if (objective.pairs.changed_factors or 1) >= len(varying):
        return [f"objective.changed_factors must be below the number of factors that vary, {len(varying)} "
                f"({', '.join(varying)}), got {objective.pairs.changed_factors}"]
    return []
