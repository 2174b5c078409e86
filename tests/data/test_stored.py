"""Sets that exist as arrays: what is stored is what is drawn, wherever it is kept."""

import jax
import numpy as np
import pytest
import tiny
from refusals import refused

from deft_jax.data import factors, pixels, stored

SIZES = (2, 3, 4)
NAMES = ("shape", "scale", "place")
COUNT = 24


def photographs(seed=0, count=COUNT, shape=(5, 3, 3)):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def silhouettes(level=1, count=COUNT):
    return np.random.default_rng(1).integers(0, 2, (count, 5, 3, 1), dtype=np.uint8) * np.uint8(level)


def drawn(source, factors_NxF=None, seed=0):
    """Images as the training step draws them, one example a call: numpy [N, H, W, C]."""
    if factors_NxF is None:
        factors_NxF = factors.from_index(np.arange(source.num_images), source.factor_sizes)
    keys_N = jax.random.split(jax.random.key(seed), len(factors_NxF))

    @jax.jit
    def draw(arrays, factors_NxF, keys_N):
        return jax.vmap(lambda f, k: source.render(arrays, f[None], k)[0])(factors_NxF, keys_N)

    return np.asarray(draw(source.arrays, factors_NxF, keys_N))


SETS = {
    "photographs": (photographs(), photographs() / 255),
    "0 and 1": (silhouettes(), silhouettes()),
    "bool": (silhouettes() > 0, silhouettes()),
    "0 and 255": (silhouettes(255), silhouettes()),
    "0 and 51": (silhouettes(51), silhouettes() * 0.2),
    "1 and 255": (silhouettes(254) + np.uint8(1), (silhouettes(254) + np.uint8(1)) / 255),
    "black": (silhouettes(0), silhouettes(0)),
    "packed": (pixels.pack(silhouettes(51), 0.2), silhouettes() * 0.2),
}


@pytest.mark.parametrize("storage", ["auto", "device", "host"])
@pytest.mark.parametrize("name", SETS)
def test_drawn_is_stored(name, storage):
    images, expected = SETS[name]
    source = stored.grid_source(images, NAMES, SIZES, storage=storage)
    found = drawn(source)
    assert found.dtype == np.float32
    assert source.image_shape == found.shape[1:]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_two_levels_are_kept_as_bits_and_looked_at_in_parts(monkeypatch):
    monkeypatch.setattr(pixels, "_CHUNK_BYTES", 50)
    images = silhouettes(255)
    images[:7] = 0
    arrays, _ = pixels.gather(images, "device")
    assert arrays["images"].shape == (COUNT, 2)
    images[-1, 0, 0, 0] = 7
    arrays, _ = pixels.gather(images, "device")
    assert arrays["images"].shape == images.shape


def test_auto_goes_to_the_host_above_a_size(monkeypatch):
    images, bits = photographs(), silhouettes()
    monkeypatch.setattr(pixels, "DEVICE_BYTES", 2 * COUNT)
    assert pixels.gather(images)[0] == {}
    assert pixels.gather(bits)[0].keys() == {"images"}
    monkeypatch.setattr(pixels, "DEVICE_BYTES", 2 * COUNT - 1)
    assert pixels.gather(bits)[0] == {}


def test_a_batch_from_a_memory_map_in_a_loop_is_one_callback_a_step(tmp_path):
    images = photographs()
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    asked = []

    class Watched(np.memmap):
        def __getitem__(self, index):
            if isinstance(index, np.ndarray):
                asked.append(index.shape)
            return super().__getitem__(index)

    def total(source):
        def body(step, total):
            keys_B = jax.random.split(jax.random.fold_in(jax.random.key(0), step), 8)
            factors_BxF = jax.vmap(factors.sample, (0, None))(keys_B, source.factor_sizes)
            images = jax.vmap(lambda f, k: source.render(source.arrays, f[None], k)[0])(factors_BxF, keys_B)
            return total + step * images.sum((0, 1, 2))

        return np.asarray(jax.jit(lambda steps: jax.lax.fori_loop(0, steps, body, np.zeros(3, np.float32)))(20))

    on_host = total(stored.grid_source(mapped.view(Watched), NAMES, SIZES, storage="host"))
    assert asked == [(8, 1)] * 20
    # Two programs, which may add in another order.
    on_device = total(stored.grid_source(images, NAMES, SIZES, storage="device"))
    np.testing.assert_allclose(on_host, on_device, rtol=1e-5)


