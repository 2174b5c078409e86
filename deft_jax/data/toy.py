"""Small binary sets, drawn in the compiled step.

`correlated`, a triangle that tends to point away from the centre, and `translation`, a disc on a grid, are sets of DEFT
(Wu et al. 2022, arXiv 2102.03986). `xy_squares` is XYSquares (Michlo et al., disent, 2021). Lengths are in
pixels, y points down, pixel i covers [i, i + 1), and a pixel is white when its centre is in the shape. Angles are
counter-clockwise on screen, 0 to the right. Positions and orientations of the figures are tabulated on the host,
in float64, by image number.
"""

import statistics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from deft_jax.data import factors
from deft_jax.data.source import Source

SIDE = 64
CENTRE = SIDE / 2

CORRELATED_NAMES = ("deviation", "posX", "posY")
CORRELATED_SIZES = (32, 32, 32)
SPREAD = np.pi / 4  # standard deviation of the triangle's deviation
TIP, BASE, HALF_BASE = 5.5, -4.4, 3.3  # all three corners lie 5.5 from the triangle's middle

TRANSLATION_SIZES = (22, 22)
RADIUS = 10
STEP = 2
SQUARES = ("red", "green", "blue")
SQUARE_SIDE = 8

GRIDS = ("cartesian", "honeycomb", "polar")


