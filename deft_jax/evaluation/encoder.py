"""Posteriors of a source's images, given by their factors."""

import concurrent.futures
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from deft_jax.data import factors
from deft_jax.data.source import Source, render_each
from deft_jax.evaluation.scores import check_factors
from deft_jax.models.posterior import Posterior
from deft_jax.runtime.jax_settings import pinned
from deft_jax.runtime.parallel import cores

Params = Mapping[str, Any]
Encode = Callable[[Params, jax.Array, int], Posterior]
"""(params, images [N, H, W, C], stage) -> Posterior [N, D]."""

_CHUNK = 200  # images encoded at a time; on a CPU, 500 are twice as slow per image, as they exceed its cache


def draw_factors(source: Source, num_samples: int, seed: int) -> np.ndarray:
    """Factors of a sample of images; the same for the same seed.

    A set with no more than num_samples images is taken whole: each image once, in a random order. From a larger set
    the draws are uniform and independent, so an image may occur more than once.

    Args:
      source: the data set.
      num_samples: images to draw.
      seed: integer >= 0.

    Returns:
      int32 [N, F], N = min(num_samples, source.num_images).
    """
    if source.num_images > num_samples:
        return factors.draw(seed, num_samples, source.factor_sizes)
    # Not the stream of the bare seed: a metric may split the sample by a permutation of the same length and seed.
    index_N = np.random.default_rng((seed, source.num_images)).permutation(source.num_images)
    return np.stack(np.unravel_index(index_N, source.factor_sizes), axis=1).astype(np.int32)


class Encoder:
    """Posteriors of a source's images, given by their factors; one compiled program per stage."""

    def __init__(self, source: Source, encode: Encode, seed: int = 0):
        """Compiles nothing yet.

        Args:
          source: the data set.
          encode: (params, images, stage) -> Posterior.
          seed: of the randomness of images beyond their factors.
        """
        self._source, self._encode_images = source, encode
        self._key = jax.random.key(seed)
        self._encode = jax.jit(self._encode_chunk, static_argnums=0)

    def _encode_chunk(
        self, stage: int, params: Params, arrays: Any, factors_NxF: jax.Array, key: jax.Array
    ) -> Posterior:
        images = self._source.render(arrays, factors_NxF, key)
        return self._encode_images(params, images, stage)

    def __call__(self, params: Params, factors_NxF: np.ndarray, stage: int) -> Posterior:
        """The posterior with the groups up to a stage open.

        Args:
          params: of the encoders.
          factors_NxF: integers [N, F]; see scores.check_factors.
          stage: the last group that is open.

        Returns:
          A Posterior of numpy arrays [N, D].

        Raises:
          ValueError: the factors do not fit the source.
        """
        factors_NxF = check_factors(factors_NxF, self._source)
        parts = []
        for start in range(0, len(factors_NxF), _CHUNK):
            chunk = factors_NxF[start : start + _CHUNK]
            padded = np.resize(chunk, (_CHUNK, chunk.shape[1]))  # one shape, so one program
            key = jax.random.fold_in(self._key, start)
            parts.append(self._encode(stage, params, self._source.arrays, padded, key))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(factors_NxF)], *parts)


class PosteriorCache:
    """Posteriors of a source's images; each image is encoded once, when its posterior is first requested.

    The randomness of an image beyond its factors follows from its index only, not from the other images of a request.
    """

    def __init__(self, source: Source, encode: Encode, params: Params, stage: int, seed: int = 0):
        """Compiles nothing yet.

        Args:
          source: the data set.
          encode: (params, images, stage) -> Posterior.
          params: of the encoders.
          stage: the last group that is open.
          seed: of the randomness of images beyond their factors.
        """
        self._source, self._params = source, params
        # One compiled loop over small chunks: on a CPU nearly three times as fast per image as a dispatch per chunk.
        # The operations of so small a chunk do not fill the cores, so each core has a thread that runs the loop.
        on_cpu = jax.default_backend() == "cpu"
        self._chunk, self._threads = (32, len(cores())) if on_cpu else (1024, 1)
        self._chunks = min(128, -(-self._source.num_images // self._chunk))  # in one dispatch
        self._index = np.zeros(0, np.int64)  # of the cached images, sorted
        self._cached: Posterior | None = None  # in the order of the index

        def encode_chunk(params: Params, arrays: Any, index_N: jax.Array) -> Posterior:
            factors_NxF = factors.from_index(index_N, self._source.factor_sizes)
            keys_N = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), index_N)
            return encode(params, render_each(self._source, arrays, factors_NxF, keys_N), stage)

        self._run = jax.jit(lambda params, arrays, index_MxN: jax.lax.map(
            functools.partial(encode_chunk, params, arrays), index_MxN
        ))  # fmt: skip

    def __call__(self, factors_NxF: np.ndarray) -> Posterior:
        """The posterior of images; fastest with many at a time.

        Args:
          factors_NxF: integers [N, F]; see scores.check_factors.

        Returns:
          A Posterior of numpy arrays [N, D].

        Raises:
          ValueError: the factors do not fit the source.
        """
        index_N = np.ravel_multi_index(tuple(check_factors(factors_NxF, self._source).T), self._source.factor_sizes)
        new = np.setdiff1d(index_N, self._index)
        if len(new):
            parts = [self._encode(new)] if self._cached is None else [self._cached, self._encode(new)]
            index = np.concatenate([self._index, new])
            order = np.argsort(index)
            self._index = index[order]
            self._cached = jax.tree.map(lambda *leaves: np.concatenate(leaves)[order], *parts)
        rows = np.searchsorted(self._index, index_N)
        return jax.tree.map(lambda leaf: leaf[rows], self._cached)

    @property
    def num_encoded(self) -> int:
        """Images encoded so far."""
        return len(self._index)

    def _encode(self, index_N: np.ndarray) -> Posterior:
        """Posterior of images by number, in dispatches of one shape."""
        blocks = -(-len(index_N) // (self._chunks * self._chunk))
        padded = np.resize(index_N.astype(np.int32), (blocks, self._chunks, self._chunk))

        @pinned()
        def run(block: np.ndarray) -> Posterior:
            return jax.tree.map(np.asarray, self._run(self._params, self._source.arrays, block))

        with concurrent.futures.ThreadPoolExecutor(self._threads) as pool:
            parts = list(pool.map(run, padded))
        return jax.tree.map(lambda *leaves: np.stack(leaves).reshape(-1, leaves[0].shape[-1])[: len(index_N)], *parts)
