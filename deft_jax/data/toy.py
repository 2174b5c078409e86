"""Small binary sets, drawn in the compiled step.

Two are of DEFT (Wu et al. 2022, arXiv 2102.03986): `correlated`, a triangle that tends to point away from the centre,
and `translation`, a disc on a grid. `xy_squares` is XYSquares (Michlo et al., disent, 2021). Lengths are in
pixels, y points down, pixel i covers [i, i + 1), and a pixel is white when its centre is in the shape. Angles are
counter-clockwise on screen, 0 to the right. Where a figure stands and how it is turned is tabulated on the host, in
float64, by image number.
"""

import statistics

import jax.numpy as jnp
import numpy as np

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


def _to_pixel_centres(places_NxP):
    """Right and down from (x, y), the first two of each row, to every pixel centre: [N, 1, 64] and [N, 64, 1]."""
    centres = jnp.arange(SIDE) + 0.5
    right, down = (centres - places_NxP[:, axis, None] for axis in (0, 1))
    return right[:, None, :], down[:, :, None]


def _poses():
    """Place and orientation of the triangle by image number: float64 [32768, 3], columns x, y, angle."""
    bins = (np.arange(CORRELATED_SIZES[0]) + 0.5) / CORRELATED_SIZES[0]
    deviation = SPREAD * np.array([statistics.NormalDist().inv_cdf(level) for level in bins])
    # A pixel apart and symmetrical about the centre, at which no triangle stands: its direction would be undefined.
    place = CENTRE + np.arange(CORRELATED_SIZES[1]) - (CORRELATED_SIZES[1] - 1) / 2
    deviation, x, y = np.meshgrid(deviation, place, place, indexing="ij")
    return np.stack([x, y, np.arctan2(CENTRE - y, x - CENTRE) + deviation], -1).reshape(-1, 3)


def orientation(factors_NxF):
    """Orientation of the triangles of `correlated`, to score a representation against.

    Args:
      factors_NxF: integers [N, 3]: deviation, posX, posY. Values out of range are not detected.

    Returns:
      int32 [N] in 0 .. 31, numpy: k where the tip points within half a bin of 11.25 k degrees, counter-clockwise on
      screen from the right.

    Raises:
      ValueError: the factors are not integers, or not three.
    """
    angle = _poses()[np.asarray(factors.to_index(factors_NxF, CORRELATED_SIZES)), 2]
    return np.rint(angle / (2 * np.pi) * 32).astype(np.int32) % 32


def draw_triangle(arrays, factors_NxF, key):
    """Renders `correlated`: -> float32 [N, 64, 64, 1] of 0 and 1; the key is not used."""
    del key
    poses_Nx4 = arrays["poses"][factors.to_index(factors_NxF, CORRELATED_SIZES)]
    right, down = _to_pixel_centres(poses_Nx4)
    cos, sin = poses_Nx4[:, 2, None, None], poses_Nx4[:, 3, None, None]
    along, across = right * cos - down * sin, right * sin + down * cos
    inside = (along >= BASE) & (jnp.abs(across) <= HALF_BASE * (TIP - along) / (TIP - BASE))
    return inside.astype(jnp.float32)[..., None]


def correlated() -> Source:
    """A triangle that points away from the image's centre, give or take N(0, 45 degrees), at 32x32 positions.

    The orientation goes with the position, so it is no factor that could be drawn independently of it. The factor in
    its place is the deviation from the direction (centre -> triangle), in 32 bins of equal probability, each drawn at
    its median. Uniform and independent factors then give the joint distribution of orientation and position that
    defines the set, and the orientation is a function of the three factors: `orientation(factors_NxF)` gives it in 32
    bins. The most extreme deviations are +-97 degrees; binning takes their standard deviation from 45 to 44.1 degrees.

    The triangle is isosceles, 9.9 pixels long and 6.6 wide, and lies in the 11x11 pixels around its position.
    Positions are 1 pixel apart, from 16.5 to 47.5.

    Returns:
      Source with the factors deviation (-97 to 97 degrees, counter-clockwise), posX and posY, 32 values each, and
      images float32 [N, 64, 64, 1] of 0 and 1.
    """
    x, y, angle = _poses().T
    poses = jnp.asarray(np.stack([x, y, np.cos(angle), np.sin(angle)], -1), jnp.float32)
    shape = (SIDE, SIDE, 1)
    return Source(CORRELATED_NAMES, CORRELATED_SIZES, shape, "bernoulli", {"poses": poses}, draw_triangle)


