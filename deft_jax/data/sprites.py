"""dSprites from its closed form: all 737,280 images of the published set, without a download.

The set (Matthey, Higgins, Hassabis, Lerchner, 'dSprites', DeepMind 2017, Apache-2.0) is binary 64x64 images
of a square, an ellipse or a heart at every combination of 6 scales, 40 orientations and 32 x 32 positions.
Lengths below are in pixels, y points down, pixel i covers [i, i + 1).

A polygon is filled by the even-odd rule: a pixel is white when an odd number of edges cross the centre line
of its row to the right of its centre. Which edges cross which rows depends on shape, scale, orientation and
posY alone, so it is tabulated once on the host; drawing an image then means finding where those few edges
cross, and filling by parity.

Two storages give the same images: 'rendered' keeps those tables and draws in the compiled step, 'packed'
keeps every image as bits and looks it up.
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from deft_jax.data import factors
from deft_jax.data.source import Source

NAMES = ("shape", "scale", "orientation", "posX", "posY")
SIZES = (3, 6, 40, 32, 32)
SIDE = 64
STORAGES = ("auto", "packed", "rendered")

_HALF = 0.15 * SIDE  # half the side of the square at scale 1
_UNIT = 256  # vertices lie on a grid of 1/256 pixel
_VERTICES = 150
_CHUNK = 4096  # images drawn at a time while the packed table is built


def _outline(shape: int) -> npt.NDArray[np.float64]:
    """Vertices (x, y) of one shape at scale 1 about the origin: float64 [150, 2], the last repeated."""
    if shape == 0:
        x, y = _HALF * np.array([(-1, 1, 1, -1), (-1, -1, 1, 1)], np.float64)
    elif shape == 1:
        t = 2 * np.pi * np.arange(100) / 100
        x, y = 1.33 * _HALF * np.cos(t), _HALF / 1.33 * np.sin(t)
    else:
        t = 2 * np.pi * np.arange(150) / 150
        f = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        x, y = _HALF * np.sin(t) ** 3, -_HALF * (f / 14.5 + 0.15)
    # An edge between equal vertices crosses no row, so the padding draws nothing.
    return np.pad(np.stack([x, y], -1), ((0, _VERTICES - len(x)), (0, 0)), mode="edge")


def _vertices() -> tuple[npt.NDArray[np.int32], ...]:
    """Vertex coordinates in 1/256 pixel, two arrays int32 [3 * 6 * 40 * 32, 150].

    x goes by (shape, scale, orientation, posX), y by (shape, scale, orientation, posY).
    """
    outlines = np.stack([_outline(shape) for shape in range(SIZES[0])])
    scaled = np.linspace(0.5, 1, SIZES[1])[:, None, None] * outlines[:, None]
    theta = np.linspace(0, 2 * np.pi, SIZES[2])[:, None]
    x, y = scaled[:, :, None, :, 0], scaled[:, :, None, :, 1]
    rotated = x * np.cos(theta) + y * np.sin(theta), y * np.cos(theta) - x * np.sin(theta)
    place = 16 + 32 * np.linspace(0, 1, SIZES[3])[:, None]
    # float64 until here: vertices rounded from float32 change a pixel in some 65 of the images.
    placed = (np.rint((c[..., None, :] + place) * _UNIT) for c in rotated)
    return tuple(c.astype(np.int32).reshape(-1, _VERTICES) for c in placed)


def _edge_tables() -> dict[str, np.ndarray]:
    """Tables for `_crossings`, as numpy arrays; lengths in 1/256 pixel.

    Returns:
      dict of
        ends: int32 [23040 * 150], x of an edge's start in the high 16 bits, of its end in the low 16 bits;
        edge: uint8 [23040, 64, S], the edges that cross a row's centre line, S being the most that ever do;
        depth: int16 [23040, 64, S], |py - y0|, how far that line lies from the edge's start;
        rise: int16 [23040, 64, S], |y1 - y0|, positive.
    """
    x, y = _vertices()
    ends = x << 16 | np.roll(x, -1, axis=-1)

    # An edge from y0 to y1 crosses the line py where (y0 < py) != (y1 < py), so that a centre exactly on a
    # bottom edge is inside and one on a top edge is outside; with <= instead, 78 pixels of all hearts
    # together would be missing. Rows 0 .. last - 1 have py <= y, so the edge crosses the rows between
    # `last` of its start and `last` of its end.
    y_end = np.roll(y, -1, axis=-1)
    last, last_end = ((c - _UNIT // 2) // _UNIT + 1 for c in (y, y_end))
    count = np.abs(last_end - last).ravel()
    item = np.repeat(np.arange(count.size), count)
    nth = np.arange(item.size) - (np.cumsum(count) - count)[item]
    row = np.minimum(last, last_end).ravel()[item] + nth
    line = item // _VERTICES * SIDE + row
    order = np.argsort(line, kind="stable")
    item, row, line = item[order], row[order], line[order]
    slot = np.arange(line.size) - np.searchsorted(line, line)

    # A closed outline crosses a line an even number of times, so the slots left over come in pairs: the
    # same edge twice, which parity cancels. They need no mark and no test.
    shape = len(y) * SIDE, slot.max() + 1
    edge, depth, rise = np.zeros(shape, np.uint8), np.zeros(shape, np.int16), np.ones(shape, np.int16)
    edge[line, slot] = item % _VERTICES
    depth[line, slot] = np.abs(row * _UNIT + _UNIT // 2 - y.ravel()[item])
    rise[line, slot] = np.abs(y_end - y).ravel()[item]
    lines = {"edge": edge, "depth": depth, "rise": rise}
    lines = {name: table.reshape(len(y), SIDE, -1) for name, table in lines.items()}
    return {"ends": ends.ravel(), **lines}


def _crossings(tables: Mapping[str, jax.Array], factors_NxF: npt.ArrayLike) -> jax.Array:
    """How many pixel centres of a row lie strictly left of each crossing: int32 [N, 64, S]."""
    index = factors.to_index(factors_NxF, SIZES)
    pose_x = index // SIZES[4]
    pose_y = index // (SIZES[3] * SIZES[4]) * SIZES[4] + index % SIZES[4]
    edge, depth, rise = (tables[name][pose_y].astype(jnp.int32) for name in ("edge", "depth", "rise"))
    ends = tables["ends"][pose_x[:, None, None] * _VERTICES + edge]
    start = ends >> 16
    run = depth * ((ends & 0xFFFF) - start)
    # The crossing is at start + run / rise. A float32 estimate, rounded, gives the count or one less, and
    # an exact comparison in integers says which. XLA's integer division is far slower on a CPU.
    near = (start + run.astype(jnp.float32) / rise - _UNIT / 2) / _UNIT
    count = jnp.floor(near + 0.5).astype(jnp.int32)
    return count + ((count * _UNIT + _UNIT // 2 - start) * rise < run)


def _left_of(count: jax.Array) -> jax.Array:
    """The first `count` pixels of a row as bits: int32 [...] in 0 .. 64 -> uint32 [..., 2]."""
    inside = jnp.clip(count[..., None] - np.array([0, 32]), 0, 32)
    return jnp.where(inside == 32, np.uint32(0xFFFFFFFF), (np.uint32(1) << inside.astype(jnp.uint32)) - 1)


def _bits(tables: Mapping[str, jax.Array], factors_NxF: npt.ArrayLike) -> jax.Array:
    """Draws images as bits: uint32 [N, 128], two words a row, pixel i being bit i % 32 of word i // 32."""
    count = _crossings(tables, factors_NxF)
    # Spelled out slot by slot, XLA's CPU code is twice as fast as with a reduction over the slots.
    words = functools.reduce(jnp.bitwise_xor, [_left_of(count[..., slot]) for slot in range(count.shape[-1])])
    return words.reshape(-1, 2 * SIDE)


