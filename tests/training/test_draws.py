"""The random numbers of a step: threefry of counters, uniform factors, normal noise, each example on its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32 as reference
from scipy import stats

from deft_jax.training.draws import draw_batch, threefry_2x32

KEY, SIZES = jax.random.key(3), (3, 1, 40, 7)


def test_the_generator_is_that_of_jax():
    counters = np.random.default_rng(0).integers(2**32, size=(2, 50), dtype=np.uint32)
    data = jax.random.key_data(KEY)
    ours = jax.jit(threefry_2x32)(data, *counters)
    np.testing.assert_array_equal(np.concatenate(ours), reference(data, counters.ravel()))


def test_fold_in_and_split_use_other_counters():
    data = jax.random.key_data(KEY)
    folded = jax.random.key_data(jax.vmap(jax.random.fold_in, (None, 0))(KEY, jnp.arange(5)))
    zeros = threefry_2x32(data, np.zeros(5, np.uint32), np.arange(5, dtype=np.uint32))
    np.testing.assert_array_equal(folded, np.stack(zeros, axis=1))
    split = jax.random.key_data(jax.random.split(KEY, 5))
    np.testing.assert_array_equal(split, folded)


@pytest.mark.parametrize("latents", [0, 3, 4])
def test_examples_depend_on_their_index_only(latents):
    whole = draw_batch(KEY, jnp.arange(12), SIZES, latents)
    part = draw_batch(KEY, jnp.array([9, 4]), SIZES, latents)
    for all_leaf, leaf in zip(jax.tree.leaves(whole), jax.tree.leaves(part), strict=True):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            all_leaf, leaf = jax.random.key_data(all_leaf), jax.random.key_data(leaf)
        np.testing.assert_array_equal(np.asarray(all_leaf)[[9, 4]], leaf)
    assert whole.noise.shape == (12, latents)


def test_other_steps_have_other_numbers():
    first, second = (draw_batch(jax.random.fold_in(KEY, step), jnp.arange(64), SIZES, 2) for step in (0, 1))
    assert not np.isin(first.noise, second.noise).any()
    assert (first.factors != second.factors).any()


def test_factors_are_uniform_and_independent_and_the_noise_is_normal():
    draws = jax.jit(draw_batch, static_argnums=(2, 3))(KEY, jnp.arange(50_000), SIZES, 3)
    for column, size in zip(np.asarray(draws.factors).T, SIZES, strict=True):
        counts = np.bincount(column, minlength=size)
        assert len(counts) == size
        assert size == 1 or stats.chisquare(counts).pvalue > 1e-4
    table = np.histogram2d(*np.asarray(draws.factors)[:, [0, 2]].T, bins=(3, 40))[0]
    assert stats.chi2_contingency(table).pvalue > 1e-4
    noise = np.asarray(draws.noise)
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-4
    np.testing.assert_allclose(np.cov(noise.T), np.eye(3), atol=0.03)
    keys = np.asarray(jax.random.key_data(draws.image_keys))
    assert len(np.unique(keys, axis=0)) == len(keys)
