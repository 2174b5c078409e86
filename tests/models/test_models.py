"""Encoders and decoder equal a plain convolutional reference; groups are independent, closed ones absent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from refusals import refused

from deft_jax.models import layers, networks

NHWC = ("NHWC", "HWIO", "NHWC")
SIZES = (2, 1, 3)
SHAPE = (16, 32, 3)
IMAGES = jax.random.uniform(jax.random.key(0), (5, *SHAPE))
OPTIONS = {"latents": 6, "groups": SIZES, "width": (2, 3, 2), "hidden": (8, 5, 6)}
DECODER = {"decoder_width": 2, "decoder_hidden": 8}


def build(**changes):
    return networks.build(SHAPE, **{**OPTIONS, **DECODER, **changes})


def shaken(model, seed=0):
    """Parameters of the model, all moved away from the zeros and small numbers they start at."""
    shapes = jax.eval_shape(model.init, jax.random.key(seed))
    leaves, tree = jax.tree.flatten(shapes)
    rng = np.random.default_rng(seed)
    return jax.tree.unflatten(tree, [jnp.asarray(rng.normal(size=leaf.shape) * 0.3, jnp.float32) for leaf in leaves])


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module")
def params(model):
    return shaken(model)


@pytest.fixture(scope="module")
def posteriors(model, params):
    """The posterior of IMAGES in every stage."""
    encode = jax.jit(model.encode, static_argnums=2)
    return [encode(params, IMAGES, stage) for stage in range(3)]


def reference_encoder(params, images, latents):
    """Four convolutions, two dense layers, written with lax in the usual layout."""
    x = images
    for layer in range(4):
        kernel, bias = (params[f"ConvDown_{layer}"][name] for name in ("kernel", "bias"))
        x = lax.conv_general_dilated(x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=NHWC)
        x = jnp.maximum(x + bias, 0)
    x = x.transpose(0, 3, 1, 2).reshape(len(images), -1)
    x = jnp.maximum(x @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"], 0)
    x = x @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"]
    return x[:, :latents], x[:, latents:]


def reference_decoder(params, z, width):
    x = z
    for layer in range(2):
        x = jnp.maximum(x @ params[f"Dense_{layer}"]["kernel"] + params[f"Dense_{layer}"]["bias"], 0)
    x = x.reshape(len(z), 2 * width, SHAPE[0] // 16, SHAPE[1] // 16).transpose(0, 2, 3, 1)
    for layer in range(4):
        kernel, bias = (params[f"ConvUp_{layer}"][name] for name in ("kernel", "bias"))
        x = lax.conv_transpose(x, kernel, (2, 2), "SAME", dimension_numbers=NHWC, transpose_kernel=True)
        x = jnp.maximum(x + bias, 0) if layer < 3 else x + bias
    return x


@pytest.mark.parametrize("group", range(3))
def test_each_group_is_a_plain_convolutional_encoder_of_its_own(params, posteriors, group):
    """All groups stand side by side: group g's latents depend on group g's parameters alone."""
    reference = jax.jit(reference_encoder, static_argnums=2)
    want = reference(params["encoder"][f"group_{group}"], IMAGES, SIZES[group])
    first = sum(SIZES[:group])
    for got, part in zip(posteriors[2], want, strict=True):
        np.testing.assert_allclose(got[:, first : first + SIZES[group]], part, rtol=1e-4, atol=1e-5)


def test_decoder_equals_the_reference_and_hears_every_latent(model, params):
    z = jax.random.normal(jax.random.key(3), (4, 6))
    decode = jax.jit(model.decode)
    got = decode(params, z)
    assert got.shape == (4, *SHAPE)
    want = jax.jit(reference_decoder, static_argnums=2)(params["decoder"], z, DECODER["decoder_width"])
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    for latent in range(6):
        assert np.abs(decode(params, z.at[:, latent].add(1.0)) - got).max() > 1e-3


@pytest.mark.parametrize("stage", range(3))
def test_groups_not_yet_open_are_exactly_the_prior_for_any_image(posteriors, stage):
    opened = sum(SIZES[: stage + 1])
    for leaf in posteriors[stage]:
        assert leaf.shape == (5, 6)
        assert np.all(np.asarray(leaf[:, opened:]) == 0.0)
        assert np.all(np.ptp(np.asarray(leaf[:, :opened]), axis=0) > 1e-4)


def test_opening_a_group_leaves_earlier_ones_as_they_were(posteriors):
    for stage in range(2):
        opened = sum(SIZES[: stage + 1])
        for now, later in zip(posteriors[stage], posteriors[stage + 1], strict=True):
            np.testing.assert_allclose(now[:, :opened], later[:, :opened], rtol=1e-5, atol=1e-6)


def gradients(model, params, stage):
    """The names of the groups, scales, shifts and decoder whose gradient is not exactly zero."""

    def loss(params):
        mean, logvar = model.encode(params, IMAGES, stage)
        outputs = model.decode(params, mean + 0.3 * jnp.exp(logvar / 2))
        return jnp.sum(jnp.square(outputs)) + jnp.sum(jnp.square(mean)) + jnp.sum(jnp.square(logvar - 1))

    grads = jax.jit(jax.grad(loss))(params)
    parts = grads["encoder"] | {"decoder": grads["decoder"]}
    return {name for name, part in parts.items() if any(np.any(leaf != 0) for leaf in jax.tree.leaves(part))}


def test_all_open_groups_and_no_closed_one_have_a_gradient(model, params):
    assert gradients(model, params, 1) == {"group_0", "group_1", "decoder"}


def test_of_frozen_groups_only_scale_and_shift_have_a_gradient():
    model = build(freeze=True, calibrate=True)
    assert gradients(model, shaken(model), 1) == {"group_1", "decoder", "scale_0", "shift_0"}


def test_calibration_scales_the_mean_and_shifts_the_logvar_of_earlier_groups_only(params, posteriors):
    model = build(freeze=True, calibrate=True)
    scale, shift = jnp.array([2.0, -0.5]), jnp.array([0.25, -1.0])
    encoder = params["encoder"] | {"scale_0": scale, "shift_0": shift}
    for group in (1, 2):
        nine = jnp.full(SIZES[group], 9.0)
        encoder |= {f"scale_{group}": nine, f"shift_{group}": nine}
    mean, logvar = jax.jit(model.encode, static_argnums=2)({"encoder": encoder}, IMAGES, 1)
    plain = posteriors[1]
    np.testing.assert_allclose(mean[:, :2], scale * plain.mean[:, :2], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logvar[:, :2], plain.logvar[:, :2] + shift, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mean[:, 2:], plain.mean[:, 2:], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logvar[:, 2:], plain.logvar[:, 2:], rtol=1e-5, atol=1e-6)


def test_initial_parameters_hold_every_group_with_neutral_calibration():
    model = networks.build((16, 16, 1), latents=4, groups=2, width=2, hidden=4, **DECODER, freeze=True, calibrate=True)
    encoder = jax.jit(model.init)(jax.random.key(0))["encoder"]
    assert set(encoder) == {f"{kind}_{group}" for kind in ("group", "scale", "shift") for group in range(2)}
    for group in range(2):
        np.testing.assert_array_equal(encoder[f"scale_{group}"], np.ones(2))
        np.testing.assert_array_equal(encoder[f"shift_{group}"], np.zeros(2))
    first, second = (encoder[f"group_{group}"]["Dense_0"]["kernel"] for group in range(2))
    assert not np.array_equal(first, second)


def test_latents_belong_to_groups_in_order(model):
    assert model.sizes == SIZES
    assert model.num_latents == 6
    assert model.group_of_latent == (0, 0, 1, 2, 2, 2)


def test_group_sizes_are_equal_shares_or_as_given():
    assert networks.group_sizes(10, 5) == (2, 2, 2, 2, 2)
    assert networks.group_sizes(10, (4, 6)) == (4, 6)
    assert networks.group_sizes(10, [10]) == (10,)


@pytest.mark.parametrize("groups", [0, 4, 11, (4, 5), (10, 0), (11, -1), ()])
def test_groups_that_do_not_add_up_are_refused(groups):
    with pytest.raises(ValueError, match="10"):
        networks.group_sizes(10, groups)


@pytest.mark.parametrize(("changes", "fault"), [
    ({"width": (2, 2)}, "width has 2 entries for 3 groups"),
    ({"hidden": (2, 2, 2, 2)}, "hidden has 4 entries for 3 groups"),
    ({"width": 0}, "width must be at least 1"),
    ({"decoder_width": 0}, "decoder_width must be at least 1"),
    ({"decoder_hidden": -1}, "decoder_hidden must be at least 1"),
    ({"calibrate": True}, "gamma = 0"),
])
def test_sizes_that_do_not_fit_are_refused(changes, fault):
    with refused(fault):
        build(**changes)


def test_bfloat16_computes_in_half_the_bits_and_gives_float32():
    """Near float32, within what eight bits of mantissa allow, outputs and gradients alike."""
    whole, half = (
        build(groups=1, width=8, hidden=32, decoder_width=8, head_init_scale=1.0, dtype=dtype)
        for dtype in ("float32", "bfloat16")
    )
    params = jax.jit(whole.init)(jax.random.key(1))
    assert jax.tree.map(jnp.shape, jax.eval_shape(half.init, jax.random.key(1))) == jax.tree.map(jnp.shape, params)

    def loss(params, model):
        posterior = model.encode(params, IMAGES, 0)
        logits = model.decode(params, posterior.mean)
        return jnp.mean(logits**2) + jnp.mean(posterior.logvar**2), (posterior, logits)

    gradient = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)
    for got, want in zip(gradient(params, half), gradient(params, whole), strict=True):  # gradients, then outputs
        assert {leaf.dtype for leaf in jax.tree.leaves(got)} == {jnp.dtype("float32")}
        x, y = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (got, want))
        assert 1e-5 < np.linalg.norm(x - y) / np.linalg.norm(y) < 0.1


def test_in_bfloat16_the_gradient_of_a_bias_sums_up_in_float32():
    """A sum over 16,384 positions: in eight bits it would stop growing after some hundred."""
    x = jnp.zeros((1, 64, 64, 16), jnp.bfloat16)
    for layer in (layers.ConvUp(1, relu=False), layers.ConvDown(1)):
        params = jax.tree.map(jnp.ones_like, jax.jit(layer.init)(jax.random.key(0), x))
        total = lambda params, layer=layer: jnp.sum(layer.apply(params, x).astype(jnp.float32))  # noqa: E731
        slope = jax.jit(jax.grad(total))(params)
        positions = 16 * (128**2 if isinstance(layer, layers.ConvUp) else 32**2)
        np.testing.assert_allclose(slope["params"]["bias"], positions, rtol=1e-3)


def test_an_unknown_type_is_refused():
    with pytest.raises(ValueError, match="dtype must be one of float32, bfloat16, got 'float16'"):
        build(dtype="float16")