def _unpack(words_Nx128: jax.Array) -> jax.Array:
    """Bits to images: uint32 [N, 128] -> float32 [N, 64, 64, 1]."""
    pixels = words_Nx128[..., None] >> np.arange(32, dtype=np.uint32) & 1
    return pixels.astype(jnp.float32).reshape(-1, SIDE, SIDE, 1)


def draw(arrays: Mapping[str, jax.Array], factors_NxF: npt.ArrayLike, key: jax.Array) -> jax.Array:
    """Renders from the arrays of the storage 'rendered'.

    Args:
      arrays: the source's arrays.
      factors_NxF: integers [N, 5]. Values out of range are not detected and give some other image.
      key: not used; an image is its factors.

    Returns:
      float32 [N, 64, 64, 1] of 0 and 1.

    Raises:
      ValueError: the factors are not integers, or not five.
    """
    del key
    return _unpack(_bits(arrays, factors_NxF))


def look_up(arrays: Mapping[str, jax.Array], factors_NxF: npt.ArrayLike, key: jax.Array) -> jax.Array:
    """Renders from the arrays of the storage 'packed'; otherwise as `draw`."""
    del key
    return _unpack(arrays["words"][factors.to_index(factors_NxF, SIZES)])


@jax.jit
def _pack(tables: Mapping[str, jax.Array]) -> jax.Array:
    """Draws the whole set as bits: uint32 [737280, 128], 377 MB."""
    starts = jnp.arange(0, np.prod(SIZES), _CHUNK, dtype=jnp.int32)

    def chunk(start: jax.Array) -> jax.Array:
        return _bits(tables, factors.from_index(start + jnp.arange(_CHUNK), SIZES))

    return jax.lax.map(chunk, starts).reshape(-1, 2 * SIDE)


