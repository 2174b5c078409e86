"""Archives: published layouts are recognised, nothing is unpickled, and faulty files are refused in one line."""

import io
import sys
import zipfile

import jax
import numpy as np
import pytest
import tiny
from refusals import refused

from deft_jax.data import pixels
from deft_jax.data.archive import archive

h5py = pytest.importorskip("h5py")

SIZES = (3, 2, 4)
COUNT = 24
CLASSES = np.stack(np.unravel_index(np.arange(COUNT), SIZES), -1)


def binary(count=COUNT, side=64):
    return np.random.default_rng(0).integers(0, 2, (count, side, side), dtype=np.uint8)


def colours(count=COUNT, side=16):
    return np.random.default_rng(1).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def drawn(source):
    """All images of a source, in the order of its factors: numpy float32 [N, H, W, C]."""
    factors_NxF = np.stack(np.unravel_index(np.arange(source.num_images), source.factor_sizes), -1).astype(np.int32)
    return np.asarray(jax.jit(source.render)(source.arrays, factors_NxF, jax.random.key(0)))


def dsprites_members():
    """The members of dSprites with fewer values: colour is constant, then shape, scale and orientation vary."""
    classes = np.concatenate([np.zeros((COUNT, 1), int), CLASSES, np.zeros((COUNT, 2), int)], -1)
    return {"imgs": binary(), "latents_classes": classes, "latents_values": classes * 0.2 + 1}


