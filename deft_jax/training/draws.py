"""The random numbers of a training step, all from one call of a counter-based generator.

The words of example e are threefry-2x32 of the step's key at the counters (1, e), (2, e), ... They are a function of
(key of the step, index of the example in the whole batch), so they do not depend on how many devices share the batch.
jax.random.fold_in and split of the same key use counters with a first word of 0.

The rounds are written out instead of jax.random's loop: on a CPU that loop, run once per example and purpose, takes a
tenth of a step of the smallest models.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)
_ROUND_GROUPS = 5  # of four rounds each


class Draws(NamedTuple):
    """What a step draws for the B examples of a batch.

    Attributes:
      factors: int32 [B, F], uniform and independent.
      noise: float32 [B, D], standard normal.
      image_keys: keys [B], for what a source draws beyond the factors.
    """

    factors: jax.Array
    noise: jax.Array
    image_keys: jax.Array


def draw_batch(key: jax.Array, examples_B: jax.Array, factor_sizes: tuple[int, ...], num_latents: int) -> Draws:
    """Draws the factors, the noise and the keys of some examples of a step.

    Args:
      key: of the step.
      examples_B: their indices in the whole batch, integers [B].
      factor_sizes: F positive integers. A value of a factor of size s is a 32-bit word modulo s, so probabilities of
        values differ by s / 2**32 of themselves at most.
      num_latents: D.
    """
    sizes = np.asarray(factor_sizes, np.uint32)
    words_BxW = random_words(key, examples_B, 2 + len(sizes) + num_latents)
    image_BxT, factor_BxF, noise_BxD = jnp.split(words_BxW, (2, 2 + len(sizes)), axis=1)
    factors_BxF = (factor_BxF % sizes).astype(jnp.int32)
    return Draws(factors_BxF, _normal(noise_BxD), jax.random.wrap_key_data(image_BxT))


def random_words(key: jax.Array, examples_B: jax.Array, count: int) -> jax.Array:
    """Random words of some examples.

    Args:
      key: of the step and the purpose.
      examples_B: indices in the whole batch, integers [B].
      count: words of each example.

    Returns:
      uint32 [B, count], a function of key and example alone.
    """
    counters_1xP = np.arange(1, (count + 1) // 2 + 1, dtype=np.uint32)[None]
    pair = threefry_2x32(jax.random.key_data(key), counters_1xP, examples_B.astype(jnp.uint32)[:, None])
    return jnp.stack(pair, axis=-1).reshape(len(examples_B), -1)[:, :count]


def threefry_2x32(
    key: jax.Array, first: jax.typing.ArrayLike, second: jax.typing.ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """Threefry-2x32 with 20 rounds. Salmon et al. 2011, 'Parallel random numbers: as easy as 1, 2, 3'.

    Args:
      key: uint32 [2].
      first, second: both words of the counters, uint32 of shapes that broadcast.

    Returns:
      Both words of the result, uint32.
    """
    first, second = jnp.asarray(first, jnp.uint32), jnp.asarray(second, jnp.uint32)
    schedule = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
    x, y = first + schedule[0], second + schedule[1]
    for group in range(_ROUND_GROUPS):
        for rotation in _ROTATIONS[group % 2]:
            x = x + y
            y = (y << rotation | y >> (32 - rotation)) ^ x
        x = x + schedule[(group + 1) % 3]
        y = y + schedule[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


def _normal(words: jax.Array) -> jax.Array:
    """Standard normal numbers from uniform words, as jax.random.normal makes them: float32 of the same shape."""
    one_to_two = jax.lax.bitcast_convert_type(words >> 9 | np.uint32(0x3F800000), jnp.float32)
    least = np.nextafter(np.float32(-1), np.float32(0))
    uniform = jnp.maximum(least, (one_to_two - 1) * (1 - least) + least)
    return np.float32(np.sqrt(2)) * jax.lax.erf_inv(uniform)