def _centres(grid):
    """Centres (x, y) of the disc by image number: float64 [484, 2]."""
    first, second = np.indices(TRANSLATION_SIZES)
    if grid == "polar":
        radius, angle = 1 + first, 2 * np.pi * second / TRANSLATION_SIZES[1]
        offset = radius * np.cos(angle), -radius * np.sin(angle)
    else:
        x, y = (STEP * (index - (size - 1) / 2) for index, size in zip((first, second), TRANSLATION_SIZES, strict=True))
        if grid == "honeycomb":
            x, y = x + STEP * (second % 2 - 0.5) / 2, y * np.sqrt(3) / 2
        offset = x, y
    return CENTRE + np.stack(offset, -1).reshape(-1, 2)


def draw_disc(arrays, factors_NxF, key):
    """Renders `translation`: -> float32 [N, 64, 64, 1] of 0 and 1; the key is not used."""
    del key
    right, down = _to_pixel_centres(arrays["centres"][factors.to_index(factors_NxF, TRANSLATION_SIZES)])
    return (right**2 + down**2 <= RADIUS**2).astype(jnp.float32)[..., None]


def translation(grid: str = "cartesian") -> Source:
    """A disc of radius 10 at 22x22 positions: does a model find the coordinates that the positions were laid out by?

    Args:
      grid: 'cartesian', positions 2 pixels apart both ways; 'honeycomb', rows sqrt(3) pixels apart, every second one
        shifted by 1 pixel, so that all six neighbours are 2 pixels away; 'polar', distances of 1 to 22 pixels from the
        image's centre at 22 angles. All are symmetrical about the centre, and the disc is never cut off.

    Returns:
      Source with the factors posX and posY, or radius and angle for the polar grid, 22 values each, and images float32
      [N, 64, 64, 1] of 0 and 1.

    Raises:
      ValueError: the grid is unknown.
    """
    if grid not in GRIDS:
        raise ValueError(f"unknown grid {grid!r}; known: {', '.join(GRIDS)}")
    names = ("radius", "angle") if grid == "polar" else ("posX", "posY")
    centres = jnp.asarray(_centres(grid), jnp.float32)
    return Source(names, TRANSLATION_SIZES, (SIDE, SIDE, 1), "bernoulli", {"centres": centres}, draw_disc)


def draw_squares(arrays, factors_NxF, key):
    """Renders `xy_squares`: -> float32 [N, 64, 64, 3] of 0 and 1; the key is not used."""
    del key
    places_Nx3x2 = (arrays["spacing"] * factors_NxF).reshape(-1, len(SQUARES), 2)
    pixel = jnp.arange(SIDE)
    inside = (pixel >= places_Nx3x2[..., None]) & (pixel < places_Nx3x2[..., None] + SQUARE_SIDE)  # N, 3, 2, 64
    across, down = inside[:, :, 0, None, :], inside[:, :, 1, :, None]
    return (across & down).transpose(0, 2, 3, 1).astype(jnp.float32)


def xy_squares(spacing: int = SQUARE_SIDE) -> Source:
    """Three squares of 8x8 pixels, red, green and blue, each anywhere on a grid: XYSquares of disent (Michlo et al.).

    At the default spacing two positions of a square share no pixel, so all wrong positions lie equally far from the
    right one in pixels: a VAE has nothing to order them by, and beta-VAEs fail on this set.

    Args:
      spacing: pixels between neighbouring positions, 2, 4, 7 or 8. Below 8 neighbours overlap.

    Returns:
      Source with the factors x_red, y_red, x_green, y_green, x_blue and y_blue, 56 / spacing + 1 values each (8 by
      default: 262,144 images), and images float32 [N, 64, 64, 3] of 0 and 1; each square fills its own channel.

    Raises:
      ValueError: the spacing is not allowed.
    """
    room = SIDE - SQUARE_SIDE
    allowed = [step for step in range(1, SQUARE_SIDE + 1) if room % step == 0 and (room // step + 1) ** 6 < 2**31]
    if spacing not in allowed:
        raise ValueError(f"spacing must be one of {', '.join(map(str, allowed))}, got {spacing!r}")
    names = tuple(f"{axis}_{colour}" for colour in SQUARES for axis in "xy")
    sizes = (room // spacing + 1,) * len(names)
    arrays = {"spacing": jnp.int32(spacing)}
    return Source(names, sizes, (SIDE, SIDE, len(SQUARES)), "bernoulli", arrays, draw_squares)
