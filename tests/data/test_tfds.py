"""Sets of tensorflow-datasets, prepared by their real builders from small files in the published formats.

The download manager finds the files in its folder for manual downloads. Their checksums stand in for those of the
published files, and the sizes of the grid for the real ones; everything else runs as it does for a user.
"""

import dataclasses
import importlib.util
import math
import sys

import genuine
import jax
import numpy as np
import pytest
import tiny
from PIL import Image

from deft_jax.data import stored, tfds, tfds_read

SIZES = {
    "dsprites": (2, 3, 1, 2, 2),
    "shapes3d": (2, 1, 3, 2, 2, 2),
    "smallnorb": (2, 2, 3, 2),
    "cars3d": (4, 24, 2),
}
NUM_PUBLISHED = {name: math.prod(grid.sizes) * grid.repeats for name, grid in tfds.GRIDS.items()}
FUNCTIONS = {
    "dsprites": tfds.tfds_dsprites,
    "shapes3d": tfds.shapes3d,
    "smallnorb": tfds.smallnorb,
    "cars3d": tfds.cars3d,
}


def write(name, folder, seed):
    """Writes the published files of the small set; (images, labels)."""
    sizes = SIZES[name][2] if name == "cars3d" else SIZES[name]
    return getattr(genuine, f"write_{name}")(folder, sizes, np.random.default_rng(seed))


def needs(name):
    """Skips unless what preparing the set takes is installed."""
    for module in ("importlib_resources", *tfds.GRIDS[name].needs):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"preparing {name} needs {module}")


class Without:
    """A finder of modules that does not find one of them."""

    def __init__(self, finder, module):
        self.finder, self.module = finder, module

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] == self.module else self.finder.find_spec(name, path, target)


def remove(module, monkeypatch):
    """Lets a module seem not to be installed."""
    monkeypatch.setattr(sys, "meta_path", [Without(finder, module) for finder in sys.meta_path])
    monkeypatch.delitem(sys.modules, module, raising=False)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The grids in the sizes of the small sets."""
    for name, sizes in SIZES.items():
        monkeypatch.setitem(tfds.GRIDS, name, dataclasses.replace(tfds.GRIDS[name], sizes=sizes))


def publish(name, folder, monkeypatch):
    """Takes the files in a folder for the published ones: registers their checksums."""
    import tensorflow_datasets
    from tensorflow_datasets.core.download import checksums

    infos = tensorflow_datasets.builder_cls(name).url_infos if name != "cars3d" else {}
    for url, info in list(infos.items()):
        monkeypatch.setitem(infos, url, checksums.compute_url_info(folder / info.filename))


@pytest.fixture(scope="module")
def prepare(tmp_path_factory):
    """prepare(name) -> (data_dir of the prepared set, images, labels); each set is prepared once."""
    prepared = {}

    def get(name):
        if name not in prepared:
            needs(name)
            root = tmp_path_factory.mktemp(name)
            source = root / "source"
            source.mkdir()
            images, labels = write(name, source, 1)
            with pytest.MonkeyPatch.context() as patch:
                patch.setitem(tfds.GRIDS, name, dataclasses.replace(tfds.GRIDS[name], sizes=SIZES[name]))
                publish(name, source, patch)
                FUNCTIONS[name](data_dir=root / "data", source=source)
            prepared[name] = root / "data", images, labels
        return prepared[name]

    return get


def drawn(source, factors_NxF, seed=0):
    """Images of a source as whole grey levels, uint8 [N, H, W, C]."""
    images = jax.jit(source.render)(source.arrays, np.asarray(factors_NxF, np.int32), jax.random.key(seed))
    levels = np.asarray(images) * 255
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
    return np.rint(levels).astype(np.uint8)


def resized(images):
    """As disentanglement_lib resizes: Pillow's thumbnail with its best filter."""
    small_images = []
    for pixels in images:
        image = Image.fromarray(pixels.squeeze())
        image.thumbnail((64, 64), Image.Resampling.LANCZOS)
        small_images.append(np.asarray(image).reshape(64, 64, -1))
    return np.stack(small_images)


