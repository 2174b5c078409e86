"""Folders of images: each picture is read once, resized, and decoded again only where something has changed."""

import json
import os
import shutil

import jax
import numpy as np
import pytest
from PIL import Image
from refusals import refused

from deft_jax.data import picture_files
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


def test_padding_keeps_the_aspect_on_the_background_and_width_is_another(tmp_path):
    clear = np.concatenate([picture(0, 20, 10), np.zeros((10, 20, 1), np.uint8)], -1)
    for number in range(2):
        Image.fromarray(clear if number else picture(0, 20, 10)).save(tmp_path / f"{number}.png")
    source = folder(tmp_path, size=20, width=20, fit="pad", background="#0000ff")
    found = np.rint(255 * drawn(source)).astype(int)
    np.testing.assert_array_equal(found[0, 5:15], picture(0, 20, 10))
    assert np.all(found[0, [*range(5), *range(15, 20)]] == (0, 0, 255))
    assert np.all(found[1] == (0, 0, 255))
    assert any("20 x 20" in remark for remark in source.remarks)
    assert folder(tmp_path, size=10, width=20).image_shape == (10, 20, 3)


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


def halves(width, height, mode="RGB"):
    """Red on the left, blue on the right."""
    image = Image.new(mode, (width, height), "red")
    image.paste(Image.new(mode, (width - width // 2, height), "blue"), (width // 2, 0))
    return image


RED, BLUE, WHITE = (1, 0, 0), (0, 0, 1), (1, 1, 1)


@pytest.mark.parametrize(("fit", "rows", "change"), [
    ("stretch", {0: RED, 15: RED, 7: RED}, "stretched"),
    ("pad", {0: WHITE, 15: WHITE, 7: RED}, "padded with white"),
    ("crop", {0: RED, 15: RED, 7: RED}, "cut to the middle"),
])  # fmt: skip
def test_a_picture_of_another_aspect_is_fitted_as_asked_and_stated(tmp_path, fit, rows, change):
    halves(60, 30).save(tmp_path / "wide.png")
    halves(16, 16).save(tmp_path / "square.png")
    source = folder(tmp_path, size=16, fit=fit, background="white")
    square, wide = drawn(source)
    np.testing.assert_allclose(square, np.asarray(halves(16, 16)) / 255, rtol=1e-6)
    for row, colour in rows.items():
        np.testing.assert_allclose(wide[row, 2], colour, atol=0.02)
    np.testing.assert_allclose(wide[7, 13], BLUE, atol=0.02)
    assert source.remarks == (f"1 of 2 pictures resized to 16 x 16, 1 of another aspect ratio {change}",)


def test_images_may_be_oblong(tmp_path):
    (tmp_path / "set").mkdir()
    for number in range(2):
        halves(60, 30).save(tmp_path / "set" / f"{number}.png")
    for cache in (None, tmp_path / "cache.npy", tmp_path / "cache.npy"):
        source = folder(tmp_path / "set", size=15, width=30, cache=cache, fit="pad", background="white")
        assert source.image_shape == (15, 30, 3)
        assert source.remarks == ("2 of 2 pictures resized to 15 x 30",)
        np.testing.assert_allclose(drawn(source)[0, :, 2], np.tile(RED, (15, 1)), atol=0.02)


def test_opacity_is_kept_as_a_channel_or_put_on_the_background(tmp_path):
    for number in range(2):
        image = halves(20, 20, "RGBA")
        image.putalpha(Image.fromarray(np.repeat(np.array([[0], [255]], np.uint8), 10, 0).repeat(20, 1)))
        image.save(tmp_path / f"{number}.png")
    kept = folder(tmp_path, size=20, channels=4)
    assert kept.remarks == ()
    np.testing.assert_array_equal(drawn(kept)[0, :, 0, 3], np.repeat([0, 1], 10))
    padded = drawn(folder(tmp_path, size=20, width=40, channels=4, fit="pad"))
    np.testing.assert_array_equal(padded[0, :, :5], 0)
    for channels in (1, 3):
        on_white = folder(tmp_path, size=20, channels=channels, background="white")
        assert on_white.remarks == ("2 of 2 pictures have transparent parts, put on white",)
        np.testing.assert_array_equal(drawn(on_white)[:, :10], 1)
        np.testing.assert_array_equal(drawn(folder(tmp_path, size=20, channels=channels))[:, :10], 0)


def test_likelihood_is_chosen_and_does_not_change_the_images(pictures):
    sources = {name: folder(pictures, size=16, likelihood=name) for name in ("auto", "bernoulli", "gaussian")}
    assert [source.likelihood for source in sources.values()] == ["bernoulli", "bernoulli", "gaussian"]
    np.testing.assert_array_equal(drawn(sources["gaussian"]), drawn(sources["auto"]))


@pytest.fixture
def decoded(monkeypatch):
    """Paths of the images that were decoded."""
    paths, decode = [], picture_files.decode
    monkeypatch.setattr(picture_files, "decode", lambda path, options: paths.append(path) or decode(path, options))
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
    "size": (None, {"size": 0}, r"data\.size must be from 1 to .*, got 0"),
    "crop": (None, {"crop": 0}, r"data\.crop must be at least 1 pixel, got 0"),
    "channels": (None, {"channels": 2}, r"data\.channels must be one of 1, 3, 4, got 2"),
    "width": (None, {"width": 5_000}, r"data\.width must be from 1 to .*, got 5000"),
    "fit": (None, {"fit": "squeeze"}, r"data\.fit must be one of stretch, pad, crop, got 'squeeze'"),
    "background": (None, {"background": "blak"}, r"data\.background must be .*, got 'blak'"),
    "clear background": (None, {"background": "#00000000"}, r"data\.background must be .*, got"),
    "storage": (None, {"storage": "tape"}, "unknown storage 'tape'"),
    "faulty": (None, {"faulty": "ignore"}, r"data\.faulty must be one of refuse, skip"),
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
    with refused(message):
        folder(pictures, **options)


def test_a_folder_without_images(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds 0 images, at least 2 are needed"):
        folder(tmp_path)


# ---- what is left out, and why ----

FORMATS = ("png", "jpg", "webp", "bmp", "tif", "gif", "JPEG")


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_that_pillow_decodes_counts(tmp_path, ending):
    for number in range(2):
        Image.fromarray(picture(number)).convert("L").save(tmp_path / f"{number}.{ending}")
    source = folder(tmp_path, size=20, channels=1)
    assert source.num_images == 2
    assert source.remarks == ()
    expected = np.stack([np.asarray(Image.open(tmp_path / f"{number}.{ending}").convert("L")) for number in range(2)])
    np.testing.assert_allclose(drawn(source)[..., 0], expected / 255, rtol=1e-6)


@pytest.mark.parametrize("ending", ["gif", "tif"])
def test_of_several_frames_the_first_is_taken_with_a_remark(tmp_path, ending):
    frames = [Image.fromarray(np.full((20, 20), level, np.uint8)) for level in (50, 100, 150)]
    for number in range(2):
        frames[number].save(tmp_path / f"{number}.{ending}", save_all=True, append_images=frames[number + 1 :])
    frames[2].save(tmp_path / "single.png")
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        source = folder(tmp_path, size=20, channels=1, cache=cache)
        np.testing.assert_allclose(drawn(source)[:, 0, 0, 0] * 255, [50, 100, 150], rtol=1e-6)
        assert any("2 files with several frames" in remark for remark in source.remarks)


def test_files_left_out_are_counted_in_a_remark(pictures):
    for name in ("a.csv", "b/b.CSV", "film.mpg", "script.eps", "noending"):
        (pictures / name).write_bytes(b"nothing")
    remark, = folder(pictures, size=20).remarks
    assert remark.startswith("8 files left out: 6 with other endings (")
    assert "2 hidden" in remark
    for part in (".csv 2", ".txt 1", ".mpg 1", ".eps 1", "none 1"):
        assert part in remark


def test_links_are_followed(pictures, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    Image.fromarray(picture(7)).save(outside / "x.png")
    Image.fromarray(picture(8)).save(tmp_path / "y.png")
    (pictures / "linked").symlink_to(outside)
    (pictures / "b" / "linked.png").symlink_to(tmp_path / "y.png")
    (tmp_path / "way").symlink_to(pictures)
    for path in (pictures, tmp_path / "way"):
        assert folder(path, size=20).num_images == 6
    expected = np.stack([picture(number) for number in (0, 1, 2, 8, 3, 7)]) / 255
    np.testing.assert_allclose(drawn(folder(pictures, size=20)), expected, rtol=1e-6)


def test_links_in_a_circle_end_and_each_folder_is_read_once(pictures):
    without_links = folder(pictures, size=20)
    (pictures / "b" / "c" / "up").symlink_to(pictures)
    (pictures / "a_sibling").symlink_to(pictures / "b")
    (pictures / "self").symlink_to(pictures / "self")
    source = folder(pictures, size=20)
    assert source.digest == without_links.digest
    assert any("2 linked folders left out" in remark for remark in source.remarks)


def spoil(path, count):
    names = [f"bad_{number:02}.png" for number in range(count)]
    for name in names:
        (path / name).write_bytes(b"nothing")
    return names


def test_all_faulty_files_are_named_at_once(pictures):
    names = spoil(pictures, 3)
    truncated(pictures)
    (pictures / "gone.png").symlink_to(pictures / "nowhere.png")
    with pytest.raises(ValueError, match="5 of 9 images") as caught:
        folder(pictures, size=16)
    for name in (*names, "bad.jpg", "gone.png", "data.faulty=skip"):
        assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("storage", ["device", "host"])
def test_faulty_files_are_skipped_when_asked(pictures, tmp_path, storage, decoded):
    without_faults = folder(pictures, size=16)
    spoil(pictures, 13)
    Image.fromarray(np.zeros((20, 20), np.uint16)).save(pictures / "c.png")
    del decoded[:]
    for cache, times in ((None, 18), (tmp_path / "cache", 18), (tmp_path / "cache", 0)):
        source = folder(pictures, size=16, storage=storage, cache=cache, faulty="skip")
        assert len(decoded) == times
        del decoded[:]
        np.testing.assert_array_equal(drawn(source), drawn(without_faults))
        assert source.digest == without_faults.digest
        skipped, = (remark for remark in source.remarks if "faulty" in remark)
        assert skipped.startswith("14 faulty left out: 'bad_00.png'")
        assert skipped.endswith("and 4 more")
    with pytest.raises(ValueError, match="14 of 18 images"):
        folder(pictures, size=16, cache=tmp_path / "cache")


def test_fewer_than_two_images_are_refused_and_not_cached(pictures, tmp_path):
    with pytest.raises(ValueError, match=r"holds 0 images, at least 2 are needed.*4 faulty"):
        folder(pictures, crop=21, faulty="skip", cache=tmp_path / "cache.npy")
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


def test_a_pipe_is_refused_without_blocking(pictures):
    os.mkfifo(pictures / "pipe.png")
    with pytest.raises(ValueError, match=r"'pipe\.png': is not a regular file"):
        folder(pictures)


def test_a_folder_that_cannot_be_listed_is_faulty(pictures, monkeypatch):
    walk = os.walk

    def refusing(top, onerror=None, **options):
        for below, folders, names in walk(top, onerror=onerror, **options):
            if "b" in folders:
                folders.remove("b")
                onerror(PermissionError(13, "Permission denied", os.path.join(below, "b")))
            yield below, folders, names

    monkeypatch.setattr(picture_files.os, "walk", refusing)
    with pytest.raises(ValueError, match="'b': Permission denied"):
        folder(pictures)
    assert any("'b': Permission denied" in remark for remark in folder(pictures, faulty="skip").remarks)


# ---- paths ----


@pytest.mark.parametrize("name", ["set.zip", "set.tar.gz", "set"])
def test_packed_pictures_are_refused_with_advice(tmp_path, pictures, name):
    base = str(tmp_path / "packed")
    kind = {".tar": "tar", ".gz": "gztar"}.get(os.path.splitext(name)[1], "zip")
    os.rename(shutil.make_archive(base, kind, pictures), tmp_path / name)
    with refused("unpack it"):
        folder(tmp_path / name)


@pytest.mark.parametrize(("name", "message"), [("set.npz", r"data\.name=archive"), ("a.png", "is a file")])
def test_a_file_in_place_of_a_folder(tmp_path, name, message):
    np.savez(tmp_path / "set.npz", np.zeros(3))
    Image.fromarray(picture(0)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=message):
        folder(tmp_path / name)


def test_the_home_folder_is_expanded_and_buckets_are_refused(pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert folder("~/pictures", size=16, cache="~/cache.npy").num_images == 4
    assert (tmp_path / "cache.npy").exists()
    with pytest.raises(ValueError, match=r"data\.path must be a path on a local"):
        folder("gs://bucket/pictures")
    with pytest.raises(ValueError, match=r"data\.cache must be a path on a local"):
        folder(pictures, cache="s3://bucket/cache.npy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache.npy", "cache.npy.json", "pictures"]
