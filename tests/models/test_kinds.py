"""Models of images of any size, of vectors and of series: laws that hold for each kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from deft_jax.models import kinds, layers, networks

SIZES = {"latents": 3, "groups": (2, 1), "width": 3, "hidden": 5, "decoder_width": 3, "decoder_hidden": 5}
CASES = {
    "conv": ((13, 10, 2), {"layers": 3}),
    "mlp": ((1, 7, 1), {"layout": "vector"}),
    "mlp of images": ((3, 4, 2), {"kind": "mlp"}),
    "conv1d": ((1, 11, 2), {"layout": "series"}),
}


@pytest.fixture(scope="module", params=CASES, ids=str)
def built(request):
    """A model, parameters drawn so that every layer matters, and examples."""
    shape, options = CASES[request.param]
    model = networks.build(shape, **SIZES, **options)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    params = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(0, leaf.shape[-1] ** -0.5, leaf.shape), jnp.float32), shapes)  # fmt: skip
    return model, params, jnp.asarray(rng.normal(size=(4, *shape)), jnp.float32)


def test_codes_and_outputs_have_their_shapes_and_closed_groups_are_the_prior(built):
    model, params, x = built
    posterior = jax.jit(model.encode, static_argnums=2)(params, x, 0)
    assert posterior.mean.shape == posterior.logvar.shape == (4, 3)
    assert np.all(np.ptp(posterior.mean[:, :2], axis=0) > 1e-3)
    assert not np.any(posterior.mean[:, 2])
    assert not np.any(posterior.logvar[:, 2])
    assert jax.jit(model.decode)(params, posterior.mean).shape == x.shape


def test_codes_follow_every_number_of_an_example_and_every_output_follows_the_codes(built):
    model, params, x = built
    slopes = jax.jit(jax.grad(lambda x: jnp.sum(model.encode(params, x, 1).mean ** 2)))(x)
    assert np.all(np.any(slopes != 0, axis=0))
    decoded = jax.jit(model.decode)(params, 3 * jax.random.normal(jax.random.key(0), (16, 3)))
    assert np.all(np.ptp(decoded, axis=0) > 0)


def test_a_rotation_of_latents_rotates_the_means_and_leaves_what_they_decode_to(built):
    model, params, x = built
    turn = jnp.array([[0.6, -0.8], [0.8, 0.6]])
    rotated = model.rotate_latents(params, 0, turn)
    encode, decode = jax.jit(model.encode, static_argnums=2), jax.jit(model.decode)
    before, after = encode(params, x, 1).mean, encode(rotated, x, 1).mean
    np.testing.assert_allclose(after[:, :2], before[:, :2] @ turn.T, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(after[:, 2:], before[:, 2:], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(decode(rotated, after), decode(params, before), rtol=1e-4, atol=1e-5)


def test_convolutions_along_time_are_those_of_lax_and_adjoint_to_each_other():
    rng = np.random.default_rng(1)
    x, kernel, y = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((3, 10, 2), (4, 3, 5), (5, 5, 2)))
    down = layers.conv_down_1d(x, kernel)
    wanted = jax.lax.conv_general_dilated(x, kernel, (2,), ((1, 1),), dimension_numbers=("CHN", "HIO", "CHN"))
    np.testing.assert_allclose(down, wanted, rtol=1e-4, atol=1e-5)
    up = layers.conv_up_1d(y, kernel)
    np.testing.assert_allclose(jnp.vdot(down, y), jnp.vdot(x, up), rtol=1e-4)


@pytest.mark.parametrize("size", [1, 15, 16, 17, 100, 256])
def test_padding_fills_up_to_a_multiple_and_no_further(size):
    before, after = kinds.padding(size, 4)
    assert (size + before + after) % 16 == 0
    assert before + after < 16
    assert after - before in (0, 1)


@pytest.mark.parametrize(("options", "fault"), [
    ({"kind": "lstm"}, "conv, mlp, conv1d"),
    ({"kind": "conv", "layout": "vector"}, "mlp"),
    ({"kind": "conv1d"}, "conv, mlp"),
    ({"kind": "conv1d", "layout": "vector"}, "mlp"),
    ({"kind": "mlp", "layers": 3}, "model.layers"),
    ({"layers": 9}, "1 to 8"),
])
def test_a_kind_that_does_not_fit_is_refused_with_what_does(options, fault):
    with refused(fault):
        networks.build((1, 16, 1), **SIZES, **options)
