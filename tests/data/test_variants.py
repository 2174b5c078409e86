"""Variants of dSprites: the addition to the sprite, its place, its distribution and its key."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from refusals import refused

from deft_jax import data
from deft_jax.data import factors, sprites, variants

NAMES = ("color_dsprites", "noisy_dsprites", "scream_dsprites")
KEY = jax.random.key(7)
BATCH = 20  # of every compiled call, so that a source is compiled once


@pytest.fixture(scope="module", autouse=True)
def one_table():
    """Every source here draws from the same table of edges; it is worked out once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sprites, "_edge_tables", functools.cache(sprites._edge_tables))
        yield


@pytest.fixture(scope="module")
def plain():
    return data.get("dsprites", storage="rendered")


@pytest.fixture(scope="module")
def sources():
    return {name: data.get(name, storage="rendered") for name in NAMES}


def some(count, seed=0):
    index = np.random.default_rng(seed).integers(0, 737_280, count)
    return np.asarray(factors.from_index(index, (3, 6, 40, 32, 32)))


def images(source, factors_NxF, key=KEY):
    """Images of a multiple of BATCH examples; batch b is drawn with fold_in(key, b)."""
    render = jax.jit(source.render)
    parts = np.split(np.asarray(factors_NxF, np.int32), len(factors_NxF) // BATCH)
    out = np.concatenate([render(source.arrays, part, jax.random.fold_in(key, b)) for b, part in enumerate(parts)])
    assert out.dtype == np.float32
    assert out.shape == (len(factors_NxF), *source.image_shape)
    return out


def on_sprite(plain, factors_NxF):
    return images(plain, factors_NxF)[..., 0] == 1


def gradient(height, width):
    """A painting that tells where a patch was cut: red grows by 1 a row, green by 1 a column, blue is constant."""
    rows, columns = np.indices((height, width))
    return np.stack([rows, columns, np.full_like(rows, 100)], -1).astype(np.uint8)


def saved(folder, pixels):
    path = folder / "painting.npy"
    np.save(path, pixels)
    return str(path)


@pytest.mark.parametrize("name", NAMES)
def test_description(name, sources, plain):
    source = sources[name]
    assert source.factor_names == plain.factor_names
    assert source.factor_sizes == plain.factor_sizes
    assert source.image_shape == (64, 64, 3)
    assert source.likelihood == "bernoulli"


@pytest.mark.parametrize("name", NAMES)
def test_images_lie_in_the_unit_interval_and_come_from_the_key_alone(name, sources):
    source, latents = sources[name], some(BATCH)
    drawn = images(source, latents)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    np.testing.assert_array_equal(images(source, latents), drawn)
    other = images(source, latents, jax.random.key(8))
    assert np.all(np.any(other != drawn, axis=(1, 2, 3)))


@pytest.mark.parametrize("name", NAMES)
def test_examples_of_a_batch_differ_and_do_not_depend_on_those_after_them(name, sources):
    source = sources[name]
    same = np.repeat(some(1), BATCH, axis=0)
    drawn = images(source, same)
    assert len(np.unique(drawn.reshape(BATCH, -1), axis=0)) == BATCH
    np.testing.assert_array_equal(images(source, np.concatenate([same[:3], some(BATCH - 3)]))[:3], drawn[:3])


def test_one_example_at_a_time_under_vmap_takes_its_own_key(sources):
    # As the training step renders. All variants share this renderer; this one has the quickest addition.
    source, latents = sources["color_dsprites"], np.repeat(some(3), 2, axis=0)
    keys = jax.random.split(KEY, 6)
    drawn = jax.jit(jax.vmap(lambda f, k: source.render(source.arrays, f[None], k)[0]))(latents, keys)
    assert len(np.unique(np.asarray(drawn).reshape(6, -1), axis=0)) == 6
    for image, row, key in zip(drawn, latents, keys, strict=True):
        whole = jax.jit(source.render)(source.arrays, np.concatenate([row[None], some(BATCH - 1)]), key)
        np.testing.assert_allclose(image, whole[0], atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_storage_is_passed_on(name, plain, monkeypatch):
    storages = []
    monkeypatch.setattr(sprites, "dsprites", lambda storage: storages.append(storage) or plain)
    for options in ({}, {"storage": "packed"}):
        assert data.get(name, **options).arrays["sprites"] is plain.arrays
    assert storages == ["auto", "packed"]


def test_color_is_one_bright_color_an_image_on_black(sources, plain):
    latents = some(1_000)
    drawn, sprite = images(sources["color_dsprites"], latents), on_sprite(plain, latents)
    assert not drawn[~sprite].any()
    color = drawn.max((1, 2))
    np.testing.assert_array_equal(drawn, sprite[..., None] * color[:, None, None])
    assert color.min() >= 0.5
    np.testing.assert_allclose(color.mean(0), 0.75, atol=0.02)  # over four standard errors
    np.testing.assert_allclose(color.var(0), 0.25 / 12, rtol=0.1)
    assert np.abs(np.corrcoef(color.T) - np.eye(3)).max() < 0.12


def test_noise_around_a_white_sprite_is_the_uniform_draw_of_the_key_of_its_image(sources, plain):
    latents = some(BATCH)
    drawn, sprite = images(sources["noisy_dsprites"], latents), on_sprite(plain, latents)
    key = jax.random.fold_in(KEY, 0)  # of the first batch
    noise = np.stack([jax.random.uniform(jax.random.fold_in(key, i), (64, 64, 3)) for i in range(BATCH)])
    np.testing.assert_array_equal(drawn[~sprite], noise[~sprite])
    assert np.all(drawn[sprite] == 1)


def test_scream_inverts_its_background_where_the_sprite_is(sources, plain):
    source = sources["scream_dsprites"]
    first = np.resize([[0, 5, 3, 4, 5], [1, 5, 9, 31, 0], [2, 4, 20, 9, 28]], (BATCH, 5))
    second = np.resize([[2, 5, 0, 27, 25], [0, 3, 0, 0, 31], [1, 5, 11, 30, 2]], (BATCH, 5))
    a, b = on_sprite(plain, first), on_sprite(plain, second)
    assert a.any((1, 2)).all()
    assert b.any((1, 2)).all()
    assert not np.any(a & b)
    image_a, image_b = images(source, first), images(source, second)  # one key, so the same backgrounds
    np.testing.assert_array_equal(image_a[~a & ~b], image_b[~a & ~b])
    np.testing.assert_allclose(image_a[a], 1 - image_b[a], atol=1e-6)
    np.testing.assert_allclose(image_b[b], 1 - image_a[b], atol=1e-6)


def test_scream_background_is_half_a_patch_and_half_a_color(tmp_path, plain):
    height, width = 66, 80
    source = data.get("scream_dsprites", storage="rendered", painting=saved(tmp_path, gradient(height, width)))
    latents = some(600)
    drawn, sprite = images(source, latents), on_sprite(plain, latents)
    background = np.where(sprite[..., None], 1 - drawn, drawn) * 2 * 255  # patch + colour, in steps of the painting

    rows, columns = np.indices((64, 64))
    corner = background[:, 0, 0]
    expected = corner[:, None, None] + np.stack([rows, columns, np.zeros_like(rows)], -1)
    np.testing.assert_allclose(background, expected, atol=1e-3)

    blue = corner[:, 2] / 255 - 100 / 255
    assert blue.min() >= -1e-5
    assert blue.max() <= 1 + 1e-5
    assert blue.mean() == pytest.approx(0.5, abs=0.04)
    assert blue.var() == pytest.approx(1 / 12, rel=0.1)
    # A corner is uniform on the places where a patch fits, the last ones included, and red = row + colour.
    for channel, places in ((0, height - 63), (1, width - 63)):
        assert corner[:, channel].mean() == pytest.approx((places - 1) / 2 + 127.5, abs=9)  # three standard errors


@pytest.mark.parametrize(("height", "width"), [(64, 64), (66, 65)])
def test_scream_patches_come_from_every_place_alike(height, width):
    # One red row and one green column, which every patch holds, tell where it was cut.
    last_top, last_left = height - 64, width - 64
    painting = np.zeros((height, width, 3), np.float32)
    painting[last_top, :, 0] = painting[:, last_left, 1] = 1

    keys = jax.random.split(KEY, 600)
    drawn = np.asarray(jax.jit(jax.vmap(variants._scream, (0, None, None)))(keys, jnp.zeros((64, 64, 1)), painting))
    top = last_top - drawn[:, :, 0, 0].argmax(1)
    left = last_left - drawn[:, 0, :, 1].argmax(1)
    assert np.all(drawn[..., 0].max(2).max(1) - drawn[..., 0].min(2).min(1) > 0.49)
    places, counts = np.unique(np.stack([top, left], -1), axis=0, return_counts=True)
    assert {tuple(place) for place in places} == {(r, c) for r in range(last_top + 1) for c in range(last_left + 1)}
    assert counts.min() > 0.75 * 600 / len(places)  # of 100 each, over two and a half standard errors


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".npy"])
def test_a_painting_is_fitted_and_used(tmp_path, suffix):
    picture = Image.fromarray(variants._stand_in()).resize((500, 800), Image.Resampling.BICUBIC)
    path = tmp_path / f"painting{suffix}"
    if suffix == ".npy":
        np.save(path, np.asarray(picture))
    else:
        picture.save(path)
    source = data.get("scream_dsprites", storage="rendered", painting=path, likelihood="gaussian")
    assert source.likelihood == "gaussian"
    painting = np.asarray(source.arrays["painting"])
    assert painting.shape == (274, 171, 3)  # 800 high becomes 274, 500 wide becomes 171
    assert painting.min() >= 0
    assert painting.max() <= 1
    shrunk = np.asarray(picture.resize((171, 274), Image.Resampling.BOX)) / 255
    assert np.abs(painting - shrunk).mean() < 0.03
    assert np.abs(painting - shrunk[::-1]).mean() > 0.1