LABELS = np.stack(np.unravel_index(np.arange(COUNT), SIZES), -1)
VALUES = np.stack([LABELS[:, 0] * 2 - 7, LABELS[:, 1] * 0.1, np.full(COUNT, 3.5), LABELS[:, 2] ** 2], -1)
VALUE_NAMES = ("shape", "scale", "constant", "place")


@pytest.mark.parametrize("storage", ["device", "host"])
def test_shuffled_rows_make_the_same_grid(storage):
    images, place = photographs(), np.random.default_rng(2).permutation(COUNT)
    source = stored.from_labels(images[place], VALUE_NAMES, VALUES[place], storage=storage, likelihood="gaussian")
    assert (source.factor_names, source.factor_sizes, source.likelihood) == (NAMES, SIZES, "gaussian")
    assert source.is_grid
    np.testing.assert_allclose(drawn(source), drawn(stored.grid_source(images, NAMES, SIZES)), rtol=1e-6)


@pytest.mark.parametrize("shuffled", [False, True])
def test_repeats_are_all_drawn_by_the_key(shuffled):
    images = photographs(count=3 * COUNT)
    place = np.random.default_rng(3).permutation(3 * COUNT) if shuffled else np.arange(3 * COUNT)
    source = stored.from_labels(images[place], VALUE_NAMES, np.repeat(VALUES, 3, axis=0)[place])
    assert source.factor_sizes == SIZES

    factors_NxF = np.tile(LABELS, (40, 1)).astype(np.int32)
    found = drawn(source, factors_NxF)
    candidates = images.reshape(COUNT, 3, -1)[factors.to_index(factors_NxF, SIZES)] / np.float32(255)
    is_one = np.all(np.abs(found.reshape(len(found), 1, -1) - candidates) < 1e-6, -1)
    assert np.all(is_one.sum(1) == 1)
    assert np.all(np.abs(is_one.mean(0) - 1 / 3) < 0.05)

    np.testing.assert_array_equal(found, drawn(source, factors_NxF))
    assert np.any(found != drawn(source, factors_NxF, seed=1))


def test_a_batch_in_one_call_draws_repeats_independently():
    source = stored.grid_source(photographs(), ("a", "b"), (2, 3), repeats=4)
    batch = jax.jit(source.render)(source.arrays, np.zeros((64, 2), np.int32), jax.random.key(0))
    assert len(np.unique(np.asarray(batch).reshape(64, -1), axis=0)) == 4


def test_images_without_a_full_grid_are_a_list():
    images, kept = photographs()[:-1], VALUES[:-1]
    source = stored.from_labels(images, VALUE_NAMES, kept)
    assert (source.factor_names, source.factor_sizes) == (("image",), (COUNT - 1,))
    assert not source.is_grid
    assert source.ground_truth_names == NAMES
    np.testing.assert_array_equal(source.labels, LABELS[:-1])
    np.testing.assert_array_equal(source.ground_truth(np.array([[5], [2]])), LABELS[[5, 2]])
    np.testing.assert_allclose(drawn(source), images / 255, rtol=1e-6)


def test_balanced_classes_are_a_list_and_a_constant_is_left_out():
    labels = np.stack([np.arange(COUNT) % 4, np.zeros(COUNT)], -1)
    source = stored.from_labels(photographs(), ("class", "constant"), labels)
    assert (source.is_grid, source.label_names, source.num_images) == (False, ("class",), COUNT)
    np.testing.assert_array_equal(source.labels, labels[:, :1])
    assert any("constant" in remark for remark in source.remarks)


def test_one_class_an_image_is_a_grid_of_one_factor():
    source = stored.from_labels(photographs(count=7), ("number",), np.arange(7)[::-1, None] * 0.5)
    assert (source.is_grid, source.factor_sizes) == (True, (7,))
    np.testing.assert_allclose(drawn(source), photographs(count=7)[::-1] / 255, rtol=1e-6)