def _to_pixel_centres(places_NxP: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Right and down from (x, y), the first two of each row, to every pixel centre: [N, 1, 64] and [N, 64, 1]."""
    centres = jnp.arange(SIDE) + 0.5
    right, down = (centres - places_NxP[:, axis, None] for axis in (0, 1))
    return right[:, None, :], down[:, :, None]


def _poses() -> npt.NDArray[np.float64]:
    """Place and orientation of the triangle by image number: float64 [32768, 3], columns x, y, angle."""
    bins = (np.arange(CORRELATED_SIZES[0]) + 0.5) / CORRELATED_SIZES[0]
    deviation = SPREAD * np.array([statistics.NormalDist().inv_cdf(level) for level in bins])
    # 1 pixel between neighbours, symmetrical about the centre. No triangle is at the centre, where the direction is
    # undefined.
    place = CENTRE + np.arange(CORRELATED_SIZES[1]) - (CORRELATED_SIZES[1] - 1) / 2
    deviation, x, y = np.meshgrid(deviation, place, place, indexing="ij")
    return np.stack([x, y, np.arctan2(CENTRE - y, x - CENTRE) + deviation], -1).reshape(-1, 3)


def orientation(factors_NxF: npt.ArrayLike) -> npt.NDArray[np.int32]:
    """Orientation of the triangles of `correlated`, to score a representation against.

    Args:
      factors_NxF: integers [N, 3]: deviation, posX, posY. Values out of range are not detected.

    Returns:
      int32 [N] in 0 .. 31, numpy: k where the tip points within half a bin of 11.25 k degrees, counter-clockwise on
      screen from the right.

    Raises:
      ValueError: the factors are not integers, or not three.

    Example:
      A triangle on the right of the centre, level with it, points to the right give or take its deviation:

      >>> orientation([[0, 31, 16], [16, 31, 16], [31, 31, 16]]).tolist()
      [23, 0, 8]
    """
    angle = _poses()[np.asarray(factors.to_index(factors_NxF, CORRELATED_SIZES)), 2]
    return np.rint(angle / (2 * np.pi) * 32).astype(np.int32) % 32


def draw_triangle(arrays: Any, factors_NxF: npt.ArrayLike, key: jax.Array) -> jax.Array:
    """Renders `correlated`: float32 [N, 64, 64, 1] of 0 and 1; the key is not used."""
    del key
    poses_Nx4 = arrays["poses"][factors.to_index(factors_NxF, CORRELATED_SIZES)]
    right, down = _to_pixel_centres(poses_Nx4)
    cos, sin = poses_Nx4[:, 2, None, None], poses_Nx4[:, 3, None, None]
    along, across = right * cos - down * sin, right * sin + down * cos
    inside = (along >= BASE) & (jnp.abs(across) <= HALF_BASE * (TIP - along) / (TIP - BASE))
    return inside.astype(jnp.float32)[..., None]


def correlated() -> Source:
    """A triangle that points away from the image's centre, give or take N(0, 45 degrees), at 32x32 positions.

    A set of DEFT (Wu et al. 2022) with correlated factors. The orientation depends on the position, so it cannot be a
    factor that is drawn independently. The factor in its place is the deviation from the direction (centre ->
    triangle), in 32 bins of equal probability, each drawn at its median. Uniform and independent factors then give the
    joint distribution of orientation and position that defines the set, and `orientation(factors_NxF)` computes the
    orientation from the three factors, in 32 bins. The most extreme deviations are +-97 degrees; binning reduces their
    standard deviation from 45 to 44.1 degrees.

    The triangle is isosceles, 9.9 pixels long and 6.6 wide, and lies in the 11x11 pixels around its position.
    Positions are 1 pixel apart, from 16.5 to 47.5.

    Returns:
      Source with the factors deviation (-97 to 97 degrees, counter-clockwise), posX and posY, 32 values each, and
      images float32 [N, 64, 64, 1] of 0 and 1.

    Example:
      >>> source = correlated()
      >>> source.num_images
      32768
      >>> images = source.render(source.arrays, np.array([[16, 0, 0], [16, 31, 31]]), jax.random.key(0))
      >>> images.shape
      (2, 64, 64, 1)
      >>> [np.argwhere(image[..., 0]).mean(axis=0).round().astype(int).tolist() for image in np.asarray(images)]
      [[17, 17], [46, 46]]
    """
    x, y, angle = _poses().T
    poses = jnp.asarray(np.stack([x, y, np.cos(angle), np.sin(angle)], -1), jnp.float32)
    shape = (SIDE, SIDE, 1)
    return Source(CORRELATED_NAMES, CORRELATED_SIZES, shape, "bernoulli", {"poses": poses}, draw_triangle)


def _centres(grid: str) -> npt.NDArray[np.float64]:
    """Centres (x, y) of the disc by image number: float64 [484, 2]."""
    first, second = np.indices(TRANSLATION_SIZES, np.float64)
    if grid == "polar":
        radius, angle = 1 + first, 2 * np.pi * second / TRANSLATION_SIZES[1]
        offsets: npt.NDArray[np.float64] = np.stack([radius * np.cos(angle), -radius * np.sin(angle)], -1)
    else:
        middle = (np.array(TRANSLATION_SIZES) - 1) / 2
        offsets = STEP * (np.stack([first, second], -1) - middle)
        if grid == "honeycomb":
            offsets[..., 0] += STEP * (second % 2 - 0.5) / 2
            offsets[..., 1] *= np.sqrt(3) / 2
    return np.asarray(CENTRE + offsets, np.float64).reshape(-1, 2)


def draw_disc(arrays: Any, factors_NxF: npt.ArrayLike, key: jax.Array) -> jax.Array:
    """Renders `translation`: float32 [N, 64, 64, 1] of 0 and 1; the key is not used."""
    del key
    right, down = _to_pixel_centres(arrays["centres"][factors.to_index(factors_NxF, TRANSLATION_SIZES)])
    return (right**2 + down**2 <= RADIUS**2).astype(jnp.float32)[..., None]


def translation(grid: str = "cartesian") -> Source:
    """A disc of radius 10 at 22x22 positions on one of three grids.

    A set of DEFT (Wu et al. 2022). It tests whether a model recovers the coordinates of the grid.

    Args:
      grid: 'cartesian', positions 2 pixels apart both ways; 'honeycomb', rows sqrt(3) pixels apart, every second one
        shifted by 1 pixel, so that all six neighbours are 2 pixels away; 'polar', distances of 1 to 22 pixels from the
        image's centre at 22 angles. All are symmetrical about the centre, and the disc is never cut off.

    Returns:
      Source with the factors posX and posY, or radius and angle for the polar grid, 22 values each, and images float32
      [N, 64, 64, 1] of 0 and 1.

    Raises:
      ValueError: the grid is unknown.

    Example:
      >>> source = translation("polar")
      >>> source.factor_names, source.factor_sizes
      (('radius', 'angle'), (22, 22))
      >>> images = source.render(source.arrays, np.array([[21, 0]]), jax.random.key(0))
      >>> row, column = np.argwhere(images[0, ..., 0]).mean(axis=0) + 0.5
      >>> print(f"22 pixels to the right of the centre, 32: ({column:.0f}, {row:.0f})")
      22 pixels to the right of the centre, 32: (54, 32)
    """
    if grid not in GRIDS:
        raise ValueError(f"unknown grid {grid!r}; known: {', '.join(GRIDS)}")
    names = ("radius", "angle") if grid == "polar" else ("posX", "posY")
    centres = jnp.asarray(_centres(grid), jnp.float32)
    return Source(names, TRANSLATION_SIZES, (SIDE, SIDE, 1), "bernoulli", {"centres": centres}, draw_disc)


def draw_squares(arrays: Any, factors_NxF: jax.Array, key: jax.Array) -> jax.Array:
    """Renders `xy_squares`: float32 [N, 64, 64, 3] of 0 and 1; the key is not used."""
    del key
    places_Nx3x2 = (arrays["spacing"] * factors_NxF).reshape(-1, len(SQUARES), 2)
    pixel = jnp.arange(SIDE)
    inside = (pixel >= places_Nx3x2[..., None]) & (pixel < places_Nx3x2[..., None] + SQUARE_SIDE)  # N, 3, 2, 64
    across, down = inside[:, :, 0, None, :], inside[:, :, 1, :, None]
    return (across & down).transpose(0, 2, 3, 1).astype(jnp.float32)


def xy_squares(spacing: int = SQUARE_SIDE) -> Source:
    """XYSquares of disent (Michlo et al. 2021): red, green and blue squares of 8x8 pixels, each anywhere on a grid.

    At the default spacing two positions of a square share no pixel, so all wrong positions have the same pixel distance
    to the right one. The reconstruction loss then does not order the positions, and beta-VAEs fail on this set.

    Args:
      spacing: pixels between neighbouring positions, 2, 4, 7 or 8. Below 8 neighbours overlap.

    Returns:
      Source with the factors x_red, y_red, x_green, y_green, x_blue and y_blue, 56 / spacing + 1 values each (8 by
      default: 262,144 images), and images float32 [N, 64, 64, 3] of 0 and 1; each square fills its own channel.

    Raises:
      ValueError: the spacing is not allowed.

    Example:
      >>> source = xy_squares()
      >>> source.num_images
      262144
      >>> images = source.render(source.arrays, np.array([[0, 0, 1, 0, 7, 7]]), jax.random.key(0))
      >>> [np.argwhere(images[0, ..., channel])[0].tolist() for channel in range(3)]
      [[0, 0], [0, 8], [56, 56]]
    """
    largest = SIDE - SQUARE_SIDE
    allowed = [step for step in range(1, SQUARE_SIDE + 1) if largest % step == 0 and (largest // step + 1) ** 6 < 2**31]
    if spacing not in allowed:
        raise ValueError(f"spacing must be one of {', '.join(map(str, allowed))}, got {spacing!r}")
    names = tuple(f"{axis}_{colour}" for colour in SQUARES for axis in "xy")
    sizes = (largest // spacing + 1,) * len(names)
    arrays = {"spacing": jnp.int32(spacing)}
    return Source(names, sizes, (SIDE, SIDE, len(SQUARES)), "bernoulli", arrays, draw_squares)
