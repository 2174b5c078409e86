"""dSprites against the published archive: real frames, pixel counts over all images, and a pinned sample."""

import hashlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deft_jax import data
from deft_jax.data import factors, sprites
from deft_jax.data.source import Source

# Frames that the official repository of dSprites (DeepMind, Apache-2.0) publishes, packed to bits, and their factors.
FRAMES = pathlib.Path(__file__).with_name("official_frames.npz")
COUNT = 737_280


@pytest.fixture(scope="module")
def rendered():
    return data.get("dsprites", storage="rendered")


@pytest.fixture(scope="module")
def packed():
    return data.get("dsprites", storage="packed")


def images(source, factors_NxF):
    out = jax.jit(source.render)(source.arrays, jnp.asarray(factors_NxF, jnp.int32), jax.random.key(0))
    assert out.dtype == jnp.float32
    assert out.shape == (len(factors_NxF), 64, 64, 1)
    return np.asarray(out)


def some(count, seed):
    """Factors of `count` images, the set's first and last among them."""
    index = np.random.default_rng(seed).integers(0, COUNT, count)
    index[:2] = 0, COUNT - 1
    return np.asarray(factors.from_index(index, sprites.SIZES))


def exact(latents):
    """One image by testing each pixel centre against each edge, in Python integers."""
    shape, scale, orientation, pos_x, pos_y = (int(value) for value in latents)
    corners = sprites._outline(shape) * np.linspace(0.5, 1, 6)[scale]
    theta = np.linspace(0, 2 * np.pi, 40)[orientation]
    x = corners[:, 0] * np.cos(theta) + corners[:, 1] * np.sin(theta) + 16 + 32 * np.linspace(0, 1, 32)[pos_x]
    y = corners[:, 1] * np.cos(theta) - corners[:, 0] * np.sin(theta) + 16 + 32 * np.linspace(0, 1, 32)[pos_y]
    x, y = np.rint(256 * x).astype(np.int64), np.rint(256 * y).astype(np.int64)
    centre = 256 * np.arange(64) + 128
    inside = np.zeros((64, 64), bool)
    for x0, y0, x1, y1 in zip(x, y, np.roll(x, -1), np.roll(y, -1), strict=True):
        crossed = (y0 < centre) != (y1 < centre)
        side = (centre[None] - x0) * (y1 - y0) - (centre[:, None] - y0) * (x1 - x0)
        inside ^= crossed[:, None] & (side * np.sign(y1 - y0) < 0)
    return inside


def test_description(rendered):
    assert isinstance(rendered, Source)
    assert rendered.factor_names == ("shape", "scale", "orientation", "posX", "posY")
    assert rendered.factor_sizes == (3, 6, 40, 32, 32)
    assert rendered.image_shape == (64, 64, 1)
    assert rendered.likelihood == "bernoulli"
    assert rendered.num_images == COUNT


def test_equals_the_published_frames(rendered):
    with np.load(FRAMES) as frames:
        published, latents = np.unpackbits(frames["images"], axis=-1), frames["latents"]
    assert published.shape == (160, 64, 64)
    drawn = images(rendered, latents)[..., 0]
    assert np.sum(drawn != published) == 0


def test_white_pixels_of_each_shape_over_the_whole_set(packed):
    # Their sum is the published mean pixel of the archive to 2 pixels in 3e9. The count of hearts depends on
    # whether a centre exactly level with a vertex counts as above it or below.
    words = np.asarray(packed.arrays["words"]).reshape(3, -1)
    counts = [int(np.bitwise_count(shape).sum(dtype=np.int64)) for shape in words]
    assert counts == [53_612_886, 42_070_950, 32_645_028]


def test_pinned_sample(rendered):
    # Pinned when the frames and the counts above held; any change of it is a change of the data set.
    index = np.arange(400) * 1_861 % COUNT
    drawn = images(rendered, factors.from_index(index, sprites.SIZES))
    digest = hashlib.sha256(np.packbits(drawn.astype(bool)).tobytes()).hexdigest()
    assert digest == "2dc42bfdea5b26dd5efca33e9db634f271fdb53308a766e0a920e66abd9847a4"


def test_drawing_equals_the_definition_pixel_by_pixel(rendered):
    latents = some(90, seed=1)
    drawn = images(rendered, latents)[..., 0].astype(bool)
    for image, row in zip(drawn, latents, strict=True):
        np.testing.assert_array_equal(image, exact(row), err_msg=str(row))


def test_packed_equals_rendered(rendered, packed):
    latents = some(4_000, seed=2)
    np.testing.assert_array_equal(images(rendered, latents), images(packed, latents))


@pytest.mark.parametrize("storage", ["rendered", "packed"])
def test_jit_and_vmap_change_nothing_and_the_key_is_ignored(storage, request):
    source = request.getfixturevalue(storage)
    latents = jnp.asarray(some(24, seed=5))
    compiled = images(source, latents)
    np.testing.assert_array_equal(source.render(source.arrays, latents, jax.random.key(9)), compiled)
    keys = jax.random.split(jax.random.key(1), 4)
    mapped = jax.jit(jax.vmap(source.render, (None, 0, 0)))(source.arrays, latents.reshape(4, 6, 5), keys)
    np.testing.assert_array_equal(mapped.reshape(24, 64, 64, 1), compiled)


def test_auto_is_one_of_the_two():
    latents = some(10, seed=6)
    source = data.get("dsprites")
    assert source.render in (sprites.draw, sprites.look_up)
    np.testing.assert_array_equal(images(source, latents)[..., 0], [exact(row) for row in latents])


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown data set 'sprites'; known: .*dsprites"):
        data.get("sprites")
    with pytest.raises(ValueError, match="unknown storage 'disk'; known: auto, packed, rendered"):
        data.get("dsprites", storage="disk")


def test_factors_of_the_wrong_width_are_refused(rendered):
    with pytest.raises(ValueError, match=r"\(2, 4\)"):
        rendered.render(rendered.arrays, np.zeros((2, 4), np.int32), None)


@pytest.mark.parametrize(("change", "message"), [
    ({"likelihood": "poisson"}, "unknown likelihood 'poisson'; known: bernoulli, gaussian"),
    ({"factor_sizes": (3, 6)}, "5 factor names"),
    ({"factor_sizes": (3, 6, 40, 32, 0)}, "positive"),
    ({"factor_names": (), "factor_sizes": ()}, "one or more"),
    ({"image_shape": (64, 64)}, r"\(H, W, C\)"),
])
def test_a_source_checks_its_description(rendered, change, message):
    description = {"factor_names": sprites.NAMES, "factor_sizes": sprites.SIZES, "image_shape": (64, 64, 1),
                   "likelihood": "bernoulli", "arrays": rendered.arrays, "render": rendered.render}
    assert Source(**description) != rendered  # identity, not content: a source may be a static argument
    with pytest.raises(ValueError, match=message):
        Source(**{**description, **change})