@pytest.mark.parametrize(("name", "factor_names", "channels"), [
    ("dsprites", ("shape", "scale", "orientation", "posX", "posY"), 1),
    ("shapes3d", ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation"), 3),
    ("cars3d", ("elevation", "azimuth", "object"), 3),
])
def test_every_image_is_at_the_combination_of_its_labels(name, factor_names, channels, prepare):
    data_dir, images, labels = prepare(name)
    source = FUNCTIONS[name](data_dir=data_dir, download=False)
    assert source.factor_names == factor_names
    assert source.factor_sizes == SIZES[name]
    assert source.image_shape == (64, 64, channels)
    assert source.is_grid
    expected = images * 255 if name == "dsprites" else resized(images)
    np.testing.assert_array_equal(drawn(source, labels), expected)


def test_smallnorb(prepare):
    data_dir, images, labels = prepare("smallnorb")
    source = tfds.smallnorb(data_dir=data_dir, download=False)
    assert source.factor_names == ("category", "elevation", "azimuth", "lighting")
    assert source.factor_sizes == SIZES["smallnorb"]
    assert source.image_shape == (64, 64, 1)
    check_instances(source, resized(images), labels)


def check_instances(source, images, labels):
    """Each combination of the factors gives its own ten images and no others, all of them in enough draws."""
    factors_NxF = labels[::10, :-1]
    found = {tuple(factor): set() for factor in factors_NxF}
    for seed in range(60):
        for factor, image in zip(factors_NxF, drawn(source, factors_NxF, seed), strict=True):
            found[tuple(factor)].add(image.tobytes())
    for number, factor in enumerate(factors_NxF):
        of_factor = {image.tobytes() for image in images[10 * number : 10 * number + 10]}
        assert found[tuple(factor)] <= of_factor
        assert len(found[tuple(factor)]) >= 9  # each is missed with probability 0.9^60 = 0.2 %


def test_instances_of_a_combination_are_its_repeats():
    """What the reader does with the examples of SmallNORB, without TensorFlow."""
    grid = tfds.GRIDS["smallnorb"]
    labels = genuine.combinations((*SIZES["smallnorb"], 10))
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (len(labels), 96, 96, 1), np.uint8)
    names = (*grid.labels, grid.instance)
    examples = [{"image": images[i], **dict(zip(names, labels[i], strict=True))} for i in rng.permutation(len(labels))]
    rows = np.zeros((len(labels), 64, 64, 1), np.uint8)
    tfds_read.fill(rows, grid, examples)
    np.testing.assert_array_equal(rows, resized(images))
    check_instances(stored.grid_source(rows, grid.names, grid.sizes, repeats=10), rows, labels)


def test_grids_have_the_published_sizes():
    assert NUM_PUBLISHED == {"dsprites": 737_280, "smallnorb": 48_600, "shapes3d": 480_000, "cars3d": 17_568}


def test_preparing_and_reading_load_no_tensorflow(prepare, tmp_path):
    data_dir, _, _ = prepare("shapes3d")
    (data_dir / "shapes3d" / "2.0.0" / tfds_read.FILE).unlink(missing_ok=True)
    code = f"""
import dataclasses, pathlib, sys
import test_tfds, pytest
test_tfds.remove("tensorflow", pytest.MonkeyPatch())
from deft_jax.data import tfds
tfds.GRIDS["shapes3d"] = dataclasses.replace(tfds.GRIDS["shapes3d"], sizes=test_tfds.SIZES["shapes3d"])
test_tfds.publish("shapes3d", pathlib.Path({str(data_dir.parent / "source")!r}), pytest.MonkeyPatch())
tfds.shapes3d(data_dir={str(data_dir)!r}, download=False)
tfds.shapes3d(data_dir={str(tmp_path)!r}, source={str(data_dir.parent / "source")!r})
print("tensorflow" in sys.modules)
"""
    assert tiny.run_python(code, environment=tiny.PLAIN).split()[-1] == "False"


def test_images_in_order_are_kept_and_made_again_if_damaged(prepare, monkeypatch):
    data_dir, images, labels = prepare("shapes3d")
    kept = data_dir / "shapes3d" / "2.0.0" / tfds_read.FILE
    tfds.shapes3d(data_dir=data_dir)
    assert np.load(kept, mmap_mode="r").shape == images.shape
    assert [path.name for path in kept.parent.glob(f"{tfds_read.FILE}*")] == [tfds_read.FILE]

    with monkeypatch.context() as patch:
        patch.setattr(tfds_read, "_examples", None)
        tfds.shapes3d(data_dir=data_dir)  # reads no example

    with kept.open("r+b") as file:
        file.truncate(5000)
    source = tfds.shapes3d(data_dir=data_dir)
    np.testing.assert_array_equal(drawn(source, labels), images)


