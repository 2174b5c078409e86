"""The toy sets against their geometry: positions, orientations and shapes of the figures."""

import jax
import numpy as np
import pytest

from deft_jax import data
from deft_jax.data import factors, toy

GRIDS = ("cartesian", "honeycomb", "polar")
CENTRES = np.arange(64) + 0.5


def images(source, factors_NxF, key=0):
    """Images [N, 64, 64] of up to 1024 examples, all from one compiled program."""
    padded = np.resize(np.asarray(factors_NxF, np.int32), (1024, len(source.factor_sizes)))
    out = np.asarray(jax.jit(source.render)(source.arrays, padded, jax.random.key(key)))
    assert out.dtype == np.float32
    assert out.shape == (1024, 64, 64, 1)
    assert set(np.unique(out)) == {0.0, 1.0}
    return out[: len(factors_NxF), ..., 0]


def centroids(drawn):
    """(x, y) of the mean white pixel: [N, 2]."""
    area = drawn.sum((1, 2))
    return np.stack([drawn.sum(1) @ CENTRES / area, drawn.sum(2) @ CENTRES / area], -1)


def triangles():
    return data.get("correlated")


def all_discs(grid):
    """Centroids of all discs of a grid: [22, 22, 2], by the first and the second factor."""
    source = data.get("translation", grid=grid)
    drawn = images(source, factors.from_index(np.arange(484), source.factor_sizes))
    return drawn, centroids(drawn).reshape(22, 22, 2)


