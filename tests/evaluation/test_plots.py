"""Figures: what is drawn where, and files that are complete or absent."""

import os
import pathlib

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from deft_jax.evaluation import latent_selection, plots

RNG = np.random.default_rng(0)
NAMES = ["shape", "scale", "posX"]
STEPS = np.arange(0, 500, 100)
STAGES = {"stage_starts": (0, 200), "betas": (70, 0.5)}


def _figures():
    labels = ["z0 (group 0)  KL 2.41", "z1"]
    return {
        "traversals": plots.traversals(RNG.random((2, 3, 16, 16, 1)), labels, [-1, 0, 1]),
        "reconstructions": plots.reconstructions(*RNG.random((2, 5, 16, 16, 3)), columns=3),
        "heatmap": plots.nmi_heatmap(RNG.random((4, 3)), NAMES, [0, 0, 1, 1], title="nmi"),
        "nmi": plots.nmi_over_time(STEPS, RNG.random((5, 3)), NAMES, "NMI2", **STAGES),
        "kl": plots.kl_over_time(STEPS, RNG.random((5, 4)), [0, 0, 1, 1], **STAGES),
    }


def _texts(figure):
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


@pytest.mark.filterwarnings("error")
def test_every_figure_saves_as_png(tmp_path):
    for name, figure in _figures().items():
        assert isinstance(figure, Figure)
        path = plots.save(figure, tmp_path / "new" / "folder" / f"{name}.png")
        pixels = imread(path)
        height, width = np.round(figure.get_size_inches() * plots.DPI).astype(int)[::-1]
        assert pixels.shape[:2] == (height, width)
        assert pixels[..., :3].std() > 0.01, name
    assert sorted(os.listdir(tmp_path / "new" / "folder")) == sorted(f"{name}.png" for name in _figures())