def test_a_small_painting_is_not_enlarged_and_gray_becomes_color(tmp_path):
    path = tmp_path / "gray.png"
    Image.fromarray(np.arange(100 * 90, dtype=np.uint16).reshape(100, 90).astype(np.uint8)).save(path)
    painting = np.asarray(data.get("scream_dsprites", storage="rendered", painting=str(path)).arrays["painting"])
    assert painting.shape == (100, 90, 3)
    np.testing.assert_array_equal(painting[..., 0], painting[..., 2])


def npz(path):
    with open(path, "wb") as file:
        np.savez(file, np.zeros((100, 100, 3), np.uint8))


def cut_off(path):
    Image.fromarray(variants._stand_in()).save(path)
    path.write_bytes(path.read_bytes()[:5_000])


def blank(height, width):
    return lambda path: Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(path)


UNREADABLE = "cannot read the painting "
FAULTY = {  # the name of the file, what writes it, and the message
    "missing": ("x.png", lambda path: None, UNREADABLE + r".*x\.png.*No such file"),
    "folder": ("x.png", lambda path: path.mkdir(), UNREADABLE),
    "no image": ("x.png", lambda path: path.write_text("no picture\nin here"), UNREADABLE + ".*cannot identify"),
    "cut off": ("x.png", cut_off, UNREADABLE),
    "float": ("x.npy", lambda path: np.save(path, np.zeros((100, 100, 3), np.float32)),
              r"needs uint8 \[H, W, 3\], holds float32 \[100, 100, 3\]"),
    "grey": ("x.npy", lambda path: np.save(path, np.zeros((100, 100), np.uint8)), r"holds uint8 \[100, 100\]"),
    "object": ("x.npy", lambda path: np.save(path, np.array([{}], object), allow_pickle=True), UNREADABLE),
    "empty": ("x.npy", lambda path: path.write_bytes(b""), UNREADABLE),
    "text": ("x.npy", lambda path: path.write_text("no picture\nin here"), UNREADABLE),
    "archive": ("x.npy", npz, UNREADABLE),
    "small": ("x.png", blank(63, 200), "is 200x63 once it fits within 350x274; a patch takes 64x64"),
    "narrow": ("x.png", blank(900, 100), "is 30x274 once"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTY)
def test_a_faulty_painting_is_refused_in_one_line(tmp_path, case):
    name, write, message = FAULTY[case]
    write(tmp_path / name)
    with refused(message):
        data.get("scream_dsprites", storage="rendered", painting=tmp_path / name)


@pytest.mark.parametrize(("name", "options", "message"), [
    ("scream_dsprites", {"storage": "disk"}, "unknown storage 'disk'"),
    ("scream_dsprites", {"likelihood": "poisson"}, "unknown likelihood 'poisson'"),
    ("noisy_dsprites", {"painting": "x.png"}, "data has no field 'painting'"),
    ("scream_dsprites", {"painting": 5}, r"data\.painting"),
])
def test_unknown_options_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        data.get(name, **options)