def test_without_room_images_stay_in_memory(prepare, monkeypatch):
    data_dir, images, labels = prepare("shapes3d")
    kept = data_dir / "shapes3d" / "2.0.0" / tfds_read.FILE
    kept.unlink(missing_ok=True)
    monkeypatch.setattr(tfds_read.os, "access", lambda *_: False)
    source = tfds.shapes3d(data_dir=data_dir)
    np.testing.assert_array_equal(drawn(source, labels), images)
    assert not kept.exists()


def test_reading_that_fails_leaves_nothing(prepare, monkeypatch):
    data_dir, _, _ = prepare("shapes3d")
    kept = data_dir / "shapes3d" / "2.0.0" / tfds_read.FILE
    kept.unlink(missing_ok=True)
    wider = dataclasses.replace(tfds.GRIDS["shapes3d"], sizes=(2, 2, 3, 2, 2, 2))
    monkeypatch.setitem(tfds.GRIDS, "shapes3d", wider)
    message = refusal("shapes3d", data_dir=data_dir)
    assert message == "shapes3d has images of 48 combinations of its labels; they must be all 96"
    assert not list(kept.parent.glob(f"{tfds_read.FILE}*"))


def test_labels_that_do_not_fit_are_named():
    grid = dataclasses.replace(tfds.GRIDS["cars3d"], sizes=(1, 1, 2))
    rows = np.zeros((2, 64, 64, 3), np.uint8)

    def example(number):
        return {"image": rows[0], "label_elevation": 0, "label_azimuth": 0, "label_object": number}

    with pytest.raises(ValueError, match=r"^cars3d has an image of .*label_object 2, but the sizes are \(1, 1, 2\)$"):
        tfds_read.fill(rows, grid, [example(2)])
    with pytest.raises(ValueError, match=r"^cars3d has two images of .*label_object 1$"):
        tfds_read.fill(rows, grid, [example(1), example(1)])


def test_binary_images_are_kept_as_bits(prepare):
    data_dir, images, _ = prepare("dsprites")
    tfds.tfds_dsprites(data_dir=data_dir)
    kept = np.load(data_dir / "dsprites" / "2.0.0" / tfds_read.FILE, mmap_mode="r")
    assert kept.shape == (len(images), 512)


def refusal(name, **kw):
    """The message of the ValueError that a set ends in; it has one line."""
    with pytest.raises(ValueError) as raised:  # noqa: PT011, the message is the value
        FUNCTIONS[name](**kw)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_missing_set_is_refused_and_nothing_is_written(tmp_path):
    gone = tmp_path / "gone"
    message = refusal("shapes3d", data_dir=gone, download=False)
    assert message == f"data_dir {gone} is not a folder; with download=True, shapes3d is prepared there"
    message = refusal("shapes3d", data_dir=tmp_path, download=False)
    assert message == f"shapes3d is not prepared in {tmp_path}/shapes3d/2.0.0; with download=True, it is"
    assert not list(tmp_path.iterdir())


def test_wrong_arguments_are_refused_before_a_download(tmp_path):
    message = refusal("cars3d", data_dir="gs://bucket/sets")
    assert message.startswith("data.data_dir must be a path on a local or mounted file system, got 'gs://bucket/sets'")
    assert refusal("cars3d", data_dir=tmp_path, source="s3://b/x").startswith("data.source must be a path on a local")
    assert refusal("cars3d", data_dir=tmp_path, storage="disk").startswith("unknown storage 'disk'; known: ")
    assert refusal("cars3d", data_dir=tmp_path, likelihood="poisson").startswith("unknown likelihood 'poisson'")


@pytest.mark.parametrize(("name", "module", "extra"), [
    ("smallnorb", "tensorflow", "tensorflow"), ("shapes3d", "h5py", "data"), ("cars3d", "importlib_resources", "data"),
])
def test_a_missing_module_is_named_with_the_extra_that_installs_it(name, module, extra, tmp_path, monkeypatch):
    if module != "importlib_resources":
        pytest.importorskip("importlib_resources")
    remove(module, monkeypatch)
    assert refusal(name, data_dir=tmp_path) == (
        f"preparing {name} needs {module}: pip install 'deft_jax[{extra}]', or prepare it on a machine that has it and "
        "point data_dir to a copy of its data_dir")