def test_failed_save_leaves_the_old_file_unchanged(tmp_path):
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")

    class Broken:
        def savefig(self, file, **_):
            file.write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        plots.save(Broken(), path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["figure.png"]


def test_pyplot_is_not_imported():
    folder = pathlib.Path(plots.__file__).parents[1]
    assert not [path for path in folder.rglob("*.py") if "matplotlib.pyplot" in path.read_text()]


def _saved_axes(figure, tmp_path):
    """The saved pixels of the axes of a mosaic, as floats [H, W, 3], and its pixels per image pixel."""
    pixels = imread(plots.save(figure, tmp_path / "mosaic.png"))[..., :3]
    box = figure.axes[0].get_position()
    height, width = pixels.shape[:2]
    top, left = round((1 - box.y1) * height), round(box.x0 * width)
    drawn = pixels[top : top + round(box.height * height), left : left + round(box.width * width)]
    return drawn, len(figure.axes[0].images[0].get_array())


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
def test_traversal_shows_each_image_in_its_row_and_column(tmp_path, channels):
    images = np.round(RNG.random((3, 4, 17, 17, channels)) * 255) / 255
    drawn, rows = _saved_axes(plots.traversals(images, "abc", range(4)), tmp_path)
    scale, remainder = divmod(len(drawn), rows)
    assert remainder == 0, "an image pixel must be a whole number of pixels of the file"
    once = drawn[scale // 2 :: scale, scale // 2 :: scale]
    for d in range(3):
        for t in range(4):
            tile = once[d * 18 : d * 18 + 17, t * 18 : t * 18 + 17]
            np.testing.assert_allclose(tile, _on_screen(images[d, t]), atol=1 / 255)


def _on_screen(image):
    """An image of any number of channels as colours."""
    *_, channels = image.shape
    if channels == 2:
        return np.dstack([image, np.zeros(image.shape[:2])])
    if channels == 4:  # over white
        return 1 - image[..., 3:] * (1 - image[..., :3])
    return np.broadcast_to(image[..., :3], (*image.shape[:2], 3))


def test_gallery_shows_sets_of_different_channels_and_clips_them():
    figure = plots.gallery({"grey": np.full((1, 4, 4, 1), -3.0), "two": np.full((1, 4, 4, 2), 9.0)})
    canvas = figure.axes[0].images[0].get_array()
    np.testing.assert_array_equal(canvas[0, 0], [0, 0, 0])
    np.testing.assert_array_equal(canvas[-1, -1], [1, 1, 0])


def test_reconstruction_is_below_its_original(tmp_path):
    originals, decoded = np.round(RNG.random((2, 5, 20, 20, 3)) * 255) / 255
    figure = plots.reconstructions(originals, decoded, columns=3)
    canvas = np.asarray(figure.axes[0].images[0].get_array())
    assert canvas.shape[:2] == (4 * 21 + 2 - 1, 3 * 21 - 1)  # one pixel between images, three between pairs
    for n in range(5):
        top, left = n // 3 * (2 * 21 + 2), n % 3 * 21
        np.testing.assert_array_equal(canvas[top : top + 20, left : left + 20], originals[n])
        np.testing.assert_array_equal(canvas[top + 21 : top + 41, left : left + 20], decoded[n])
    np.testing.assert_array_equal(canvas[-20:, -20:], 1)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["original", "reconstruction"] * 2


def test_heatmap_writes_numbers_names_and_groups():
    values = np.array([[0.81, 0.02], [0.1, 0.34], [0, 1]])
    figure = plots.nmi_heatmap(values, ["size", "hue"], [0, 0, 1], "title")
    texts = _texts(figure)
    for expected in ("0.81", "0.02", "0.10", "0.34", "0.00", "1.00", "size", "hue", "z2", "group 1", "title"):
        assert expected in texts
    assert [line.get_ydata()[0] for line in figure.axes[0].lines] == [1.5]
    assert not plots.nmi_heatmap(np.eye(2), ["a", "b"]).axes[0].lines


def test_lines_have_the_values_and_stages_their_betas():
    values = RNG.random((5, 3))
    axes = plots.nmi_over_time(STEPS, values, NAMES, "NMI2", **STAGES).axes[0]
    assert axes.get_ylabel() == "NMI2"
    for line, name, column in zip(axes.lines, NAMES, values.T, strict=True):
        assert line.get_label() == name
        np.testing.assert_array_equal(line.get_xydata(), np.stack([STEPS, column], axis=1))
    assert [text.get_text() for text in axes.texts] == ["β = 70", "β = 0.5"]
    boundaries = [segment[0, 0] for segment in axes.collections[0].get_segments()]
    np.testing.assert_array_equal(boundaries, [0, 200])
    assert not plots.nmi_over_time(STEPS, values, NAMES, "NMI2", stage_starts=(0, 200)).axes[0].texts


def test_kl_lines_share_a_colour_within_a_group_and_differ_otherwise():
    lines = plots.kl_over_time(STEPS, RNG.random((5, 6)), [0, 0, 1, 1, 2, 2]).axes[0].lines
    colours, dashes = [line.get_color() for line in lines], [line.get_linestyle() for line in lines]
    assert colours[0] == colours[1]
    assert len(set(colours)) == 3
    assert dashes[0] != dashes[1]


@pytest.mark.filterwarnings("error")
def test_curves_of_one_step_or_of_nan_are_drawn(tmp_path):
    figures = {
        "one": plots.nmi_over_time([100], [[0.2, 0.1]], ["a", "b"], "NMI2", (0,), (4,)),
        "nan": plots.kl_over_time([0, 1], np.full((2, 1), np.nan), [0]),
        "zero": plots.kl_over_time([0], np.zeros((1, 2)), [0, 1], (0,), (4,)),
    }
    for name, figure in figures.items():
        assert plots.save(figure, tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_latents_of_highest_kl_are_shown_in_their_order():
    assert latent_selection.shown_latents([0.5, 2, 1, np.nan, 2, 1, 1], most=4).tolist() == [1, 2, 4, 5]
    assert latent_selection.shown_latents([np.nan, 0.0], most=1).tolist() == [1]
    assert latent_selection.shown_latents(np.zeros(128)).tolist() == list(range(20))
    assert latent_selection.shown_latents([3, 1, 2]).tolist() == [0, 1, 2]
    assert latent_selection.selection_note(3, 3) == ""


MANY = 128
KL = RNG.permutation(MANY) / 10
BEST = np.flatnonzero(KL >= (MANY - 20) / 10)  # twenty


def test_figures_show_the_twenty_of_many_latents_with_highest_kl():
    nmi = RNG.random((MANY, 2))
    nmi[BEST[0]] = [0.125, 0.875]
    groups = np.arange(MANY) // 64
    heat = plots.nmi_heatmap(nmi, ["a", "b"], groups, "title", kl_D=KL)
    assert [label.get_text() for label in heat.axes[0].get_yticklabels()] == [f"z{d}" for d in BEST]
    np.testing.assert_array_equal(heat.axes[0].images[0].get_array(), nmi[BEST])
    [boundary] = heat.axes[0].lines
    assert boundary.get_ydata()[0] == (BEST < 64).sum() - 0.5
    kl = plots.kl_over_time(STEPS, np.stack([np.zeros(MANY)] * 4 + [KL]), groups, **STAGES)
    assert [line.get_label() for line in kl.axes[0].lines] == [f"z{d} (group {groups[d]})" for d in BEST]
    for line, latent in zip(kl.axes[0].lines, BEST, strict=True):
        assert line.get_ydata()[-1] == KL[latent]
    for figure in (heat, kl):
        assert any("20 of 128 latents" in text for text in _texts(figure))


IMAGES = np.zeros((2, 3, 8, 8, 1))
ROW = IMAGES[0]


@pytest.mark.parametrize(("draw", "message"), [
    (lambda: plots.traversals(ROW, ["a"], [0, 1, 2]), r"images .* \[D, T, H, W, C\] .*\(3, 8, 8, 1\)"),
    (lambda: plots.traversals(IMAGES, ["a"], [0, 1, 2]), "1 labels, but 2 rows of images"),
    (lambda: plots.gallery({"a": ROW, "b": ROW[:2]}), "one number and size"),
    (lambda: plots.nmi_heatmap(np.eye(2), ["a", "b"], kl_D=[1.0]), "1 KLs, but 2 latents"),
    (lambda: plots.reconstructions(ROW, ROW[:2]), r"differ in shape: \(3, 8, 8, 1\), \(2, 8, 8, 1\)"),
    (lambda: plots.reconstructions(ROW, ROW, columns=0), "columns must be >= 1"),
    (lambda: plots.nmi_heatmap(np.eye(3), ["a", "b"]), "2 factor names, but 3 columns of nmi"),
    (lambda: plots.nmi_heatmap(np.eye(2), ["a", "b"], [0]), r"group_of_latent must have shape \(2,\)"),
    (lambda: plots.nmi_over_time([0, 1], np.eye(3), ["a"] * 3, "y"), "2 steps, but 3 rows of nmi"),
    (lambda: plots.kl_over_time([0, 1], np.eye(2), [0, 0], (0, 1), (4,)), "1 betas, but 2 stage starts"),
])
def test_wrong_shapes_are_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
