"""Images as an array, on the device or on the host, that a compiled program looks up by number.

Images of two levels are packed to bits; all others are uint8. Vectors and series, images of one row, are float32.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

STORAGES = ("auto", "device", "host")

# Up to this size 'auto' keeps a set on the device. 480,000 colour images of 64x64 take 5.9 GB, which leaves room to
# train on an accelerator with 16 GB.
DEVICE_BYTES = 6 * 2**30

_CHUNK_BYTES = 2**24  # how much of a set, which may lie in a file, is read in one go

# look_up(arrays, index int32 [N]) -> float32 [N, H, W, C]
LookUp = Callable[[dict[str, jax.Array], jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True, eq=False)
class Packed:
    """Images of two levels, black and one other, at one bit per pixel.

    Attributes:
      bits: uint8 [N, ceil(H * W * C / 8)]; bit i of byte j is pixel 8 j + i; bits left over are 0.
      image_shape: (H, W, C).
      white: brightness of a pixel whose bit is set, in (0, 1].
    """

    bits: npt.NDArray[np.uint8]
    image_shape: tuple[int, int, int]
    white: float = 1.0

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.bits), *self.image_shape

    def __len__(self) -> int:
        return len(self.bits)


Images = npt.NDArray[np.uint8] | npt.NDArray[np.bool_] | npt.NDArray[np.float32] | Packed


def pack(images: np.ndarray, white: float = 1.0) -> Packed:
    """Packs images uint8 or bool [N, H, W, C] to bits; every pixel that is not 0 counts as `white`."""
    flat = np.asarray(images).reshape(len(images), -1)
    return Packed(np.packbits(flat, axis=1, bitorder="little"), images.shape[1:], white)


def colour(name: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255, of a colour by its name or as '#rrggbb'.

    Raises:
      ValueError: the colour is unknown, or has an opacity.

    Example:
      >>> colour("white"), colour("#102030")
      ((255, 255, 255), (16, 32, 48))
    """
    from PIL import ImageColor

    try:
        red, green, blue, *opacity = ImageColor.getrgb(name)
    except ValueError:
        opacity = [0]
    if opacity:
        raise ValueError(f"data.background must be the name of a colour or '#rrggbb', got {name!r}")
    return red, green, blue


def composited(images: Images, background: str) -> Images:
    """Images of 4 channels, of which the fourth is the opacity, on a background.

    Args:
      images: uint8 [N, H, W, 4], 255 opaque.
      background: as for `colour`.

    Returns:
      uint8 [N, H, W, 3].

    Raises:
      ValueError: the colour is unknown, or the images have other channels.

    Example:
      >>> half = np.array([200, 100, 0, 51], np.uint8).reshape(1, 1, 1, 4)
      >>> composited(half, "white").ravel().tolist()
      [244, 224, 204]
    """
    behind = np.array(colour(background), np.float32)
    if isinstance(images, Packed) or images.shape[-1] != 4 or images.dtype != np.uint8:
        raise ValueError(f"data.background is for images of 4 channels of 0 to 255, got {list(images.shape)}")
    result = np.empty((*images.shape[:3], 3), np.uint8)
    for part in chunks(len(images), 4 * math.prod(images.shape[1:])):
        rows = np.asarray(images[part], np.float32)
        opacity = rows[..., 3:] / np.float32(255)
        result[part] = np.rint(rows[..., :3] * opacity + behind * (1 - opacity))
    return result