def wrapped(angle):
    """An angle in radians as the equal one in -pi .. pi."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def exact(latents):
    """How far inside the triangle each pixel centre lies, negative outside: float64 [64, 64].

    Written from the corners, not from the axis as the renderer has it.
    """
    deviation, x, y = latents
    quantile = 45 * jax.scipy.special.ndtri((deviation + 0.5) / 32)
    middle = np.array([16.5 + x, 16.5 + y])
    direction = np.arctan2(32 - middle[1], middle[0] - 32) + np.radians(quantile)
    corners = []
    for radius, opening in ((5.5, 0), (5.5, np.arctan2(3.3, -4.4)), (5.5, -np.arctan2(3.3, -4.4))):
        corners.append(middle + radius * np.array([np.cos(direction + opening), -np.sin(direction + opening)]))
    depth = np.full((64, 64), np.inf)
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        along = (end - start) / np.linalg.norm(end - start)
        depth = np.minimum(depth, along[1] * (CENTRES[None] - start[0]) - along[0] * (CENTRES[:, None] - start[1]))
    return depth


def test_descriptions():
    source = triangles()
    assert source.factor_names == ("deviation", "posX", "posY")
    assert source.factor_sizes == (32, 32, 32)
    assert source.image_shape == (64, 64, 1)
    assert source.likelihood == "bernoulli"
    for grid, names in zip(GRIDS, (("posX", "posY"), ("posX", "posY"), ("radius", "angle")), strict=True):
        source = data.get("translation", grid=grid)
        assert source.factor_names == names
        assert source.factor_sizes == (22, 22)
        assert source.image_shape == (64, 64, 1)
        assert source.likelihood == "bernoulli"
    assert toy.translation() is not toy.translation()
    np.testing.assert_array_equal(toy.translation().arrays["centres"], toy.translation("cartesian").arrays["centres"])


@pytest.mark.parametrize("name", ["correlated", "translation"])
def test_vmap_changes_nothing_and_the_key_is_ignored(name):
    source = data.get(name)
    index = np.random.default_rng(0).integers(0, source.num_images, 24)
    latents = np.asarray(factors.from_index(index, source.factor_sizes))
    compiled = images(source, latents)
    keys = jax.random.split(jax.random.key(1), 24)
    mapped = jax.jit(jax.vmap(lambda f, k: source.render(source.arrays, f[None], k)[0]))(latents, keys)
    # Two programs: a pixel whose centre lies on an edge may fall on either side of it.
    assert np.abs(np.asarray(mapped)[..., 0] - compiled).sum(axis=(1, 2)).max() <= 2
    np.testing.assert_array_equal(images(source, latents, key=9), compiled)


def test_triangles_equal_their_corners():
    latents = [(0, 0, 0), (31, 31, 3), (15, 16, 15), *np.random.default_rng(1).integers(0, 32, (60, 3))]
    for drawn, depth in zip(images(triangles(), latents), map(exact, latents), strict=True):
        clear = np.abs(depth) > 1e-4  # the renderer works in float32
        assert clear.sum() > 4_090
        np.testing.assert_array_equal(drawn[clear], depth[clear] > 0)
        assert 25 < drawn.sum() < 40  # of 9.9 x 6.6 / 2


def test_orientation_is_direction_plus_deviation_in_32_bins():
    sizes = triangles().factor_sizes
    latents = np.asarray(factors.from_index(np.arange(32**3), sizes))
    bins = toy.orientation(latents)
    assert bins.shape == (32**3,)
    assert bins.dtype == np.int32
    assert bins.min() == 0
    assert bins.max() == 31
    dx, dy = (latents[:, 1:] - 15.5).T
    direction = np.arctan2(-dy, dx)
    deviation = wrapped(bins * (2 * np.pi / 32) - direction)
    assert deviation.mean() == pytest.approx(0, abs=0.01)
    # The spread of the deviation, less its binning by medians, more that of an orientation within its bin.
    assert np.degrees(deviation.std()) == pytest.approx(np.hypot(44.1, 11.25 / np.sqrt(12)), abs=0.3)
    # Symmetry: mirrored left to right, with the opposite deviation, the orientation is mirrored.
    mirrored = toy.orientation(np.stack([31 - latents[:, 0], 31 - latents[:, 1], latents[:, 2]], -1))
    np.testing.assert_array_equal((16 - bins) % 32, mirrored)


def test_orientation_goes_with_the_position_and_is_uniform_over_the_set():
    latents = np.asarray(factors.from_index(np.arange(32**3), (32, 32, 32)))
    angle = toy.orientation(latents) * 2 * np.pi / 32
    dx, dy = (latents[:, 1:] - 15.5).T
    agreement = np.cos(angle - np.arctan2(-dy, dx))
    # The mean cosine of N(0, s) is exp(-s^2 / 2); the two binnings move it by less than the tolerance.
    assert agreement.mean() == pytest.approx(np.exp(-((np.pi / 4) ** 2) / 2), abs=0.01)
    assert abs(np.cos(angle).mean()) < 1e-6
    assert abs(np.sin(angle).mean()) < 1e-6
    below = (np.abs(dx) < 2) & (dy > 10)
    assert np.sin(angle[below]).mean() < -0.65


def test_orientation_agrees_with_the_image():
    # Seen in the image: the middle of the 11x11 pixels lies ahead of the centroid. A bin is 0.2 radians wide.
    source, latents = triangles(), np.asarray(factors.from_index(np.arange(5, 32**3, 37), (32, 32, 32)))
    back = 16.5 + latents[:, 1:] - centroids(images(source, latents))
    seen = np.arctan2(-back[:, 1], back[:, 0])
    error = wrapped(seen - toy.orientation(latents) * 2 * np.pi / 32)
    assert np.abs(error).max() < 0.6
    assert np.abs(error).mean() < 0.15


@pytest.mark.parametrize("grid", GRIDS)
def test_discs_have_their_area_and_are_never_cut_off(grid):
    drawn, _ = all_discs(grid)
    area = drawn.sum((1, 2))
    assert area.mean() == pytest.approx(np.pi * 100, rel=0.02)
    assert np.ptp(area) <= 12
    # Along its rows and columns too: about 20 pixels across, both ways.
    for axis in (1, 2):
        across = drawn.sum(axis).max(-1)
        assert across.min() >= 19
        assert across.max() <= 21


def test_cartesian_positions_are_two_pixels_apart():
    drawn, centre = all_discs("cartesian")
    place = 32 + 2 * (np.arange(22) - 10.5)
    np.testing.assert_allclose(centre[..., 0], np.broadcast_to(place[:, None], (22, 22)), atol=1e-4)
    np.testing.assert_allclose(centre[..., 1], np.broadcast_to(place, (22, 22)), atol=1e-4)
    assert len(np.unique(drawn.sum((1, 2)))) == 1  # whole steps: one disc, shifted
    np.testing.assert_array_equal(drawn[0], np.roll(drawn[484 - 1], (-42, -42), (0, 1)))


def test_honeycomb_shifts_every_second_row_by_half_a_step():
    _, centre = all_discs("honeycomb")
    np.testing.assert_allclose(np.diff(centre[..., 0], axis=0), 2, atol=0.02)
    shift = centre[:, 1::2, 0] - centre[:, ::2, 0]
    np.testing.assert_allclose(shift, 1, atol=0.02)
    np.testing.assert_allclose(centre[:, 2:, 0], centre[:, :-2, 0], atol=0.02)
    assert np.diff(centre[..., 1], axis=1).mean() == pytest.approx(np.sqrt(3), abs=0.01)
    np.testing.assert_allclose(centre.mean((0, 1)), 32, atol=0.02)
    # Away from the border everyone has six neighbours at the distance of one step.
    places = toy._centres("honeycomb").reshape(22, 22, 2)
    distance = np.linalg.norm(places.reshape(1, -1, 2) - places[1:-1, 1:-1].reshape(-1, 1, 2), axis=-1)
    np.testing.assert_array_equal(np.sum(np.abs(distance - 2) < 1e-9, axis=1), 6)
    assert np.all(np.sort(distance, axis=1)[:, 7] > 3)
    np.testing.assert_allclose(centre, places, atol=0.15)


def test_polar_positions_lie_at_their_distance_and_angle():
    _, centre = all_discs("polar")
    x, up = centre[..., 0] - 32, 32 - centre[..., 1]
    radius, angle = np.hypot(x, up), np.arctan2(up, x)
    np.testing.assert_allclose(radius, np.broadcast_to(np.arange(1, 23)[:, None], (22, 22)), atol=0.15)
    wanted = np.broadcast_to(2 * np.pi * np.arange(22) / 22, (22, 22))
    np.testing.assert_allclose(radius * wrapped(angle - wanted), 0, atol=0.15)


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match="unknown grid 'hexagonal'; known: cartesian, honeycomb, polar"):
        data.get("translation", grid="hexagonal")
    with pytest.raises(ValueError, match="data has no field 'grid'"):
        data.get("correlated", grid="polar")


@pytest.mark.parametrize("name", ["correlated", "translation"])
def test_factors_of_the_wrong_width_are_refused(name):
    source = data.get(name)
    with pytest.raises(ValueError, match=r"\(2, 5\)"):
        source.render(source.arrays, np.zeros((2, 5), np.int32), None)
    with pytest.raises(ValueError, match=r"\(2, 5\)"):
        toy.orientation(np.zeros((2, 5), np.int32))


def drawn_squares(source, factors_NxF):
    return np.asarray(jax.jit(source.render)(source.arrays, np.asarray(factors_NxF, np.int32), jax.random.key(0)))


@pytest.mark.parametrize("spacing", [2, 8])
def test_squares_are_at_their_factors_each_in_its_colour(spacing):
    source = data.get("xy_squares", spacing=spacing)
    assert source.factor_names == ("x_red", "y_red", "x_green", "y_green", "x_blue", "y_blue")
    assert source.factor_sizes == (56 // spacing + 1,) * 6
    drawn = factors.draw(0, 40, source.factor_sizes)
    for image, places in zip(drawn_squares(source, drawn), drawn.reshape(-1, 3, 2) * spacing, strict=True):
        for channel, (x, y) in enumerate(places):
            want = np.zeros((64, 64))
            want[y : y + 8, x : x + 8] = 1
            np.testing.assert_array_equal(image[..., channel], want)


def test_at_the_default_spacing_all_wrong_positions_are_equally_far():
    source = data.get("xy_squares")
    places = np.zeros((64, 6), np.int32)
    places[:, 0], places[:, 1] = np.divmod(np.arange(64), 8)
    drawn = drawn_squares(source, places).reshape(64, -1)
    distances = ((drawn[:, None] - drawn[None]) ** 2).sum(-1)
    np.testing.assert_array_equal(distances, 128 * (1 - np.eye(64)))


@pytest.mark.parametrize(
    ("spacing", "allowed"),
    [(0, "one of 2, 4, 7, 8"), (3, "one of 2, 4, 7, 8"), ("8", "a whole number")],
)
def test_other_spacings_are_refused(spacing, allowed):
    with pytest.raises(ValueError, match=f"spacing must be {allowed}, got {spacing!r}"):
        data.get("xy_squares", spacing=spacing)
