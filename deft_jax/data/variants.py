"""dSprites in colour, in noise and on a painting: the variants of Locatello et al. 2019, arXiv 1811.12359.

Each keeps the five factors of dSprites and adds something that is no factor: a colour, noise, or a background.
What is added to image i of a batch comes from `fold_in(key, i)` and from nothing else, so the same key gives the
same images, and an image does not depend on those after it in the batch.
"""

import os

import jax
import jax.numpy as jnp
import numpy as np

from deft_jax.data import sprites
from deft_jax.data.source import Source
from deft_jax.runtime.paths import local_path

SIDE = sprites.SIDE
WITHIN = (350, 274)  # width and height within which a painting is fitted


def _colored(key, sprite, painting):
    del painting
    return sprite * jax.random.uniform(key, (3,), jnp.float32, 0.5, 1.0)


def _noisy(key, sprite, painting):
    del painting
    # Drawn as a vector: the same numbers as for the whole shape, an eighth of the time on a CPU.
    noise = jax.random.uniform(key, (SIDE * SIDE * 3,), jnp.float32).reshape(SIDE, SIDE, 3)
    return jnp.minimum(sprite + noise, 1.0)


def _scream(key, sprite, painting):
    key_place, key_color = jax.random.split(key)
    # Every patch can occur. The published code leaves out the last row and the last column of patches.
    ends = np.array(painting.shape[:2]) - SIDE + 1
    top, left = jax.random.randint(key_place, (2,), 0, ends)
    patch = jax.lax.dynamic_slice(painting, (top, left, 0), (SIDE, SIDE, 3))
    background = (patch + jax.random.uniform(key_color, (3,), jnp.float32)) / 2
    return jnp.where(sprite == 1, 1 - background, background)


def _variant(storage, likelihood, dress, painting=None):
    """Source of dSprites whose images go through dress(key, sprite [64, 64, 1], painting) -> [64, 64, 3]."""
    base = sprites.dsprites(storage)
    draw = base.render

    def render(arrays, factors_NxF, key):
        sprites_N = draw(arrays["sprites"], factors_NxF, key)
        keys_N = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(sprites_N)))
        return jax.vmap(dress, (0, 0, None))(keys_N, sprites_N, arrays["painting"])

    arrays = {"sprites": base.arrays, "painting": painting}
    return Source(base.factor_names, base.factor_sizes, (SIDE, SIDE, 3), likelihood, arrays, render)


def color_dsprites(storage: str = "auto") -> Source:
    """dSprites with each sprite in one colour of its own, on black.

    Args:
      storage: as for `deft_jax.data.sprites.dsprites`.

    Returns:
      Source with the factors of dSprites and images float32 [N, 64, 64, 3]: the sprite times a colour whose
      channels are uniform in [0.5, 1], drawn anew for each image.

    Raises:
      ValueError: the storage is unknown.
    """
    return _variant(storage, "bernoulli", _colored)


def noisy_dsprites(storage: str = "auto") -> Source:
    """dSprites, white, on noise.

    Args:
      storage: as for `deft_jax.data.sprites.dsprites`.

    Returns:
      Source with the factors of dSprites and images float32 [N, 64, 64, 3]: 1 on the sprite; elsewhere uniform in
      [0, 1], independent for each pixel, channel and image.

    Raises:
      ValueError: the storage is unknown.
    """
    return _variant(storage, "bernoulli", _noisy)


def scream_dsprites(
    storage: str = "auto", painting: str | os.PathLike | None = None, likelihood: str = "bernoulli"
) -> Source:
    """dSprites as the negative of a background cut from a painting; in the published set, Munch's The Scream.

    The default background is a stand-in: a rough picture computed here, with a sky, a bridge and a head. Scores on it
    are not comparable with published ones. For those, give the real painting as a file.

    Args:
      storage: as for `deft_jax.data.sprites.dsprites`.
      painting: path of an image file, or of an .npy file of uint8 [H, W, 3]. It is shrunk, aspect kept, to fit within
        350 pixels of width and 274 of height. None takes the stand-in, which has just that size.
      likelihood: 'bernoulli', or 'gaussian' for the squared error, with which DEFT's author trains on this set.

    Returns:
      Source with the factors of dSprites and images float32 [N, 64, 64, 3] in [0, 1]: background = (64x64 patch of the
      painting at a uniform place + one colour uniform in [0, 1]^3) / 2, and 1 - background on the sprite.

    Raises:
      ValueError: the storage or the likelihood is unknown; the painting cannot be read, is not uint8 [H, W, 3], or is
        smaller than 64x64 once it fits.
    """
    pixels = _stand_in() if painting is None else _read(local_path(painting, "data.painting"))
    return _variant(storage, likelihood, _scream, jnp.asarray(pixels, jnp.float32) / 255)


def _read(path):
    """The painting in a file, fitted: uint8 [H, W, 3]."""
    from PIL import Image

    try:
        if os.fspath(path).endswith(".npy"):
            with open(path, "rb") as file:
                pixels = np.lib.format.read_array(file, allow_pickle=False)  # unlike np.load, no archive of arrays
            if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
                raise ValueError(f"needs uint8 [H, W, 3], holds {pixels.dtype} {list(pixels.shape)}")
            picture = Image.fromarray(pixels)
        else:
            with Image.open(path) as file:
                picture = file.convert("RGB")
    # A damaged image is reported in as many ways as there are formats; SyntaxError is that of a broken PNG.
    except (OSError, EOFError, SyntaxError, TypeError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot read the painting {str(path)!r}: {' '.join(str(error).split())}") from error
    picture.thumbnail(WITHIN)
    if min(picture.size) < SIDE:
        raise ValueError(f"the painting {str(path)!r} is {picture.width}x{picture.height} once it fits within "
                         f"{WITHIN[0]}x{WITHIN[1]}; a patch takes {SIDE}x{SIDE}")
    return np.asarray(picture)


def _stand_in():
    """A picture with large swirls, a diagonal and an oval, in place of the painting: uint8 [274, 350, 3]."""
    width, height = WITHIN
    y, x = np.mgrid[:height, :width] / height

    def oval(x0, y0, across, down):
        return ((x - x0) / across) ** 2 + ((y - y0) / down) ** 2 < 1

    def mix(share, first, second):
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
