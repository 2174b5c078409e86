"""Folders of images: each picture once, resized once, and decoded again only when something has changed."""

import json
import os

import jax
import numpy as np
import pytest
from PIL import Image

from deft_jax.data import folder as module
from deft_jax.data.folder import folder


def picture(number, width=20, height=20):
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def pictures(tmp_path):
    """Four images, two folders deep, among files that are none."""
    path = tmp_path / "pictures"
    (path / "b" / "c").mkdir(parents=True)
    (path / ".hidden").mkdir()
    for number, name in enumerate(("a.png", "b/c/z.BMP", "b/d.png", "e.webp")):
        Image.fromarray(picture(number)).save(path / name, lossless=True)
    Image.fromarray(picture(9)).save(path / ".hidden" / "x.png")
    (path / "._a.png").write_bytes(b"nothing")
    (path / "readme.txt").write_bytes(b"nothing")
    return path


def drawn(source):
    factors_NxF = np.arange(source.num_images, dtype=np.int32)[:, None]
    return np.asarray(jax.jit(source.render)(source.arrays, factors_NxF, jax.random.key(0)))


def test_pictures_are_kept_in_the_order_of_their_names(pictures):
    source = folder(pictures, size=20)
    assert (source.factor_names, source.factor_sizes, source.labels.shape) == (("image",), (4,), (4, 0))
    np.testing.assert_allclose(drawn(source), np.stack([picture(number) for number in range(4)]) / 255, rtol=1e-6)


def test_crop_takes_the_middle_and_lanczos_resizes(tmp_path):
    for number in range(2):
        Image.fromarray(picture(number, width=31, height=24)).save(tmp_path / f"{number}.png")
    found = drawn(folder(tmp_path, size=8, crop=16))
    for number in range(2):
        middle = Image.fromarray(picture(number, width=31, height=24)[4:20, 7:23])
        expected = np.asarray(middle.resize((8, 8), Image.Resampling.LANCZOS))
        np.testing.assert_allclose(found[number], expected / 255, rtol=1e-6)


def test_grey_transparent_and_turned(tmp_path):
    clear = np.concatenate([picture(0), np.zeros((20, 20, 1), np.uint8)], -1)
    clear[:10, :, 3] = 255
    Image.fromarray(clear).save(tmp_path / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by half
    Image.fromarray(picture(1)).save(tmp_path / "b.png", exif=exif)
    expected = np.stack([np.where(clear[..., 3:] > 0, clear[..., :3], 0), picture(1)[::-1, ::-1]])
    np.testing.assert_allclose(drawn(folder(tmp_path, size=20)), expected / 255, rtol=1e-6)

    grey = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in expected])[..., None]
    np.testing.assert_allclose(drawn(folder(tmp_path, size=20, channels=1)), grey / 255, rtol=1e-6)


@pytest.fixture
def decoded(monkeypatch):
    """Paths of the images that were decoded."""
    paths, decode = [], module._decode
    monkeypatch.setattr(module, "_decode", lambda path, *options: paths.append(path) or decode(path, *options))
    return paths


@pytest.mark.parametrize("storage", ["device", "host"])
def test_cache_is_used_until_something_changes(pictures, tmp_path, decoded, storage):
    cache = tmp_path / "cache.npy"
    expected = drawn(folder(pictures, size=16))
    del decoded[:]

    def check(times, **options):
        found = drawn(folder(pictures, **{"size": 16, "storage": storage, "cache": cache} | options))
        assert len(decoded) == times
        del decoded[:]
        return found

    np.testing.assert_array_equal(check(4), expected)
    np.testing.assert_array_equal(check(0), expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache.npy", "cache.npy.json", "pictures"]

    check(4, size=8)
    check(4, channels=1)
    check(4, crop=12)
    np.testing.assert_array_equal(check(4), expected)
    os.utime(pictures / "a.png", ns=(1, 1))
    check(4)
    (pictures / "a.png").rename(pictures / "a2.png")
    check(4)
    (pictures / "a2.png").unlink()
    check(3)
    check(0)

    # Neither a foreign array, nor a damaged record, nor a damaged array is taken for the images.
    np.save(cache, np.zeros((3, 16, 16, 3), np.uint8))
    np.testing.assert_array_equal(check(3), expected[1:])
    (tmp_path / "cache.npy.json").write_text("{")
    check(3)
    record = json.loads((tmp_path / "cache.npy.json").read_text())
    cache.write_bytes(b"nothing")
    (tmp_path / "cache.npy.json").write_text(json.dumps(record | {"written": cache.stat().st_mtime_ns}))
    np.testing.assert_array_equal(check(3), expected[1:])


def test_a_failure_leaves_the_cache_as_it_was(pictures, tmp_path):
    cache = tmp_path / "cache.npy"
    folder(pictures, size=16, cache=cache)
    before = cache.read_bytes()
    (pictures / "broken.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"broken\.png"):
        folder(pictures, size=16, cache=cache)
    assert cache.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache.npy", "cache.npy.json", "pictures"]


def truncated(path):
    Image.fromarray(picture(5, 200, 200)).save(path / "bad.jpg")
    (path / "bad.jpg").write_bytes((path / "bad.jpg").read_bytes()[:2000])


WRONG = {
    "size": (None, {"size": 0}, "size and crop must be at least 1, got 0 and None"),
    "crop": (None, {"crop": 0}, "size and crop must be at least 1, got 64 and 0"),
    "channels": (None, {"channels": 4}, "channels must be 1 or 3, got 4"),
    "storage": (None, {"storage": "tape"}, "unknown storage 'tape'"),
    "large crop": (None, {"crop": 21}, r"a\.png': is 20x20, smaller than the crop of 21x21"),
    "cache nowhere": (None, {"cache": "/nowhere/at/all.npy"}, "cannot keep decoded images in '/nowhere/at/all.npy'"),
    "truncated": (truncated, {}, r"cannot read the image .*bad\.jpg'"),
    "no image": (lambda path: (path / "bad.png").write_bytes(b"x"), {}, r"cannot read the image .*bad\.png'"),
    "empty file": (lambda path: (path / "bad.bmp").write_bytes(b""), {}, r"cannot read the image .*bad\.bmp'"),
    "16 bits": (lambda path: Image.fromarray(np.zeros((20, 20), np.uint16)).save(path / "bad.png"), {},
                r"bad\.png': has more than 8 bits a channel"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line(pictures, case):
    spoil, options, message = WRONG[case]
    if spoil is not None:
        spoil(pictures)
    with pytest.raises(ValueError, match=message) as caught:
        folder(pictures, **options)
    assert "\n" not in str(caught.value)


def test_a_folder_without_images(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds 0 images, at least 2 are needed"):
        folder(tmp_path)
