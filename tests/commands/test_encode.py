"""Codes of pictures and of images in a file are those of the model, in the order of the names or rows."""

import jax
import numpy as np
import pytest
import tiny
from PIL import Image

import deft_jax
from deft_jax import encode


@pytest.fixture(scope="module")
def images():
    """The first twelve squares, uint8 [N, H, W, C]."""
    source = tiny.squares()
    drawn = source.render(source.arrays, np.indices((1, 3, 4)).reshape(3, -1).T, jax.random.key(0))
    return (255 * np.asarray(drawn)).astype(np.uint8)


def run(workdir, path, out, *arguments):
    encode.main(["--workdir", str(workdir), "--images", str(path), "--out", str(out), *arguments])
    with np.load(out, allow_pickle=False) as found:
        return dict(found)


def test_pictures_of_a_folder_have_the_codes_of_their_images(trained_once, images, tmp_path):
    (tmp_path / "pictures/sub").mkdir(parents=True)
    names = [f"{'sub/' * (index % 2)}{index:02d}.png" for index in range(len(images))]
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image[..., 0]).save(tmp_path / "pictures" / name)
    found = run(trained_once, tmp_path / "pictures", tmp_path / "codes.npz")
    assert sorted(found["files"]) == sorted(names)
    model = deft_jax.load(trained_once)
    expected = model.encode(images[[names.index(name) for name in found["files"]]])
    for key, leaf in zip(("mean", "logvar"), expected, strict=True):
        np.testing.assert_allclose(found[key], leaf, rtol=1e-5, atol=1e-6)
    assert found["latents_per_group"].tolist() == [2, 2]
    assert found["stage"] == model.stage


def test_rows_of_a_file_have_the_codes_of_their_images(trained_once, images, tmp_path):
    shuffled = images[np.random.default_rng(0).permutation(len(images))]
    np.savez(tmp_path / "set.npz", images=shuffled, factors=np.arange(len(images))[::-1, None])
    found = run(trained_once, tmp_path / "set.npz", tmp_path / "codes.npz")
    expected = deft_jax.load(trained_once).encode(shuffled)
    np.testing.assert_allclose(found["mean"], expected.mean, rtol=1e-5, atol=1e-6)
    assert "files" not in found


@pytest.mark.parametrize(("path", "arguments", "fault"), [
    ("missing", (), "missing"),
    ("wide.npz", (), "16 x 16 x 1"),
    ("wide.npz", ("--crop=8",), "--crop"),
    ("wide.npz", ("--out=codes.txt",), "--out"),
    (".", ("--crop=0",), "crop"),
    ("wide.npz", ("--step=7777",), "7777"),
])
def test_a_fault_is_one_line_and_nothing_is_written(trained_once, tmp_path, capsys, path, arguments, fault):
    np.savez(tmp_path / "wide.npz", images=np.zeros((3, 16, 32), np.uint8))
    with pytest.raises(SystemExit) as status:
        encode.main([
            "--workdir", str(trained_once), "--images", str(tmp_path / path), "--out", str(tmp_path / "codes.npz"),
            *arguments,
        ])  # fmt: skip
    assert status.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert fault in line
    assert "data.path" not in line
    assert not (tmp_path / "codes.npz").exists()
