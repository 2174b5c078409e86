"""dSprites in colour, in noise and on a painting: the variants of Locatello et al. 2019, arXiv 1811.12359.

Each has the five factors of dSprites and adds something that is no factor: a colour, noise, or a background. The
addition to image i of a batch depends on `fold_in(key, i)` only, so equal keys give equal images, and an image does not
depend on the other images of the batch.
"""

import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from deft_jax.data import sprites
from deft_jax.data.source import Source
from deft_jax.runtime.paths import local_path

SIDE = sprites.SIDE
WITHIN = (350, 274)  # width and height that a painting is shrunk to fit in, in pixels

# (key, sprite [64, 64, 1], painting [H, W, 3] or None) -> image [64, 64, 3]
Dress = Callable[[jax.Array, jax.Array, Any], jax.Array]


def _colored(key: jax.Array, sprite: jax.Array, painting: None) -> jax.Array:
    del painting
    return sprite * jax.random.uniform(key, (3,), jnp.float32, 0.5, 1.0)


def _noisy(key: jax.Array, sprite: jax.Array, painting: None) -> jax.Array:
    del painting
    # Drawn as a vector: the same numbers as for the whole shape, an eighth of the time on a CPU.
    noise = jax.random.uniform(key, (SIDE * SIDE * 3,), jnp.float32).reshape(SIDE, SIDE, 3)
    return jnp.minimum(sprite + noise, 1.0)


def _scream(key: jax.Array, sprite: jax.Array, painting: jax.Array) -> jax.Array:
    key_place, key_color = jax.random.split(key)
    # All patches can occur. The published code leaves out the last row and the last column of patches.
    ends = np.array(painting.shape[:2]) - SIDE + 1
    top, left = jax.random.randint(key_place, (2,), 0, ends)
    patch = jax.lax.dynamic_slice(painting, (top, left, 0), (SIDE, SIDE, 3))
    background = (patch + jax.random.uniform(key_color, (3,), jnp.float32)) / 2
    return jnp.where(sprite == 1, 1 - background, background)


def _variant(storage: str, likelihood: str, dress: Dress, painting: jax.Array | None = None) -> Source:
    """dSprites with every image passed through `dress`."""
    base = sprites.dsprites(storage)
    draw = base.render

    def render(arrays: Any, factors_NxF: jax.Array, key: jax.Array) -> jax.Array:
        sprites_N = draw(arrays["sprites"], factors_NxF, key)
        keys_N = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(sprites_N)))
        return jax.vmap(dress, (0, 0, None))(keys_N, sprites_N, arrays["painting"])

    arrays = {"sprites": base.arrays, "painting": painting}
    return Source(base.factor_names, base.factor_sizes, (SIDE, SIDE, 3), likelihood, arrays, render)


def color_dsprites(storage: str = "auto") -> Source:
    """dSprites in colour: each sprite in one random colour, on black (Locatello et al. 2019).

    Args:
      storage: as for `deft_jax.data.sprites.dsprites`.

    Returns:
      Source with the factors of dSprites and images float32 [N, 64, 64, 3]: sprite * c, with a colour c ~ U[0.5, 1]^3
      of each image.

    Raises:
      ValueError: the storage is unknown.

    Example:
      >>> source = color_dsprites(storage="rendered")
      >>> images = source.render(source.arrays, np.zeros((2, 5), int), jax.random.key(0))
      >>> images.shape, [len(np.unique(image.reshape(-1, 3), axis=0)) for image in images]
      ((2, 64, 64, 3), [2, 2])
    """
    return _variant(storage, "bernoulli", _colored)


def noisy_dsprites(storage: str = "auto") -> Source:
    """dSprites in white on noise (Locatello et al. 2019).

    Args:
      storage: as for `deft_jax.data.sprites.dsprites`.

    Returns:
      Source with the factors of dSprites and images float32 [N, 64, 64, 3]: min(sprite + n, 1), with noise n ~ U[0, 1]
      independent for each pixel, channel and image.

    Raises:
      ValueError: the storage is unknown.

    Example:
      >>> source = noisy_dsprites(storage="rendered")
      >>> image = source.render(source.arrays, np.array([[0, 5, 0, 16, 16]]), jax.random.key(0))[0]
      >>> print(f"sprite {image[33, 33].min():.2f}, mean of the noise {image[:10].mean():.1f}")
      sprite 1.00, mean of the noise 0.5
    """
    return _variant(storage, "bernoulli", _noisy)


