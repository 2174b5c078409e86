"""The digest of a set read from files: equal for equal images and labels, however these are kept."""

import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from deft_jax.data import pixels, stored, subset
from deft_jax.data.archive import archive
from deft_jax.data.folder import folder

SIZES = (3, 2, 4)
LABELS = np.stack(np.unravel_index(np.arange(24), SIZES), -1)
COLOURS = np.random.default_rng(0).integers(0, 256, (24, 5, 3, 3), dtype=np.uint8)
BITS = np.random.default_rng(1).integers(0, 2, (24, 5, 3, 1), dtype=np.uint8)
NAMES = ("a", "b", "c")


def listed(images, **options):
    return stored.listed_source(images, **options).digest


def test_storages_and_layouts_agree():
    assert listed(COLOURS, storage="device") == listed(COLOURS, storage="host")
    layouts = (BITS, BITS > 0, BITS * np.uint8(255), pixels.pack(BITS), np.asfortranarray(BITS))
    assert len({listed(images, storage=storage) for images in layouts for storage in ("device", "host")}) == 1
    assert listed(BITS) != listed(BITS * np.uint8(51))
    assert listed(BITS * np.uint8(51)) == listed(pixels.pack(BITS, 0.2))


def changed(images):
    images = images.copy()
    images[7, 2, 1, 0] ^= 1
    return images


@pytest.mark.parametrize("images", [COLOURS, BITS], ids=["colours", "bits"])
def test_images_that_differ_have_another_digest(images):
    flat = images.reshape(24, 15, 1, -1)
    others = (images[:-1], np.append(images, images[:1], 0), images[::-1], changed(images), flat)
    assert len({listed(other) for other in (images, *others)}) == 6


def test_labels_that_differ_have_another_digest():
    def digest(labels, names=NAMES, **options):
        return listed(COLOURS, label_names=names, labels_NxL=labels, **options)

    moved = LABELS.copy()
    moved[3, 1] += 1
    digests = {
        listed(COLOURS),
        digest(LABELS),
        digest(moved),
        digest(LABELS, ("a", "b", "d")),
        digest(LABELS, continuous=(True, False, False)),
    }
    assert len(digests) == 5
    assert digest(LABELS) == digest(LABELS.astype(np.int8))


def test_a_grid_is_the_same_in_any_order_of_its_rows():
    place = np.random.default_rng(2).permutation(24)
    whole = stored.from_labels(COLOURS, NAMES, LABELS)
    assert whole.is_grid
    assert stored.from_labels(COLOURS[place], NAMES, LABELS[place] * 0.5).digest == whole.digest
    assert stored.from_labels(COLOURS[place], NAMES, LABELS).digest != whole.digest
    assert stored.from_labels(changed(COLOURS), NAMES, LABELS).digest != whole.digest
    assert stored.grid_source(COLOURS, ("a", "b"), (3, 2), repeats=4).digest != whole.digest


def test_large_sets_are_looked_at_in_evenly_spaced_images(monkeypatch):
    monkeypatch.setattr(stored, "DIGEST_BYTES", 6 * COLOURS[0].nbytes)
    whole = listed(COLOURS)
    found = [listed(np.where(np.arange(24)[:, None, None, None] == number, 0, COLOURS)) for number in range(24)]
    seen = [number for number, digest in enumerate(found) if digest != whole]
    assert (len(seen), seen[0], seen[-1]) == (6, 0, 23)
    assert np.ptp(np.diff(seen)) <= 1
    assert listed(COLOURS, storage="host") == whole
    assert listed(COLOURS[:-1]) != whole


@pytest.fixture
def pictures(tmp_path):
    path = tmp_path / "pictures"
    (path / "inside").mkdir(parents=True)
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path / ("inside" if number % 2 else ".") / f"{number}.png")
    return path


def test_a_folder_and_its_copy_have_one_digest(pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    (tmp_path / "elsewhere" / "readme.txt").write_text("no picture")
    (tmp_path / "link").symlink_to(pictures)
    cached = {"cache": tmp_path / "cache.npy"}
    digests = {
        folder(path, size=16, storage=storage, **options).digest
        for path in (pictures, tmp_path / "elsewhere", tmp_path / "link")
        for storage in ("device", "host")
        for options in ({}, cached, cached)
    }
    assert len(digests) == 1
    assert digests != {""}


@pytest.mark.parametrize("options", [{}, {"cache": True}])
def test_a_changed_folder_has_another_digest(pictures, tmp_path, options):
    options = dict.fromkeys(options, tmp_path / "cache.npy")
    digests = [folder(pictures, size=16, **options).digest]
    pixels = np.array(Image.open(pictures / "0.png"))
    pixels[3, 4, 1] ^= 1
    Image.fromarray(pixels).save(pictures / "0.png")
    digests.append(folder(pictures, size=16, **options).digest)
    shutil.copyfile(pictures / "0.png", pictures / "new.png")
    digests.append(folder(pictures, size=16, **options).digest)
    (pictures / "bad.png").write_bytes(b"nothing")
    assert folder(pictures, size=16, faulty="skip", **options).digest == digests[-1]
    (pictures / "new.png").write_bytes(b"nothing")
    digests.append(folder(pictures, size=16, faulty="skip", **options).digest)
    assert len({*digests}) == 3
    assert digests[1] == digests[3]


def test_an_archive_has_one_digest_however_it_is_packed(tmp_path):
    np.savez(tmp_path / "plain.npz", images=BITS, labels=LABELS[:, 0])
    np.savez_compressed(tmp_path / "packed.npz", images=BITS * 255.0 / 255, labels=LABELS[:, 0])
    found = [archive(tmp_path / name, storage=storage) for name in ("plain.npz", "packed.npz")
             for storage in ("device", "host")]  # fmt: skip
    assert len({source.digest for source in found}) == 1
    assert archive(tmp_path / "plain.npz", factors="none").digest != found[0].digest


def test_generated_sets_have_no_digest_and_a_subset_has_that_of_its_set():
    from deft_jax.data import toy

    assert toy.translation().digest == ""
    grid = stored.grid_source(COLOURS, NAMES, SIZES)
    assert subset.subset(grid, {"a": 1}).digest == grid.digest
    assert jax.tree.leaves(grid.arrays)[0].shape == COLOURS.shape