def storage_for(platform: str) -> str:
    """The storage that 'auto' stands for on devices of a platform, as of jax.Device.platform.

    CPU, measured (benchmarks.data.rendering, two cores): a batch of 64 takes 0.07 ms to draw and 0.02 ms to look up,
    beside a training step of tens of ms. Less than 1 % of the step does not pay for 377 MB and for some 3 s before the
    first step, which take over 50,000 steps to win back. Accelerators: on an H200 a training step took the same with
    either (benchmarks.accelerator); a TPU is not measured. Reasoned: the scattered reads of drawing cost more there
    than one contiguous row per image, the table is built quickly, and 377 MB is little.

    Example:
      >>> storage_for("cpu"), storage_for("tpu")
      ('rendered', 'packed')
    """
    return "rendered" if platform == "cpu" else "packed"


def dsprites(storage: str = "auto") -> Source:
    """dSprites (Matthey et al. 2017), drawn instead of downloaded: 737,280 images.

    All 160 published frames that are compared in the tests are equal in every pixel. The whole set has 128,328,864
    white pixels, 2 more than the archive's published mean pixel amounts to.

    Args:
      storage: 'rendered' draws images in the compiled step, from 43 MB of tables; 'packed' draws the whole set once
        (377 MB of bits on the device) and looks images up; 'auto' is 'rendered' on a CPU, else 'packed'.

    Returns:
      Source with the factors shape (square, ellipse, heart), scale (0.5 .. 1), orientation (0 .. 2 pi, both
      ends included), posX and posY, in the archive's order, and images float32 [N, 64, 64, 1] of 0 and 1.

    Raises:
      ValueError: the storage is unknown.

    Example:
      >>> source = dsprites(storage="rendered")
      >>> source.factor_names, source.factor_sizes
      (('shape', 'scale', 'orientation', 'posX', 'posY'), (3, 6, 40, 32, 32))
      >>> images = source.render(source.arrays, np.array([[0, 5, 0, 0, 0], [2, 5, 0, 31, 31]]), jax.random.key(0))
      >>> images.shape, images.sum(axis=(1, 2, 3)).astype(int).tolist()
      ((2, 64, 64, 1), [400, 222])
    """
    if storage not in STORAGES:
        raise ValueError(f"unknown storage {storage!r}; known: {', '.join(STORAGES)}")
    if storage == "auto":
        storage = storage_for(jax.default_backend())
    arrays = jax.tree.map(jnp.asarray, _edge_tables())
    render = draw
    if storage == "packed":
        arrays, render = {"words": _pack(arrays)}, look_up
    return Source(NAMES, SIZES, (SIDE, SIDE, 1), "bernoulli", arrays, render)
