"""Posteriors of a source's images, given by their factors."""

import concurrent.futures
import functools
from collections.abc import Callable

import jax
import numpy as np

from deft_jax.data import factors
from deft_jax.data.source import Source
from deft_jax.evaluation.scores import check_factors
from deft_jax.models.posterior import Posterior
from deft_jax.runtime.jax_settings import pinned
from deft_jax.runtime.parallel import cores

_CHUNK = 200  # images encoded at a time; on a CPU, 500 are twice as slow an image, out of its cache


def draw_factors(source: Source, num_samples: int, seed: int) -> np.ndarray:
    """Factors of a sample of images; the same for the same seed.

    Args:
      source: the data set.
      num_samples: images to draw. A set with no more images is taken whole, each image once, in a random order: the
        sample then has source.num_images rows. From a larger set the draws are uniform and independent, so an image
        may occur more than once.
      seed: integer >= 0.

    Returns:
      int32 [N, F], N = min(num_samples, source.num_images).
    """
    if source.num_images > num_samples:
        return factors.draw(seed, num_samples, source.factor_sizes)
    # A stream of its own: a metric may split the sample by a permutation of the same length and seed.
    index_N = np.random.default_rng((seed, source.num_images)).permutation(source.num_images)
    return np.stack(np.unravel_index(index_N, source.factor_sizes), axis=1).astype(np.int32)


class Encoder:
    """Posteriors of examples given by their factors; one compiled program a stage."""

    def __init__(self, source: Source, encode: Callable, seed: int = 0):
        """source: the data set. encode: (params, images, stage) -> Posterior. seed: of the randomness that images hold
        beyond their factors, if they hold any."""
        self._source, self._encode_images = source, encode
        self._key = jax.random.key(seed)
        self._encode = jax.jit(self._encode_chunk, static_argnums=0)

    def _encode_chunk(self, stage, params, arrays, factors_NxF, key):
        images = self._source.render(arrays, factors_NxF, key)
        return self._encode_images(params, images, stage)

    def __call__(self, params, factors_NxF: np.ndarray, stage: int) -> Posterior:
        """Posterior of [N, D] numpy arrays with the groups up to `stage` open; for factors see `check_factors`."""
        factors_NxF = check_factors(factors_NxF, self._source)
        parts = []
        for start in range(0, len(factors_NxF), _CHUNK):
            chunk = factors_NxF[start : start + _CHUNK]
            padded = np.resize(chunk, (_CHUNK, chunk.shape[1]))  # one shape, so one program
            key = jax.random.fold_in(self._key, start)
            parts.append(self._encode(stage, params, self._source.arrays, padded, key))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(factors_NxF)], *parts)


class PosteriorCache:
    """Posteriors of a source's images, each encoded when it is first asked for and kept.

    What an image holds beyond its factors comes from its index alone, so that it has one look, with whichever others
    it is asked for.
    """

    def __init__(self, source: Source, encode: Callable, params, stage: int, seed: int = 0):
        """source: the data set. encode: (params, images, stage) -> Posterior. seed: of the randomness that images hold
        beyond their factors, if they hold any."""
        self._source, self._params = source, params
        # One compiled loop over small chunks: on a CPU nearly three times as fast an image as a dispatch a chunk. The
        # operations of so small a chunk do not fill the cores, so each core has a thread that runs the loop.
        on_cpu = jax.default_backend() == "cpu"
        self._chunk, self._threads = (32, len(cores())) if on_cpu else (1024, 1)
        self._chunks = min(128, -(-self._source.num_images // self._chunk))  # in one dispatch
        self._index, self._held = np.zeros(0, np.int64), None  # sorted; the posteriors in the same order

        def look(arrays, index):
            factors_1xF = factors.from_index(index[None], self._source.factor_sizes)
            return self._source.render(arrays, factors_1xF, jax.random.fold_in(jax.random.key(seed), index))[0]

        def encode_chunk(params, arrays, index_N):
            return encode(params, jax.vmap(look, (None, 0))(arrays, index_N), stage)

        self._run = jax.jit(lambda params, arrays, index_MxN: jax.lax.map(
            functools.partial(encode_chunk, params, arrays), index_MxN
        ))  # fmt: skip

    def __call__(self, factors_NxF: np.ndarray) -> Posterior:
        """Posterior of the images of these factors: numpy arrays [N, D]. Quickest with many at a time."""
        index_N = np.ravel_multi_index(tuple(check_factors(factors_NxF, self._source).T), self._source.factor_sizes)
        new = np.setdiff1d(index_N, self._index)
        if len(new):
            parts = [self._encode(new)] if self._held is None else [self._held, self._encode(new)]
            index = np.concatenate([self._index, new])
            order = np.argsort(index)
            self._index = index[order]
            self._held = jax.tree.map(lambda *leaves: np.concatenate(leaves)[order], *parts)
        rows = np.searchsorted(self._index, index_N)
        return jax.tree.map(lambda leaf: leaf[rows], self._held)

    @property
    def num_encoded(self) -> int:
        """Images encoded so far."""
        return len(self._index)

    def _encode(self, index_N):
        """Posterior of images by number, in dispatches of one shape."""
        blocks = -(-len(index_N) // (self._chunks * self._chunk))
        padded = np.resize(index_N.astype(np.int32), (blocks, self._chunks, self._chunk))

        @pinned()
        def run(block):
            return jax.tree.map(np.asarray, self._run(self._params, self._source.arrays, block))

        with concurrent.futures.ThreadPoolExecutor(self._threads) as pool:
            parts = list(pool.map(run, padded))
        return jax.tree.map(lambda *leaves: np.stack(leaves).reshape(-1, leaves[0].shape[-1])[: len(index_N)], *parts)
