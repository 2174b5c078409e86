"""The images that the sections of a model show, and which of its latents are in use."""

from typing import NamedTuple

import numpy as np

from deft_jax.models.posterior import Posterior
from deft_jax.training.restore import TrainedModel

SAMPLE = 2000
"""Images that projections and KL are computed from."""
RECONSTRUCTED = 20
"""Images that are reconstructed, and that the live decoder starts from."""
COLLAPSED = 0.05
"""KL in nats below which a latent is called collapsed."""


class Sample(NamedTuple):
    """Images with their ground truth [N, L] and posterior [N, D].

    images: the first of them, [at most 20, H, W, C]; of vectors and series [at most 20, F] or [at most 20, T, C] in the
    units of the data. fallback_reason: why the images are those kept with the run; ''
    where the data set could be opened.
    """

    images: np.ndarray
    ground_truth: np.ndarray
    posterior: Posterior
    fallback_reason: str = ""


def draw_sample(model: TrainedModel) -> Sample:
    """A sample of the data set; of the images kept with the run where the set cannot be opened.

    Args:
      model: which encodes them.

    Raises:
      ValueError: the set cannot be opened, and the run has kept no images.
    """
    import jax

    from deft_jax.data import description
    from deft_jax.evaluation import encoder, figures

    try:
        source = model.source
    except ValueError as error:
        kept = description.read_sample(model.workdir)
        if kept is None:
            raise
        return Sample(kept.images[:RECONSTRUCTED], kept.ground_truth, model.encode(kept.images), str(error))
    factors = encoder.draw_factors(source, SAMPLE, model.config.evaluation.seed)
    images = source.render(source.arrays, jax.numpy.asarray(factors[:RECONSTRUCTED]), jax.random.key(0))
    shown = figures.in_units(source.features, images)
    return Sample(shown, source.ground_truth(factors), model.encode_factors(factors))


def image_names(model: TrainedModel, sample: Sample, count: int) -> list[str]:
    """The ground truth of the first images as text; 'image 1' and so on without labels.

    Args:
      model: whose data set has names.
      sample: of it.
      count: how many images, at most.
    """
    names = model.description.ground_truth_names
    return [
        ", ".join(f"{name} {value}" for name, value in zip(names, row, strict=True)) or f"image {number}"
        for number, row in enumerate(sample.ground_truth[:count].tolist(), 1)
    ]


def open_latents(model: TrainedModel) -> np.ndarray:
    """Numbers of the latents whose groups are open at the checkpoint."""
    return np.flatnonzero(np.asarray(model.model.group_of_latent) <= model.stage)