def test_dsprites_as_published_and_its_pickle_stays_closed(tmp_path):
    path, flag = tmp_path / "dsprites.npz", tmp_path / "unpickled"
    np.savez_compressed(path, **dsprites_members(), metadata=np.array(tiny.Trap(flag), dtype=object))
    source = archive(path)
    assert (source.factor_names, source.factor_sizes) == (("shape", "scale", "orientation"), SIZES)
    assert (source.image_shape, source.likelihood) == ((64, 64, 1), "bernoulli")
    assert source.arrays["images"].shape == (COUNT, 64 * 64 // 8)
    np.testing.assert_array_equal(drawn(source)[..., 0], binary())
    with pytest.raises(ValueError, match="'metadata' holds pickled objects, which are never loaded"):
        archive(path, images="metadata")
    assert not flag.exists()
    np.load(path, allow_pickle=True)["metadata"]
    assert flag.exists(), "the trap does not work, so this test proves nothing"


def test_dsprites_as_hdf5(tmp_path):
    members = dsprites_members()
    with h5py.File(tmp_path / "dsprites.hdf5", "w") as file:
        file.create_dataset("imgs", data=members["imgs"], chunks=(5, 64, 64), compression="gzip")
        file["latents/classes"], file["latents/values"] = members["latents_classes"], members["latents_values"]
    source = archive(tmp_path / "dsprites.hdf5")
    assert (source.factor_names, source.factor_sizes) == (("shape", "scale", "orientation"), SIZES)
    np.testing.assert_array_equal(drawn(source)[..., 0], binary())


@pytest.mark.parametrize("storage", ["device", "host"])
@pytest.mark.parametrize("chunks", [None, (7, 32, 32, 1)])
def test_shapes3d_as_published(tmp_path, storage, chunks):
    values = np.stack([*CLASSES.T * 0.1, *np.zeros((3, COUNT))], -1)
    place = np.random.default_rng(2).permutation(COUNT)
    with h5py.File(tmp_path / "3dshapes.h5", "w") as file:
        file.create_dataset("images", data=colours(side=64)[place], chunks=chunks)
        file["labels"] = values[place]
    source = archive(tmp_path / "3dshapes.h5", storage=storage)
    assert (source.factor_names, source.factor_sizes) == (("floor_hue", "wall_hue", "object_hue"), SIZES)
    np.testing.assert_allclose(drawn(source), colours(side=64) / 255, rtol=1e-6)


STORED = {
    "0 to 255": (colours(), colours() / 255),
    "0 and 1": (binary(side=16), binary(side=16)[..., None]),
    "0 and 255": (binary(side=16) * np.uint8(255), binary(side=16)[..., None]),
    "bool": (binary(side=16) > 0, binary(side=16)[..., None]),
    "float32": (colours() / np.float32(255), colours() / 255),
    "float64 of 0 and 1": (binary(side=16) * 1.0, binary(side=16)[..., None]),
    "by columns": (np.asfortranarray(colours()), colours() / 255),
    "grey at the end": (np.append(binary(23, 16), colours(1)[..., 0], 0),
                        np.append(binary(23, 16), colours(1)[..., 0], 0)[..., None] / 255),
    "two greys": (np.repeat([[[5]], [[0]], [[9]]], 8, 0) * np.ones((16, 16), np.uint8),
                  np.repeat([5, 0, 9], 8)[:, None, None, None] * np.ones((16, 16, 1)) / 255),
}  # fmt: skip


@pytest.mark.parametrize(("packing", "storage"), [("stored", "auto"), ("stored", "host"), ("deflated", "auto"),
                                                  ("hdf5", "host")])  # fmt: skip
@pytest.mark.parametrize("name", STORED)
def test_every_way_to_store_images(tmp_path, monkeypatch, name, packing, storage):
    images, expected = STORED[name]
    images = images.astype(np.uint8) if images.dtype.kind == "i" else images
    monkeypatch.setattr(pixels, "_CHUNK_BYTES", 5 * images[0].nbytes)
    path = tmp_path / ("set.h5" if packing == "hdf5" else "set.npz")
    if packing == "hdf5":
        with h5py.File(path, "w") as file:
            file["x"], file["factors"] = images, CLASSES
    else:
        (np.savez if packing == "stored" else np.savez_compressed)(path, x=images, factors=CLASSES)
    source = archive(path, storage=storage)
    assert source.factor_sizes == SIZES
    np.testing.assert_allclose(drawn(source), expected, rtol=1e-6)


def test_names_from_the_archive_and_by_argument(tmp_path):
    path = tmp_path / "set.npz"
    members = {"pictures": colours(), "poses": CLASSES, "names": np.array(["a", "b", "c"])}
    np.savez(path, **members)
    assert archive(path, "pictures", "poses").factor_names == ("a", "b", "c")
    assert archive(path, "pictures", "poses", ["u", "v", "w"]).factor_names == ("u", "v", "w")
    np.savez(path, **members | {"names": np.array(["a", "b"])})
    assert archive(path, "pictures", "poses").factor_names == ("factor_0", "factor_1", "factor_2")
    np.savez(path, **members | {"names": np.array(["a", "b", "c"], object)})
    with pytest.raises(ValueError, match="'names' holds pickled objects"):
        archive(path, "pictures", "poses")
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["images"], file["labels"], file["label_names"] = colours(), CLASSES, ["a", "b", "c"]
    assert archive(tmp_path / "set.h5").factor_names == ("a", "b", "c")


def test_without_factors_and_without_a_grid(tmp_path):
    np.savez(tmp_path / "set.npz", images=colours())
    assert archive(tmp_path / "set.npz").labels.shape == (COUNT, 0)
    np.savez(tmp_path / "set.npz", images=colours()[1:], factors=CLASSES[1:])
    source = archive(tmp_path / "set.npz", likelihood="gaussian")
    assert (source.num_images, source.likelihood) == (COUNT - 1, "gaussian")
    np.testing.assert_array_equal(source.labels, CLASSES[1:])


def with_hole(images, value):
    images = images.astype(np.float32) / 255
    images[-1, 0, 0, 0] = value
    return images


def with_nan(column):
    factors = CLASSES.astype(float)
    factors[[3, 5], column] = np.nan
    return factors


GOOD = {"images": colours(), "factors": CLASSES}
WRONG = {
    "no images": ({"pictures": colours()}, {}, "has no images under a usual name .*name one of pictures"),
    "unknown images": (GOOD, {"images": "imgs"}, "has no member 'imgs' for the images; it has factors, images"),
    "unknown factors": (GOOD, {"factors": "y"}, "has no member 'y' for the factors"),
    "names of nothing": ({"images": colours()}, {"names": ["a"]}, "has no factors under a usual name"),
    "number of names": (GOOD, {"names": ["a"]}, "has 3 factors, 1 names are given: a"),
    "storage": (GOOD, {"storage": "tape"}, "unknown storage 'tape'"),
    "likelihood": (GOOD, {"likelihood": "cauchy"}, "unknown likelihood 'cauchy'"),
    "flat": (GOOD | {"images": colours().reshape(COUNT, -1)}, {}, r"must be \[N, H, W\] or .*got \[24, 768\]"),
    "channels first": (GOOD | {"images": np.moveaxis(colours(), -1, 1)}, {}, r"got \[24, 3, 16, 16\]"),
    "integers": (GOOD | {"images": colours().astype(int)}, {}, "must be uint8, bool or floats in .0, 1., got int64"),
    "too bright": (GOOD | {"images": with_hole(colours(), 1.5)}, {}, "are floats from 0 to 1.5"),
    "negative": (GOOD | {"images": with_hole(colours(), -1)}, {}, "are floats from -1 to 1"),
    "nan": (GOOD | {"images": with_hole(colours(), np.nan)}, {}, "are floats from nan"),
    "one image": ({"images": colours()[:1]}, {}, "must be at least 2, got 1"),
    "rows": (GOOD | {"factors": CLASSES[:-1]}, {}, "has 24 images and 23 rows of factors in 'factors'"),
    "factors of complex numbers": (GOOD | {"factors": CLASSES * 1j}, {}, "factors 'factors' must be numbers"),
    "factors with nan": (GOOD | {"factors": np.where(CLASSES > 1, np.nan, 0)}, {}, "not all finite"),
    "factors in space": (GOOD | {"factors": CLASSES[..., None]}, {}, r"must be numbers .*\[24, 3, 1\]"),
    "unnamed": ({"arr_0": colours()}, {}, "name one of arr_0 by data.images"),
    "column with nan": (GOOD | {"factors": with_nan(1)}, {}, r"'factor_1' \(column 1 of 'factors'\) in 2 of 24 rows; "
                        "data.factors=none reads"),
    "factors of objects": (GOOD | {"factors": CLASSES.astype(object)}, {}, "pickled objects.*data.factors=none reads"),
    "names of declined factors": (GOOD, {"factors": "none", "names": ["a", "b", "c"]}, "data.names are given"),
    "address": (GOOD, {"path": "gs://bucket/set.npz"}, "data.path must be a path on a local"),
    "objects": (GOOD | {"images": colours().astype(object)}, {}, "'images' holds pickled objects, which are never"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_contents_are_one_line(tmp_path, case):
    members, arguments, message = WRONG[case]
    path = tmp_path / "set.npz"
    np.savez(path, **members)
    with refused(message):
        archive(**{"path": path} | arguments)


def test_an_unnamed_array_is_read_by_its_name(tmp_path):
    np.savez(tmp_path / "set.npz", colours())
    np.testing.assert_allclose(drawn(archive(tmp_path / "set.npz", images="arr_0")), colours() / 255, rtol=1e-6)


@pytest.mark.parametrize("factors", [with_nan(0), CLASSES.astype(object), CLASSES[:-1]])
def test_factors_of_any_kind_can_be_declined(tmp_path, factors):
    np.savez(tmp_path / "set.npz", images=colours(), labels=factors)
    source = archive(tmp_path / "set.npz", factors="none")
    assert source.ground_truth_names == ()
    assert source.labels.shape == (COUNT, 0)


@pytest.mark.parametrize("kind", ["U", "S", "hdf5"])
def test_labels_of_text_are_classes_in_sorted_order(tmp_path, kind):
    animals = np.array(["dog", "ant", "cat"])[np.arange(COUNT) % 3]
    path = tmp_path / ("set.h5" if kind == "hdf5" else "set.npz")
    if kind == "hdf5":
        with h5py.File(path, "w") as file:
            file["images"] = colours()
            file.create_dataset("labels", data=animals.astype(object), dtype=h5py.string_dtype())
    else:
        np.savez(path, images=colours(), labels=animals.astype(kind))
    source = archive(path)
    np.testing.assert_array_equal(source.labels[:, 0], np.array([2, 0, 1])[np.arange(COUNT) % 3])
    assert source.labels.dtype == np.int32
    assert any("ant 0, cat 1, dog 2" in remark for remark in source.remarks)


def test_texts_that_are_nearly_all_distinct_are_left_out_with_a_remark(tmp_path):
    files = np.array([f"{number}.png" for number in range(COUNT)])
    np.savez(tmp_path / "set.npz", images=colours(), labels=np.stack([files, CLASSES[:, 1].astype(str)], -1))
    source = archive(tmp_path / "set.npz", names=["file", "class"])
    assert source.ground_truth_names == ("class",)
    assert any("'file'" in remark and "left out" in remark for remark in source.remarks)


def test_the_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.savez(tmp_path / "set.npz", **GOOD)
    assert archive("~/set.npz").factor_sizes == SIZES


@pytest.mark.parametrize("name", ["set.zip", "set.tar.gz", "set.npz"])
def test_packed_pictures_are_refused_with_advice(tmp_path, name):
    with zipfile.ZipFile(tmp_path / name, "w") as packed:
        packed.writestr("a.png", b"picture")
    with refused(r"unpack it, and give the folder: data\.name=folder"):
        archive(tmp_path / name)


def test_a_folder_in_place_of_an_archive(tmp_path):
    with pytest.raises(ValueError, match=r"data\.name=folder"):
        archive(tmp_path)


def npz(**members):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **members)
    return buffer.getvalue()


def short_member():
    """An archive whose file is whole, and whose member has lost its last bytes."""
    data, buffer = io.BytesIO(), io.BytesIO()
    np.save(data, colours())
    with zipfile.ZipFile(buffer, "w") as archive_file:
        archive_file.writestr("images.npy", data.getvalue()[:-100])
    return buffer.getvalue()


def flipped(data):
    """A byte changed in the middle of the images."""
    data = bytearray(data)
    data[len(data) // 2] ^= 0xFF
    return bytes(data)


def hdf5(**members):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, array in members.items():
            file[name] = array
    return buffer.getvalue()


DAMAGED = {
    "truncated npz": ("set.npz", lambda: npz(**GOOD)[:-500], "cannot read the archive"),
    "no zip at all": ("set.npz", lambda: b"images", "is not a zip"),
    "flipped": ("set.npz", lambda: flipped(npz(**GOOD)), "cannot read the archive"),
    "short member": ("set.npz", short_member, "'images' should hold 18432 bytes by its header"),
    "truncated hdf5": ("set.h5", lambda: hdf5(**GOOD)[:-500], "cannot read the archive"),
    "no hdf5 at all": ("set.hdf5", lambda: b"images", "cannot read the archive"),
    "other suffix": ("set.mat", lambda: b"images", "'.mat' is none of .npz, .h5, .hdf5"),
    "missing": ("set.npz", None, "No such file"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files_are_one_line(tmp_path, case):
    name, contents, message = DAMAGED[case]
    if contents is not None:
        (tmp_path / name).write_bytes(contents())
    with refused(message):
        archive(tmp_path / name)


def test_without_h5py_an_hdf5_file_is_refused(tmp_path, monkeypatch):
    (tmp_path / "set.h5").write_bytes(hdf5(**GOOD))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ValueError, match="pip install h5py"):
        archive(tmp_path / "set.h5")


def test_images_with_opacity_are_put_on_a_background(tmp_path):
    images = np.concatenate([colours(), np.full((COUNT, 16, 16, 1), 51, np.uint8)], -1)
    np.savez(tmp_path / "set.npz", images=images, factors=CLASSES)
    assert archive(tmp_path / "set.npz").image_shape == (16, 16, 4)
    source = archive(tmp_path / "set.npz", background="white")
    assert source.image_shape == (16, 16, 3)
    np.testing.assert_allclose(drawn(source), 0.2 * colours() / 255 + 0.8, atol=0.0021)
    assert "white" in source.remarks[-1]
    with refused("data.background is for images of 4 channels"):
        np.savez(tmp_path / "rgb.npz", images=colours())
        archive(tmp_path / "rgb.npz", background="white")
    with refused("data.background must be the name of a colour"):
        archive(tmp_path / "set.npz", background="plaid")
