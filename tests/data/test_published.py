"""MPI3D, Falcor3D and Isaac3D: small files of the published layout; refusals say where to get the genuine ones."""

import math

import jax
import numpy as np
import pytest
from PIL import Image
from refusals import refused

from deft_jax import data
from deft_jax.data import factors, published

SMALL = (2, 2, 1, 1, 1, 2, 3)


@pytest.fixture
def small(monkeypatch):
    """MPI3D of 24 images, its real_complex of 12, Isaac3D and Falcor3D of 8 and 4 pictures."""
    monkeypatch.setitem(published.MPI3D_SIZES, "toy", SMALL)
    monkeypatch.setitem(published.MPI3D_SIZES, "real_complex", (1, *SMALL[1:]))
    monkeypatch.setattr(published, "ISAAC3D", published.ISAAC3D._replace(sizes=(2, 1, 1, 1, 2, 1, 1, 1, 2)))
    monkeypatch.setattr(published, "FALCOR3D", published.FALCOR3D._replace(sizes=(2, 1, 1, 1, 1, 1, 2)))


def numbered_images(count, side=64):
    """Images whose first pixel is their number."""
    images = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(count)
    return images


def drawn(source):
    every = np.asarray(factors.from_index(np.arange(source.num_images), source.factor_sizes))
    return np.rint(255 * np.asarray(source.render(source.arrays, every, jax.random.key(0)))).astype(np.uint8)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("storage", ["auto", "host"])
def test_mpi3d_has_its_images_in_the_order_of_its_factors(small, tmp_path, save, storage):
    images = numbered_images(24)
    save(tmp_path / "toy.npz", images=images)
    source = data.get("mpi3d", path=tmp_path / "toy.npz", storage=storage)
    assert source.factor_names == published.MPI3D_NAMES
    assert source.factor_sizes == SMALL
    assert bool(source.arrays) == (storage == "auto")
    np.testing.assert_array_equal(drawn(source), images)
    assert data.get("mpi3d(object_color=1)", path=tmp_path / "toy.npz").num_images == 12


@pytest.mark.parametrize(("name", "in_images", "digits"), [("isaac3d", True, 6), ("falcor3d", False, 6)])
def test_pictures_are_taken_by_their_numbers(small, tmp_path, name, in_images, digits):
    grid = getattr(published, name.upper())
    images = numbered_images(math.prod(grid.sizes), side=16)
    folder = tmp_path / "images" if in_images else tmp_path
    folder.mkdir(exist_ok=True)
    labels = np.stack(np.unravel_index(np.arange(len(images)), grid.sizes), -1) / 7
    with open(tmp_path / "train-rec.labels", "wb") as file:
        np.save(file, labels)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:0{digits}}.png")
    source = data.get(name, path=tmp_path, size=16)
    assert (source.factor_names, source.factor_sizes) == (grid.names, grid.sizes)
    np.testing.assert_array_equal(drawn(source), images)
    (folder / "000002.png").unlink()
    with refused("000002.png; get .*github.com/NVlabs"):
        data.get(name, path=tmp_path, size=16)
    Image.fromarray(images[0]).save(folder / "cover.png")
    with refused("'cover.png'"):
        data.get(name, path=tmp_path, size=16)


@pytest.mark.parametrize(("labels", "message"), [
    (np.stack(np.unravel_index(np.arange(8), (2, 1, 1, 1, 2, 1, 1, 1, 2)), -1)[::-1], "other values of object_shape"),
    (np.zeros((8, 7)), r"it holds \[8, 7\] numbers, not \[8, 9\]"),
    (np.array([None] * 8), "cannot read .*labels.npy"),
])  # fmt: skip
def test_labels_of_another_order_are_refused(small, tmp_path, labels, message):
    np.save(tmp_path / "labels.npy", labels)
    with refused(f"{message}.*github.com/NVlabs"):
        data.get("isaac3d", path=tmp_path)


def test_mpi3d_is_found_in_its_folder_and_the_name_of_another_variant_is_refused(small, tmp_path):
    with refused("holds no mpi3d_toy.npz; get mpi3d_toy.npz from .*github.com/rr-learning"):
        data.get("mpi3d", path=tmp_path)
    np.savez(tmp_path / "mpi3d_toy.npz", images=numbered_images(24))
    assert data.get("mpi3d", path=tmp_path).num_images == 24
    with refused("mpi3d_toy.npz is the file of data.variant=toy, not of real; get mpi3d_real.npz"):
        data.get("mpi3d", path=tmp_path / "mpi3d_toy.npz", variant="real")


def test_sizes_and_multipliers_are_those_that_the_authors_publish():
    assert {name: math.prod(sizes) for name, sizes in published.MPI3D_SIZES.items()} == {
        "toy": 1_036_800, "realistic": 1_036_800, "real": 1_036_800, "real_complex": 460_800,
    }  # fmt: skip
    steps = {}
    for grid in (published.FALCOR3D, published.ISAAC3D):
        steps[grid.title] = [math.prod(grid.sizes[place:]) for place in range(len(grid.sizes) + 1)]
    assert steps["Falcor3D"] == [233_280, 46_656, 7_776, 1_296, 216, 36, 6, 1]
    assert steps["Isaac3D"] == [737_280, 245_760, 30_720, 6_144, 1_536, 384, 96, 16, 4, 1]


@pytest.mark.parametrize(("members", "options", "fault"), [
    ({"images": numbered_images(12)}, {}, "data.variant=real_complex"),
    ({"images": numbered_images(24)}, {"variant": "real_complex"}, "data.variant=toy"),
    ({"images": numbered_images(23)}, {}, "github.com/rr-learning"),
    ({"images": numbered_images(24).astype(np.float32)}, {}, "uint8"),
    ({"images": np.array([None] * 24)}, {}, "pickled"),
    ({"imgs": numbered_images(24)}, {}, "imgs"),
    ({"images": numbered_images(24)}, {"variant": "fake"}, "data.variant"),
])  # fmt: skip
def test_another_file_is_refused_in_one_line(small, tmp_path, members, options, fault):
    np.savez(tmp_path / "set.npz", **members)
    with refused(fault):
        data.get("mpi3d", path=tmp_path / "set.npz", **options)


@pytest.mark.parametrize(("name", "page"), [("mpi3d", "rr-learning"), ("falcor3d", "NVlabs"), ("isaac3d", "NVlabs")])
def test_a_missing_set_names_the_page_that_has_it(tmp_path, name, page):
    with refused(f"https://github.com/{page}"):
        data.get(name, path=tmp_path / "missing.npz")
