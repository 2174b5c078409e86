"""Images of a batch are those of its examples one at a time, however the batch is compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deft_jax.data.source import Source, render_each

LEVELS = jnp.array([0.25, 0.5, 0.75])
FACTORS = jnp.array([[0, 1], [2, 0], [1, 1], [2, 1]], jnp.int32)
KEYS = jax.random.split(jax.random.key(0), len(FACTORS))


def draw(arrays, factors_NxF, key):
    """Pixels of one level, some of them inverted at random."""
    keys_N = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(factors_NxF)))
    inverted = jax.vmap(lambda key: jax.random.bernoulli(key, shape=(1, 3, 2)))(keys_N)
    level = arrays[factors_NxF[:, 0]][:, None, None, None]
    return jnp.where(inverted, 1 - level, level)


def threshold(arrays, factors_NxF, key):
    """Images that are not float32."""
    return draw(arrays, factors_NxF, key) > 0.5


def mapped(function, over):
    """A function of (factors, keys) as one of a batch of batches, of which it takes the first."""
    return lambda factors, keys: over(function)(factors[None], keys[None])[0]


WAYS = {
    "op by op": lambda function: function,
    "jit": jax.jit,
    "vmap": lambda function: jax.jit(mapped(function, jax.vmap)),
    "pmap": lambda function: mapped(function, jax.pmap),
    "loop": lambda function: mapped(function, lambda f: lambda *batches: jax.lax.map(lambda batch: f(*batch), batches)),
}


@pytest.mark.parametrize("render", [draw, threshold])
@pytest.mark.parametrize("way", WAYS)
def test_images_of_a_batch_are_those_of_its_examples_alone(render, way):
    source = Source(("level", "other"), (3, 2), (1, 3, 2), "bernoulli", LEVELS, render)
    pairs = zip(FACTORS, KEYS, strict=True)
    expected = jnp.concatenate([render(LEVELS, factors[None], key) for factors, key in pairs])
    assert len(np.unique(expected, axis=0)) == len(FACTORS), "the keys make no difference"
    found = WAYS[way](lambda factors, keys: render_each(source, LEVELS, factors, keys))(FACTORS, KEYS)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_a_batch_is_differentiated_like_its_examples():
    source = Source(("level", "other"), (3, 2), (1, 3, 2), "bernoulli", LEVELS, draw)

    def total(levels, factors, keys):
        return jnp.sum(jnp.arange(24.0).reshape(4, 1, 3, 2) * render_each(source, levels, factors, keys))

    def of_examples(levels):
        images = [draw(levels, factors[None], key) for factors, key in zip(FACTORS, KEYS, strict=True)]
        return jnp.sum(jnp.arange(24.0).reshape(4, 1, 3, 2) * jnp.concatenate(images))

    expected = jax.grad(of_examples)(LEVELS)
    np.testing.assert_allclose(jax.jit(jax.grad(total))(LEVELS, FACTORS, KEYS), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(total))(LEVELS, FACTORS, KEYS), expected, rtol=1e-6)
