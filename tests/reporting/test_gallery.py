"""The gallery: random images of a data set, and each factor over its values."""

import json

import numpy as np
import tiny
from PIL import Image

from deft_jax import gallery
from deft_jax.reporting import set_gallery


def test_rows_are_random_images_and_the_values_of_each_factor():
    source = tiny.squares()
    rows = set_gallery.rows(source, columns=5)
    assert list(rows) == ["random", "size", "posX", "posY"]
    assert all(images.shape == (5, 16, 16, 1) for images in rows.values())
    assert len({image.tobytes() for image in rows["random"]}) > 1
    lefts = [np.flatnonzero(image.any(axis=(0, 2)))[0] for image in rows["posX"][:4]]
    assert lefts == [0, 3, 6, 9]
    lefts = [np.flatnonzero(image.any(axis=(0, 2)))[0] for image in set_gallery.rows(source, columns=3)["posX"]]
    assert lefts == [0, 6, 9], "a long factor goes from its first to its last value"
    assert rows["size"][0].sum() == 9
    assert rows["size"][1].sum() == 36
    np.testing.assert_array_equal(rows["size"][2:], 1.0)  # two sizes, and white where there are no more
    np.testing.assert_array_equal(set_gallery.rows(source, columns=5)["random"], rows["random"])
    assert not np.array_equal(set_gallery.rows(source, seed=3, columns=5)["random"], rows["random"])


def test_list_of_images_has_random_images_only():
    assert list(set_gallery.rows(tiny.listed_squares())) == ["random"]


def test_the_command_writes_one_figure_of_several_sets_or_of_one(tmp_path, capsys):
    gallery.main(["squares", "listed_squares", "--out", str(tmp_path / "all.png")])
    gallery.main(["listed_squares", "--out", str(tmp_path / "one.png"), "--options", json.dumps({"labelled": False})])
    assert capsys.readouterr().out.split() == [str(tmp_path / "all.png"), str(tmp_path / "one.png")]
    for name in ("all.png", "one.png"):
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"


def test_the_command_says_which_files_it_left_out(tmp_path, capsys):
    for level in (0, 255):
        Image.new("RGB", (20, 16), (level, 0, 0)).save(tmp_path / f"{level}.png")
    (tmp_path / "broken.png").write_bytes(b"nothing")
    options = {"path": str(tmp_path), "size": 16, "faulty": "skip"}
    gallery.main(["folder", "--out", str(tmp_path / "out.png"), "--options", json.dumps(options)])
    *remarks, path = capsys.readouterr().out.splitlines()
    assert any(remark.startswith("data: 1 faulty left out: 'broken.png'") for remark in remarks)
    assert path == str(tmp_path / "out.png")