def scream_dsprites(
    storage: str = "auto", painting: str | os.PathLike | None = None, likelihood: str = "bernoulli"
) -> Source:
    """dSprites as the negative of a patch of a painting; in Locatello et al. 2019, Munch's The Scream.

    The default painting is a stand-in: a rough picture computed here, with a sky, a bridge and a head. Scores on it are
    not comparable with published ones. For those, give the real painting as a file.

    Args:
      storage: as for `deft_jax.data.sprites.dsprites`.
      painting: path of an image file, or of an .npy file of uint8 [H, W, 3]. It is shrunk with its aspect
        ratio kept to fit within 350 pixels of width and 274 of height. None takes the stand-in, which has that size.
      likelihood: 'bernoulli', or 'gaussian' for the squared error, with which DEFT's author trains on this set.

    Returns:
      Source with the factors of dSprites and images float32 [N, 64, 64, 3] in [0, 1]: background = (p + c) / 2, with a
      64x64 patch p at a uniform place of the painting and a colour c ~ U[0, 1]^3; 1 - background on the sprite.

    Raises:
      ValueError: the storage or the likelihood is unknown; the painting cannot be read, is not uint8 [H, W, 3], or is
        smaller than 64x64 once it fits.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     np.save(f"{folder}/gray.npy", np.full((64, 64, 3), 102, np.uint8))
      ...     source = scream_dsprites(storage="rendered", painting=f"{folder}/gray.npy")
      >>> image = source.render(source.arrays, np.array([[0, 5, 0, 16, 16]]), jax.random.key(0))[0]
      >>> print((image[0, 0] + image[33, 33]).round(4))
      [1. 1. 1.]
    """
    pixels = _stand_in() if painting is None else _read(local_path(painting, "data.painting"))
    return _variant(storage, likelihood, _scream, jnp.asarray(pixels, jnp.float32) / 255)


def _read(path: pathlib.Path) -> npt.NDArray[np.uint8]:
    """The painting in a file, shrunk to fit: uint8 [H, W, 3]."""
    from PIL import Image

    try:
        if os.fspath(path).endswith(".npy"):
            with open(path, "rb") as file:
                pixels = np.lib.format.read_array(file, allow_pickle=False)  # unlike np.load, no archive of arrays
            if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
                raise ValueError(f"needs uint8 [H, W, 3], holds {pixels.dtype} {list(pixels.shape)}")
            picture = Image.fromarray(pixels)
        else:
            with Image.open(path) as image:
                picture = image.convert("RGB")
    # A damaged image is reported in as many ways as there are formats; SyntaxError is that of a broken PNG.
    except (OSError, EOFError, SyntaxError, TypeError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot read the painting {str(path)!r}: {' '.join(str(error).split())}") from error
    picture.thumbnail(WITHIN)
    if min(picture.size) < SIDE:
        raise ValueError(f"the painting {str(path)!r} is {picture.width}x{picture.height} once it fits within "
                         f"{WITHIN[0]}x{WITHIN[1]}; a patch takes {SIDE}x{SIDE}")
    return np.asarray(picture)


def _stand_in() -> npt.NDArray[np.uint8]:
    """A picture with large swirls, a diagonal and an oval, in place of the painting: uint8 [274, 350, 3]."""
    width, height = WITHIN
    y, x = np.mgrid[:height, :width] / height

    def oval(x0: float, y0: float, across: float, down: float) -> np.ndarray:
        return ((x - x0) / across) ** 2 + ((y - y0) / down) ** 2 < 1

    def mix(share: np.ndarray, first: tuple[float, ...], second: tuple[float, ...]) -> np.ndarray:
        return share[..., None] * np.array(first) + (1 - share[..., None]) * np.array(second)

    bend = y + 0.07 * np.sin(5 * x + 2) + 0.03 * np.sin(11 * x - 6 * y)
    swirl = 0.5 + 0.5 * np.sin(42 * bend + 2 * np.sin(3 * x - 9 * y))
    warm = np.clip(1.6 - 2.6 * bend, 0.1, 0.9)
    picture = mix(np.clip(warm + 0.5 * (swirl - 0.5), 0, 1), (0.91, 0.47, 0.16), (0.16, 0.27, 0.44))

    across = y - 0.36 - 0.48 * x  # below the line that runs down from the left: the bridge
    planks = 0.5 + 0.5 * np.sin(70 * across / (0.25 + x))
    picture = np.where((across > 0)[..., None], mix(planks, (0.42, 0.26, 0.15), (0.22, 0.13, 0.10)), picture)
    for rail in (0.0, 0.12):
        picture[np.abs(across - rail) < 0.014] = 0.13, 0.08, 0.09

    picture[oval(0.68, 1.02, 0.17, 0.38)] = 0.11, 0.11, 0.17
    picture[oval(0.67, 0.60, 0.10, 0.15)] = 0.84, 0.77, 0.58
    for hollow in ((0.63, 0.56, 0.018, 0.028), (0.71, 0.56, 0.018, 0.028), (0.67, 0.68, 0.022, 0.042)):
        picture[oval(*hollow)] = 0.20, 0.14, 0.12
    return np.rint(255 * picture).astype(np.uint8)