def test_values_of_every_combination_are_a_grid_however_many():
    """30 x 2 floats would count as continuous by their number alone."""
    values = np.stack(np.meshgrid(np.linspace(0, 1, 30), [2.0, 3.0], indexing="ij"), -1).reshape(60, 2)
    assert stored.from_labels(photographs(count=60), ("a", "b"), values).factor_sizes == (30, 2)
    listed = stored.from_labels(photographs(count=59), ("a", "b"), values[:-1])
    assert listed.label_continuous == (True, False)
    np.testing.assert_array_equal(listed.labels, values[:-1] - [0, 2])


@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_a_number_for_each_image_is_continuous(dtype):
    labels = (np.arange(40)[:, None] ** 2).astype(dtype)
    source = stored.from_labels(photographs(count=40), ("a",), labels)
    assert source.label_continuous == (True,)
    np.testing.assert_array_equal(source.labels, labels)


def test_images_without_labels_have_no_ground_truth():
    images, none = photographs(), np.zeros((COUNT, 0))
    for source in (stored.listed_source(images), stored.from_labels(images, (), none)):
        assert source.labels.shape == (COUNT, 0)
        assert source.ground_truth_names == ()


GRID = {"images": photographs(), "names": NAMES, "sizes": SIZES}
LIST = {"images": photographs(), "label_names": NAMES, "labels_NxL": LABELS}
WRONG = {
    "storage": (stored.grid_source, GRID | {"storage": "tape"}, "unknown storage 'tape'; known: auto, device, host"),
    "likelihood": (stored.grid_source, GRID | {"likelihood": "cauchy"}, "unknown likelihood 'cauchy'"),
    "dtype": (stored.grid_source, GRID | {"images": photographs() / 255}, "uint8, bool or float32, got float64"),
    "axes": (stored.grid_source, GRID | {"images": photographs()[..., 0]}, r"must be \[N, H, W, C\]"),
    "number": (stored.grid_source, GRID | {"sizes": (2, 3, 5)}, "24 images for factor sizes .2, 3, 5., 1 images each"),
    "repeats": (stored.grid_source, GRID | {"repeats": 0}, "0 images each"),
    "names": (stored.grid_source, GRID | {"names": NAMES[:2]}, "2 factor names"),
    "rows": (stored.listed_source, LIST | {"labels_NxL": LABELS[:-1]}, r"labels must be \[24, 3\].*got \[23, 3\]"),
    "float": (stored.listed_source, LIST | {"labels_NxL": LABELS * 0.5}, "integers from 0 up, got float64"),
    "negative": (stored.listed_source, LIST | {"labels_NxL": LABELS - 1}, "from 0 up, got int64 from -1"),
    "class of a half": (stored.listed_source, LIST | {"labels_NxL": LABELS * 0.5, "continuous": (True, False, False)},
                        "integers from 0 up"),
    "twice": (stored.listed_source, LIST | {"label_names": ("a", "a", "b")}, "repeat"),
    "nan": (stored.from_labels, LIST | {"labels_NxL": np.where(LABELS == 2, np.nan, 1)}, "not all finite"),
    "text": (stored.from_labels, LIST | {"labels_NxL": LABELS.astype(str)}, "labels must be numbers"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line(case):
    function, arguments, message = WRONG[case]
    with refused(message):
        function(**arguments)


SHARDED = """
import jax, numpy as np, test_stored
from deft_jax.data import stored

def total(storage):
    source = stored.grid_source(test_stored.photographs(), test_stored.NAMES, test_stored.SIZES, storage=storage)
    arrays = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), source.arrays)

    def shard(arrays, keys_B):
        def body(step, total):
            factors_BxF = jax.vmap(lambda k: jax.random.randint(jax.random.fold_in(k, step), (3,), 0, 2))(keys_B)
            images = jax.vmap(lambda f, k: source.render(arrays, f[None], k)[0])(factors_BxF, keys_B)
            return total + step * images.sum()
        return jax.lax.psum(jax.lax.fori_loop(0, 50, body, np.float32(0)), "device")

    keys = jax.random.split(jax.random.key(0), (2, 8))
    return np.asarray(jax.pmap(shard, axis_name="device")(arrays, keys))

assert jax.local_device_count() == 2
np.testing.assert_allclose(total("host"), total("device"), rtol=1e-6)
"""


def test_two_devices_fetch_from_one_host():
    tiny.run_python(SHARDED, environment=tiny.devices(2))
