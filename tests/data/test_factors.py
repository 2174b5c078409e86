"""Laws of the factor algebra: index and factors are inverse, in the stated order, and sampling is uniform."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from deft_jax.data import factors

SIZES = (3, 1, 4, 2)
ALL = np.array(list(itertools.product(*map(range, SIZES))), np.int32)


def test_index_counts_combinations_with_the_last_factor_fastest():
    index = factors.to_index(ALL, SIZES)
    np.testing.assert_array_equal(index, np.arange(24))
    assert index.dtype == jnp.int32


def test_from_index_lists_the_combinations_in_order():
    values = factors.from_index(np.arange(24), SIZES)
    np.testing.assert_array_equal(values, ALL)
    assert values.dtype == jnp.int32


@pytest.mark.parametrize("sizes", [(1,), (7,), (2, 3), (10, 10, 10, 8, 4, 15), (2**31 - 1,), (46340, 46340)])
def test_roundtrip_at_random_indices_and_at_both_ends(sizes):
    count = int(np.prod(np.array(sizes, np.int64)))
    index = np.random.default_rng(0).integers(0, count, 500)
    index = np.concatenate([index, [0, count - 1]]).astype(np.int32)
    values = factors.from_index(index, sizes)
    assert np.all(values >= 0)
    assert np.all(np.asarray(values) < np.array(sizes))
    np.testing.assert_array_equal(factors.to_index(values, sizes), index)


def test_any_leading_axes():
    cube = ALL.reshape(2, 3, 4, 4)
    np.testing.assert_array_equal(factors.to_index(cube, SIZES), np.arange(24).reshape(2, 3, 4))
    assert factors.to_index(ALL[5], SIZES) == 5
    np.testing.assert_array_equal(factors.from_index(5, SIZES), ALL[5])


def test_uint8_factors_do_not_overflow():
    assert factors.to_index(np.array([200, 200], np.uint8), (256, 256)) == 200 * 256 + 200


def test_jit_and_vmap_agree_with_the_plain_call():
    np.testing.assert_array_equal(jax.jit(lambda f: factors.to_index(f, SIZES))(ALL), np.arange(24))
    np.testing.assert_array_equal(jax.vmap(lambda f: factors.to_index(f, SIZES))(ALL), np.arange(24))
    np.testing.assert_array_equal(jax.jit(lambda i: factors.from_index(i, SIZES))(np.arange(24)), ALL)


def test_sampling_is_uniform_over_combinations():
    # 23 degrees of freedom: chi-square exceeds 56 with probability 1e-4, and a draw that missed one of the 24
    # combinations would score over 1,000.
    count = 24_000
    keys = jax.random.split(jax.random.key(0), count)
    drawn = jax.vmap(lambda key: factors.sample(key, SIZES))(keys)
    assert drawn.shape == (count, 4)
    assert drawn.dtype == jnp.int32
    assert np.all(drawn >= 0)
    assert np.all(np.asarray(drawn) < np.array(SIZES))
    seen = np.bincount(np.asarray(factors.to_index(drawn, SIZES)), minlength=24)
    assert len(seen) == 24
    assert np.sum((seen - count / 24) ** 2) / (count / 24) < 56


def test_a_sample_depends_on_its_own_key_only():
    keys = jax.random.split(jax.random.key(1), 8)
    batch = jax.vmap(lambda key: factors.sample(key, (50, 60, 70)))(keys)
    alone = factors.sample(keys[5], (50, 60, 70))
    np.testing.assert_array_equal(batch[5], alone)
    assert len(np.unique(batch, axis=0)) == 8


def test_old_style_keys_are_taken_too():
    raw = jax.random.PRNGKey(3)
    np.testing.assert_array_equal(factors.sample(raw, SIZES), factors.sample(jax.random.key(3), SIZES))


@pytest.mark.parametrize(("call", "message"), [
    (lambda: factors.to_index(np.zeros((5, 3), np.int32), SIZES), r"must be \[\.\.\., 4\], got \(5, 3\)"),
    (lambda: factors.to_index(np.int32(0), SIZES), r"got \(\)"),
    (lambda: factors.to_index(np.zeros((5, 4), np.float32), SIZES), "must be integers, got float32"),
    (lambda: factors.from_index(np.zeros(3, np.float32), SIZES), "must be integers, got float32"),
    (lambda: factors.from_index(np.arange(3), ()), "positive integers"),
    (lambda: factors.from_index(np.arange(3), (3, 0)), "positive integers"),
    (lambda: factors.from_index(np.arange(3), (2**16, 2**16)), "more than int32 can number"),
    (lambda: factors.sample(jax.random.split(jax.random.key(0), 2), SIZES), "one key"),
    (lambda: factors.sample(jax.random.split(jax.random.PRNGKey(0), 2), SIZES), "one key"),
])
def test_unusable_input_is_named_in_one_line(call, message):
    with refused(message):
        call()