def chunks(length: int, row_bytes: int) -> list[slice]:
    """Slices that cover 0 .. length in order, each of some 16 MB of rows with `row_bytes` bytes."""
    step = max(1, _CHUNK_BYTES // max(1, row_bytes))
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def two_levels(pixels: npt.NDArray[np.uint8]) -> int | None:
    """The largest value of the pixels if every pixel is either that or 0, else None."""
    largest = pixels.max()
    return int(largest) if np.all((pixels == 0) | (pixels == largest)) else None


def brightness(level: int) -> float:
    """The brightness of the largest value of a set with two levels: 0 and 1 are black and white, else 255 is white."""
    return 1.0 if level <= 1 else level / 255


def white_level(images: Images) -> float | None:
    """The brightness of the second level of a set with two levels, black and one other, else None.

    Reads a set of two levels once, and any other up to its third level.
    """
    if isinstance(images, Packed):
        return images.white
    if images.dtype == bool:
        return 1.0
    if images.dtype == np.float32:
        return None
    levels: set[int] = set()
    for part in chunks(len(images), math.prod(images.shape[1:])):
        level = two_levels(np.asarray(images[part]))
        if level is None:
            return None
        levels |= {level} - {0}
        if len(levels) > 1:
            return None
    return brightness(max(levels, default=1))


def check_storage(storage: str) -> None:
    """Raises ValueError where a storage is unknown."""
    if storage not in STORAGES:
        raise ValueError(f"unknown storage {storage!r}; known: {', '.join(STORAGES)}")


def check_images(images: Images) -> None:
    """Raises ValueError unless the images have the shape and the type that `gather` takes."""
    if len(images.shape) != 4 or min(images.shape) < 1:
        raise ValueError(f"images must be [N, H, W, C], each positive, got {list(images.shape)}")
    if not isinstance(images, Packed) and images.dtype not in (np.uint8, np.bool_, np.float32):
        raise ValueError(f"images must be uint8, bool or float32, got {images.dtype}")
    if images.shape[0] > np.iinfo(np.int32).max:
        raise ValueError(f"{images.shape[0]} images are more than int32 can number")


def gather(images: Images, storage: str = "auto") -> tuple[dict[str, jax.Array], LookUp]:
    """Stores images, to be looked up by number.

    Args:
      images: uint8 or bool [N, H, W, C], in memory or memory-mapped, or Packed. 255 is white, unless all pixels are 0
        or 1. float32 is taken as it is. The array is not copied where that can be avoided, so it must not be written to
        afterwards.
      storage: 'device' keeps the images on the device, as bits where they have two levels, else as uint8. 'host' leaves
        them where they are and fetches each batch through a callback, for a set larger than the device's memory; each
        batch costs a round trip. 'auto' is 'device' up to DEVICE_BYTES there.

    Returns:
      (arrays, look_up): a pytree for Source.arrays, and look_up(arrays, index int32 [N]) -> float32 [N, H, W, C] in
      [0, 1], pure and jittable; under vmap one callback serves the whole batch. An index out of range gives another
      image on the device and fails on the host.

    Raises:
      ValueError: the storage is unknown, or the images are of another shape or type.

    Example:
      >>> images = np.arange(24, dtype=np.uint8).reshape(6, 2, 2, 1)
      >>> arrays, look_up = gather(images, storage="host")
      >>> arrays, np.rint(255 * look_up(arrays, jnp.array([5, 0]))).astype(int).reshape(2, 4).tolist()
      ({}, [[20, 21, 22, 23], [0, 1, 2, 3]])
    """
    check_storage(storage)
    check_images(images)
    return gather_checked(images, storage, white_level(images))


def gather_checked(images: Images, storage: str, white: float | None) -> tuple[dict[str, jax.Array], LookUp]:
    """`gather` of checked images with a known `white_level`."""
    row_bytes = math.prod(images.shape[1:])
    if not isinstance(images, Packed):
        row_bytes *= images.dtype.itemsize
    if white is not None:
        row_bytes = math.ceil(row_bytes / 8)
    if storage == "auto":
        storage = "device" if len(images) * row_bytes <= DEVICE_BYTES else "host"

    if storage == "device" and white is not None and not isinstance(images, Packed):
        images = _pack_in_parts(images, white)
    rows = images.bits if isinstance(images, Packed) else images
    decode = _decoder(images, white)
    if storage == "device":
        return {"images": jnp.asarray(rows)}, lambda arrays, index_N: decode(arrays["images"][index_N])

    def fetch(index: jax.Array) -> np.ndarray:
        fetched = rows[np.asarray(index)]
        return fetched if fetched.dtype == np.float32 else fetched.view(np.uint8)

    def look_up(arrays: dict[str, jax.Array], index_N: jax.Array) -> jax.Array:
        del arrays
        kind = jnp.float32 if rows.dtype == np.float32 else jnp.uint8
        fetched = jax.ShapeDtypeStruct((*index_N.shape, *rows.shape[1:]), kind)
        # Under vmap the callback sees the batch as one more axis of the index, which is all that `fetch` needs.
        return decode(jax.pure_callback(fetch, fetched, index_N, vmap_method="expand_dims"))

    return {}, look_up


def _pack_in_parts(images: np.ndarray, white: float) -> Packed:
    """`pack` in parts, for a set in a file."""
    parts = [pack(images[part], white).bits for part in chunks(len(images), math.prod(images.shape[1:]))]
    return Packed(np.concatenate(parts), images.shape[1:], white)


def _decoder(images: Images, white: float | None) -> Callable[[jax.Array], jax.Array]:
    """A function from stored rows, uint8 [N, ...], to images float32 [N, H, W, C]."""
    shape, scale = images.shape[1:], 1.0 if white is None else white

    def unpack(rows_NxM: jax.Array) -> jax.Array:
        bits = rows_NxM[..., None] >> np.arange(8, dtype=np.uint8) & 1
        pixels = bits.reshape(len(rows_NxM), -1)[:, : math.prod(shape)]
        return pixels.reshape(-1, *shape).astype(jnp.float32) * np.float32(scale)

    if isinstance(images, Packed):
        return unpack
    if images.dtype == np.float32:
        return lambda rows: rows
    if white is not None:
        return lambda rows: (rows != 0).astype(jnp.float32) * np.float32(scale)
    return lambda rows: rows.astype(jnp.float32) / np.float32(255)
