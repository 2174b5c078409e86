"""The convolutions obey the law of lax.conv_general_dilated and lax.conv_transpose, forward and backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from deft_jax.models.convolutions import conv_down, conv_up, dense

LAYOUT = ("CHWN", "HWIO", "CHWN")


def lax_down(x, kernel):
    return lax.conv_general_dilated(x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=LAYOUT)


def lax_up(x, kernel):
    return lax.conv_transpose(x, kernel, (2, 2), "SAME", dimension_numbers=LAYOUT, transpose_kernel=True)


LAYERS = {"down": (conv_down, lax_down), "up": (conv_up, lax_up)}


def arguments(direction, big, small, lead=(), height=4, width=6, batch=3):
    """x, kernel and bias between a small image of `small` channels and a `big` one of twice its size."""
    random = np.random.default_rng(0)
    shape = (big, 2 * height, 2 * width, batch) if direction == "down" else (small, height, width, batch)
    shapes = (shape, (4, 4, big, small), (small if direction == "down" else big,))
    return [jnp.asarray(random.standard_normal(lead + s), jnp.float32) for s in shapes]


def value_and_gradients(layer, args):
    """The output, and the gradients of a fixed functional of it with respect to every argument."""
    y, backward = jax.vjp(layer, *args)
    return y, backward(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))


def assert_close(got, want):
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-5 * float(jnp.abs(w).max()))


def assert_obeys_law(direction, args, relu, method=None):
    layer, law = LAYERS[direction]

    def reference(x, kernel, bias):
        y = law(x, kernel) + bias[:, None, None, None]
        return jax.nn.relu(y) if relu else y

    def both(args):
        got = value_and_gradients(lambda *a: layer(*a, relu=relu, method=method), args)
        return got, value_and_gradients(reference, args)

    assert_close(*jax.jit(both)(args))


@pytest.mark.parametrize(("big", "small", "relu"), [(1, 8, True), (3, 2, False), (16, 24, True)])
@pytest.mark.parametrize("direction", ["down", "up"])
def test_matmul_equals_lax_in_value_and_gradients(direction, big, small, relu):
    assert_obeys_law(direction, arguments(direction, big, small), relu, "matmul")


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 4)])
@pytest.mark.parametrize("direction", ["down", "up"])
def test_any_size_of_image(direction, height, width):
    assert_obeys_law(direction, arguments(direction, 16, 16, (), height, width), True, "matmul")


@pytest.mark.parametrize("method", ["lax", None])
@pytest.mark.parametrize("direction", ["down", "up"])
def test_other_methods(direction, method):
    assert_obeys_law(direction, arguments(direction, 3, 4), True, method)


@pytest.mark.parametrize(("big", "small"), [(1, 8), (4, 4)])
@pytest.mark.parametrize("direction", ["down", "up"])
def test_vmap_equals_one_at_a_time(direction, big, small):
    args = arguments(direction, big, small, lead=(2,))
    layer, _ = LAYERS[direction]

    def one(method):
        return lambda args: value_and_gradients(lambda *a: layer(*a, relu=True, method=method), args)

    rows = [jax.jit(one("lax"))([a[i] for a in args]) for i in range(2)]
    assert_close(jax.jit(jax.vmap(one("matmul")))(args), jax.tree.map(lambda *r: jnp.stack(r), *rows))


@pytest.mark.parametrize("relu", [True, False])
def test_dense(relu):
    random = np.random.default_rng(0)
    args = [jnp.asarray(random.standard_normal(s), jnp.float32) for s in [(5, 3), (5, 7), (7,)]]

    def reference(x, kernel, bias):
        y = kernel.T @ x + bias[:, None]
        return jax.nn.relu(y) if relu else y

    got = value_and_gradients(lambda *a: dense(*a, relu=relu), args)
    assert_close(got, value_and_gradients(reference, args))


@pytest.mark.parametrize("layer", [conv_down, conv_up])
def test_errors_before_anything_runs(layer):
    x, kernel, bias = jnp.zeros((4, 8, 8, 2)), jnp.zeros((4, 4, 4, 4)), jnp.zeros(4)
    with pytest.raises(ValueError, match="'winograd'; known: matmul, lax, or None"):
        layer(x, kernel, bias, relu=True, method="winograd")
    with pytest.raises(ValueError, match="do not fit the kernel"):
        layer(x[:3], kernel, bias, relu=True)


def test_odd_image_is_refused():
    with pytest.raises(ValueError, match="even height and width, got 7 x 8"):
        conv_down(jnp.zeros((1, 7, 8, 2)), jnp.zeros((4, 4, 1, 4)), jnp.zeros(4), relu=True)
