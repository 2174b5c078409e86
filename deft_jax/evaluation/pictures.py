"""What TensorBoard shows of a model at each evaluation: two grids of images, and how its codes are distributed.

The grids are drawn by numpy alone, in milliseconds; the figures of figures.py have labels and take longer.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from deft_jax.data.source import Source
from deft_jax.evaluation.decoder import Decoder
from deft_jax.evaluation.latent_selection import MOST_LATENTS, shown_latents
from deft_jax.evaluation.traversal_codes import traversal_codes
from deft_jax.models.posterior import Posterior, kl_per_latent

_TRAVERSAL_VALUES = 9
_MOST_ROWS, _FEWEST_ROWS = MOST_LATENTS, 4
_PIXELS = _MOST_ROWS * 64 * 64  # of one column; of larger images, fewer are shown


def grids(
    decoder: Decoder,
    params: Mapping[str, Any],
    stage: int,
    originals_NxHxWxC: np.ndarray,
    posterior: Posterior,
    traversal_range: float,
) -> dict[str, np.ndarray]:
    """Reconstructions and traversals of a model.

    Args:
      decoder: of the model.
      params: of the model.
      stage: groups up to this one are open.
      originals_NxHxWxC: images in [0, 1], the first of the sample.
      posterior: of the whole sample, [M, D], M >= N.
      traversal_range: as of figures.figures.

    Returns:
      'reconstructions', the originals above their reconstructions, in pairs of rows; and 'traversals', one row per open
      latent, those of highest KL if there are many, which takes 9 values from -traversal_range to traversal_range in
      the code of the first image. uint8 [rows, columns, 3].
    """
    from deft_jax.evaluation import image_grids  # with matplotlib, which loads where something is drawn

    latents_L = drawn_latents(posterior, decoder.model.group_of_latent, stage)[: num_rows(decoder.source)]
    values_T = np.linspace(-traversal_range, traversal_range, _TRAVERSAL_VALUES)
    z_LxTxD = traversal_codes(posterior.mean[:1], latents_L, values_T)[:, 0]
    traversed = decoder(params, z_LxTxD.reshape(-1, z_LxTxD.shape[-1]))
    reconstructed = decoder(params, np.asarray(posterior.mean[: len(originals_NxHxWxC)]))
    by_name = {
        "reconstructions": image_grids.in_pairs(originals_NxHxWxC, reconstructed, columns=10),
        "traversals": traversed.reshape(len(latents_L), _TRAVERSAL_VALUES, *traversed.shape[1:]),
    }
    rows_per_block = {"reconstructions": 2, "traversals": 1}
    return {
        name: np.rint(255 * image_grids.mosaic(images, rows_per_block[name])[0]).astype(np.uint8)
        for name, images in by_name.items()
    }


def num_rows(source: Source) -> int:
    """How many images of a sample are reconstructed, and how many latents traversed, at most."""
    height, width, _ = source.image_shape
    return int(np.clip(_PIXELS // (height * width), _FEWEST_ROWS, _MOST_ROWS))


def first_images(source: Source, factors_NxF: np.ndarray) -> np.ndarray:
    """The first images of a sample, as many as `grids` shows.

    Args:
      source: the data set.
      factors_NxF: of the sample.

    Returns:
      float32 [R, H, W, C] in [0, 1].
    """
    some = factors_NxF[: num_rows(source)]
    return np.asarray(jax.jit(source.render)(source.arrays, some, jax.random.key(0)))


def histograms(posterior: Posterior, group_of_latent: tuple[int, ...], stage: int) -> dict[str, np.ndarray]:
    """Means and standard deviations of the open latents over a sample, of many those of highest KL.

    Args:
      posterior: of the sample, [N, D].
      group_of_latent: the group of each latent.
      stage: groups up to this one are open.

    Returns:
      'mean/LATENT' and 'deviation/LATENT' -> [N].
    """
    latents_L = drawn_latents(posterior, group_of_latent, stage)
    mean, deviation = np.asarray(posterior.mean), np.exp(np.asarray(posterior.logvar) / 2)
    return {f"mean/{d}": mean[:, d] for d in latents_L} | {f"deviation/{d}": deviation[:, d] for d in latents_L}


def drawn_latents(posterior: Posterior, group_of_latent: tuple[int, ...], stage: int) -> np.ndarray:
    """The open latents, of many those of highest KL, in ascending order."""
    kl_D = np.asarray(kl_per_latent(posterior)).mean(axis=0)
    open_latents = np.flatnonzero(np.asarray(group_of_latent) <= stage)
    return open_latents[shown_latents(kl_D[open_latents])]
