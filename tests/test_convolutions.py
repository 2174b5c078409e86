"""The convolutions obey the law of lax.conv_general_dilated and lax.conv_transpose, forward and backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from deft_jax import convolutions

LAYOUT = ("CHWN", "HWIO", "CHWN")
METHODS = convolutions.METHODS


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def reference_down(x, kernel, bias, relu):
    y = lax.conv_general_dilated(x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=LAYOUT)
    y = y + bias[:, None, None, None]
    return jax.nn.relu(y) if relu else y


def reference_up(x, kernel, bias, relu):
    y = lax.conv_transpose(x, kernel, (2, 2), "SAME", dimension_numbers=LAYOUT, transpose_kernel=True)
    y = y + bias[:, None, None, None]
    return jax.nn.relu(y) if relu else y


def reference_dense(x, kernel, bias, relu):
    y = kernel.T @ x + bias[:, None]
    return jax.nn.relu(y) if relu else y


def arguments(direction, big, small, batch=5, height=8, width=12):
    """x, kernel, bias of one layer between `big` channels at full and `small` channels at half resolution."""
    kernel = normal(1, 4, 4, big, small)
    if direction == "down":
        return normal(0, big, height, width, batch), kernel, normal(2, small)
    return normal(0, small, height // 2, width // 2, batch), kernel, normal(2, big)


def value_and_gradients(layer, args):
    """The output, and the gradients of a random linear functional of it with respect to every argument."""
    y, backward = jax.vjp(layer, *args)
    return y, backward(normal(3, *y.shape))


def assert_close(got, want):
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-4), got, want)


LAYERS = {
    "down": (convolutions.conv_down, reference_down),
    "up": (convolutions.conv_up, reference_up),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize(("big", "small"), [(1, 8), (3, 32), (3, 2), (8, 8), (8, 1)])
@pytest.mark.parametrize("direction", ["down", "up"])
def test_equals_lax_in_value_and_gradients(direction, big, small, relu, method):
    layer, reference = LAYERS[direction]
    args = arguments(direction, big, small)
    got = jax.jit(lambda *a: value_and_gradients(lambda *b: layer(*b, relu=relu, method=method), a))(*args)
    want = jax.jit(lambda *a: value_and_gradients(lambda *b: reference(*b, relu), a))(*args)
    assert_close(got, want)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("direction", ["down", "up"])
def test_defaults_and_vmap(direction, method):
    layer, _ = LAYERS[direction]
    args = jax.tree.map(lambda a: jnp.stack([a, 2 * a, a**2]), arguments(direction, 3, 16))
    one = lambda *a: value_and_gradients(lambda *b: layer(*b, relu=True, method=method), a)  # noqa: E731
    want = jax.tree.map(lambda *rows: jnp.stack(rows), *[one(*(a[i] for a in args)) for i in range(3)])
    assert_close(jax.jit(jax.vmap(one))(*args), want)