def test_a_missing_source_file_is_named_with_its_address(tmp_path):
    needs("shapes3d")
    message = refusal("shapes3d", data_dir=tmp_path, source=tmp_path)
    assert message == f"source={tmp_path} lacks 3dshapes.h5 (from https://storage.googleapis.com/3d-shapes)"


@pytest.mark.parametrize(("name", "origin"), [
    ("shapes3d", "3dshapes.h5 (from https://storage.googleapis.com/3d-shapes)"),
    ("cars3d", "nips2015-analogy-data.tar.gz (from http://www.scottreed.info/files)"),
])
def test_a_failed_download_names_the_file_and_its_folder(name, origin, tmp_path, monkeypatch):
    needs(name)
    from tensorflow_datasets.core.download import downloader

    monkeypatch.setattr(downloader, "MAX_RETRIES", 0)
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # nothing listens there
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    message = refusal(name, data_dir=tmp_path)
    assert message.startswith(f"cannot download {name} (")
    assert message.endswith(f"): put {origin} into {tmp_path}/downloads/manual, or into any folder named by source="
                            "FOLDER")


@pytest.mark.parametrize("name", ["shapes3d", "cars3d"])
def test_files_in_the_manual_folder_are_used(name, tmp_path, monkeypatch):
    needs(name)
    manual = tmp_path / "downloads" / "manual"
    manual.mkdir(parents=True)
    images, labels = write(name, manual, 3)
    publish(name, manual, monkeypatch)
    source = FUNCTIONS[name](data_dir=tmp_path)
    np.testing.assert_array_equal(drawn(source, labels[:5]), resized(images[:5]))


def test_file_with_a_wrong_checksum_is_refused(tmp_path):
    needs("shapes3d")
    write("shapes3d", tmp_path, 4)
    message = refusal("shapes3d", data_dir=tmp_path / "data", source=tmp_path)
    assert message.startswith("a file of shapes3d is not the published one, or is damaged")
    assert f"{tmp_path}/3dshapes.h5" in message
    assert not (tmp_path / "data" / "shapes3d" / "2.0.0").exists()


@pytest.mark.parametrize(("fault", "message"), [
    ({"listed": False}, "has no data/cars/list.txt"),
    ({"without": (1,)}, "lacks car_001_mesh.mat and 0 more that its list.txt names"),
    ({"cut": 20_000}, "is damaged, download it again"),
    ({"cut": 0}, "is damaged, download it again"),
])
def test_a_damaged_archive_of_cars_is_refused(fault, message, tmp_path):
    needs("cars3d")
    cut = fault.pop("cut", None)
    genuine.write_cars3d(tmp_path, 2, np.random.default_rng(5), **fault)
    archive = tmp_path / genuine.CARS3D
    if cut is not None:
        archive.write_bytes(archive.read_bytes()[:cut])
    line = refusal("cars3d", data_dir=tmp_path / "data", source=tmp_path)
    assert line.startswith(f"{archive} {message}")
    assert not (tmp_path / "data" / "cars3d" / "1.0.0").exists()


def test_a_set_prepared_for_tensorflow_is_refused(prepare, tmp_path, monkeypatch):
    from deft_jax.data import cars3d_builder

    data_dir, _, _ = prepare("cars3d")
    import tensorflow_datasets

    builder = cars3d_builder.Cars3d(data_dir=tmp_path)
    config = tensorflow_datasets.download.DownloadConfig(manual_dir=str(data_dir.parent / "source"))
    pytest.importorskip("tensorflow", reason="only TensorFlow writes such files")
    builder.download_and_prepare(download_config=config, file_format="tfrecord")
    message = refusal("cars3d", data_dir=tmp_path)
    assert message == (f"{tmp_path}/cars3d/1.0.0 holds tfrecord files, which only TensorFlow reads; give another "
                    "data_dir, to prepare the set there once more")


@pytest.mark.parametrize("name", ["dsprites", "cars3d"])
def test_the_digest_is_that_of_the_images(name, prepare, monkeypatch):
    data_dir, _, _ = prepare(name)
    monkeypatch.setenv("HOME", str(data_dir.parent))
    digests = {
        FUNCTIONS[name](data_dir=place, storage=storage, download=False).digest
        for place in (data_dir, "~/data") for storage in ("device", "host")
    }  # fmt: skip
    assert len(digests) == 1
    assert len(digests.pop()) == 16


