"""Which latents a figure shows where there are more than it has room for."""

import numpy as np
from numpy.typing import ArrayLike

from deft_jax.evaluation.shape_checks import check_equal_counts

MOST_LATENTS = 20
"""Latents that a figure shows at most: more would be unreadable, and slow to draw."""


def shown_latents(kl_D: ArrayLike, most: int = MOST_LATENTS) -> np.ndarray:
    """The latents of highest KL.

    Args:
      kl_D: KL of each latent to the prior in nats, or another value to rank by, [D]; NaN ranks lowest.
      most: how many to show.

    Returns:
      int [min(D, most)], rising; of equal latents, those of lower number.

    Example:
      >>> shown_latents([0.5, 2.0, 1.0], most=2).tolist()
      [1, 2]
    """
    ranks: np.ndarray = np.nan_to_num(np.asarray(kl_D, float), nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    return np.sort(np.argsort(-ranks, kind="stable")[:most])


def selection_note(num_shown: int, num_latents: int, measure: str = "KL") -> str:
    """The selection in words, for a title or a caption.

    Args:
      num_shown: latents that are shown.
      num_latents: latents of the model.
      measure: what they are ranked by.

    Returns:
      Text; empty where all latents are shown.

    Example:
      >>> selection_note(20, 128)
      '20 of 128 latents, those of highest KL'
    """
    return "" if num_shown == num_latents else f"{num_shown} of {num_latents} latents, those of highest {measure}"


def select_latents(nmi_DxF: np.ndarray, kl_D: ArrayLike | None) -> tuple[np.ndarray, str]:
    """The rows of an NMI matrix that a figure shows, with the note for its title.

    Args:
      nmi_DxF: in [0, 1], [D, F]; ranks the latents by their best factor where there is no KL.
      kl_D: KL of each latent in nats, [D], or None.

    Returns:
      (shown_latents, selection_note).

    Raises:
      ValueError: there is not one KL per latent.
    """
    ranks = np.max(nmi_DxF, axis=1) if kl_D is None else np.asarray(kl_D)
    check_equal_counts("KLs", len(ranks), "latents", len(nmi_DxF))
    latents = shown_latents(ranks)
    return latents, selection_note(len(latents), len(nmi_DxF), "NMI" if kl_D is None else "KL")
