"""What a report shows of a trained model: a live decoder, traversals with sliders, reconstructions, projections."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deft_jax.data.features import Features
from deft_jax.models.posterior import kl_per_latent
from deft_jax.reporting.elements import Image, Section, image_of, png_uri
from deft_jax.reporting.live_section import live_decoder
from deft_jax.reporting.model_sample import COLLAPSED, RECONSTRUCTED, Sample, draw_sample, image_names, open_latents
from deft_jax.training.restore import TrainedModel

BASES = 4
"""Images that traversals start from."""
VALUES = np.linspace(-2.5, 2.5, 15)
"""Values of a traversal, for a traversal_range of 2 standard deviations of the prior; scaled for other ranges."""
ELLIPSES = 60
"""Posteriors of which the projections show the standard deviation."""


@dataclasses.dataclass(frozen=True)
class BaseImage:
    """An image that traversals start from. source: a data URI."""

    source: str
    name: str


@dataclasses.dataclass(frozen=True)
class LatentSlider:
    """The traversals of one latent.

    Attributes:
      latent: its number.
      label: its group, KL and best factor.
      sprite: data URI of all its decoded images: one row per base image, one column per value.
      starts: for each base image, the index of the value nearest to its posterior mean.
    """

    latent: int
    label: str
    sprite: str
    starts: Sequence[int]


@dataclasses.dataclass(frozen=True)
class Traversals(Section):
    """Sliders that each move one latent of a decoded image.

    Attributes:
      bases: images to choose from.
      sliders: one per latent.
      values: of each slider, as text.
      aspect: height of an image by its width.
      selection: which latents these are; '' for all that are open.
      fallback_reason: why the images are those kept with the run; '' where the data set could be opened.
      num_kept: images kept with the run, where these are used.
      labelled: whether the labels of the sliders name factors.
    """

    bases: Sequence[BaseImage]
    sliders: Sequence[LatentSlider]
    values: Sequence[str]
    aspect: float
    selection: str = ""
    fallback_reason: str = ""
    num_kept: int = 0
    labelled: bool = False

    heading = "Traversals"
    template = "traversals.html.j2"


@dataclasses.dataclass(frozen=True)
class TraversalLines(Section):
    """Traversals of vectors or series: one row per latent, one line for each value that it is set to.

    Attributes:
      image: the lines.
      plural: 'vectors' or 'series'.
      unit: in which they are drawn.
      selection, fallback_reason, num_kept: as of Traversals.
    """

    image: Image
    plural: str
    unit: str
    selection: str = ""
    fallback_reason: str = ""
    num_kept: int = 0

    heading = "Traversals"
    template = "traversal_lines.html.j2"


@dataclasses.dataclass(frozen=True)
class Reconstructions(Section):
    """Images above their reconstructions, or vectors and series with theirs.

    Attributes:
      image: the figure.
      count: of examples.
      noun: 'images', 'vectors' or 'series'.
    """

    image: Image
    count: int
    noun: str = "images"

    heading = "Reconstructions"
    template = "reconstructions.html.j2"


@dataclasses.dataclass(frozen=True)
class Projections(Section):
    """Posterior means on pairs of latents.

    Attributes:
      image: None where there are too few open latents or factors.
      panels: ((latent, latent), (factor name, factor name)) of each column.
      num_images: whose means are shown.
      num_ellipses: of them with an ellipse.
    """

    image: Image | None
    panels: Sequence[tuple[tuple[int, int], tuple[str, str]]]
    num_images: int
    num_ellipses: int = ELLIPSES

    heading = "Projections"
    template = "projections.html.j2"


def model_sections(model: TrainedModel, live: bool = True) -> list[Section]:
    """The live decoder, traversals, reconstructions and projections of a model at its checkpoint.

    Args:
      model: as restored.
      live: whether the decoder goes into the page.
    """
    from deft_jax.evaluation import figures
    from deft_jax.evaluation import scores as evaluation_scores

    sample, description = draw_sample(model), model.description
    kl_D = np.asarray(kl_per_latent(sample.posterior)).mean(axis=0)
    evaluations = [record for record in model.records if record["kind"] == "eval"]
    scores: Mapping[str, Any] = evaluations[-1] if evaluations else evaluation_scores.score(
        np.asarray(sample.posterior.mean),
        evaluation_scores.in_bins(sample.ground_truth, description.ground_truth_continuous),
    )
    nmi_DxF = np.array(scores["nmi"]) if description.ground_truth_names else np.zeros((len(kl_D), 0))
    features = description.features
    count = RECONSTRUCTED if features is None else figures.LINES
    decoded = model.decode(np.asarray(sample.posterior.mean)[:count])
    drawn = image_of(figures.reconstructions(features, sample.images[:count], decoded), "png")
    return [
        *([live_decoder(model, sample, kl_D, nmi_DxF)] if live else []),
        traversals(model, sample, kl_D, nmi_DxF) if features is None
        else traversal_lines(model, features, sample, kl_D, nmi_DxF),
        Reconstructions(drawn, len(decoded), "images" if features is None else features.plural),
        projections(model, sample, kl_D, nmi_DxF),
    ]


def traversals(model: TrainedModel, sample: Sample, kl_D: np.ndarray, nmi_DxF: np.ndarray) -> Traversals:
    """Traversals of the open latents; of more than 20, those of highest KL.

    Args:
      model: which decodes them.
      sample: whose first images they start from.
      kl_D: KL of each latent in nats.
      nmi_DxF: of each latent with each factor; F = 0 without labels.
    """
    from deft_jax.evaluation.latent_selection import selection_note, shown_latents
    from deft_jax.evaluation.traversal_codes import traversal_codes

    names, opened = model.description.ground_truth_names, open_latents(model)
    latents = opened[shown_latents(kl_D[opened])]
    values_T = VALUES * model.traversal_range / 2
    means_BxD = np.asarray(sample.posterior.mean)[:BASES]
    z_LxBxTxD = traversal_codes(means_BxD, latents, values_T)
    decoded = model.decode(z_LxBxTxD.reshape(-1, z_LxBxTxD.shape[-1]))
    labels = _latent_labels(model, latents, kl_D, nmi_DxF)
    section = sliders(
        sample.images[:BASES], image_names(model, sample, BASES), means_BxD,
        decoded.reshape(*z_LxBxTxD.shape[:3], *model.description.image_shape), latents.tolist(), labels, values_T,
    )  # fmt: skip
    return dataclasses.replace(
        section, selection=selection_note(len(latents), len(opened)), fallback_reason=sample.fallback_reason,
        num_kept=len(sample.ground_truth), labelled=bool(names),
    )  # fmt: skip


def traversal_lines(
    model: TrainedModel, features: Features, sample: Sample, kl_D: np.ndarray, nmi_DxF: np.ndarray
) -> TraversalLines:
    """Traversals of the open latents of vectors or series, from the first example; arguments as of `traversals`."""
    from deft_jax.evaluation import figures
    from deft_jax.evaluation.latent_selection import selection_note, shown_latents
    from deft_jax.evaluation.traversal_codes import traversal_codes

    opened = open_latents(model)
    latents = opened[shown_latents(kl_D[opened])]
    values_T = VALUES[::2] * model.traversal_range / VALUES[-1]
    z_LxTxD = traversal_codes(np.asarray(sample.posterior.mean)[:1], latents, values_T)[:, 0]
    decoded = model.decode(z_LxTxD.reshape(-1, z_LxTxD.shape[-1]))
    labels = [f"z{latent}\n{label}" for latent, label in
              zip(latents, _latent_labels(model, latents, kl_D, nmi_DxF), strict=True)]  # fmt: skip
    drawn = figures.traversals(features, decoded.reshape(*z_LxTxD.shape[:2], *decoded.shape[1:]), labels, values_T)
    note = selection_note(len(latents), len(opened))
    return TraversalLines(
        image_of(drawn, "png"), features.plural, features.drawn_unit, note, sample.fallback_reason,
        len(sample.ground_truth),
    )  # fmt: skip


def _latent_labels(
    model: TrainedModel, latents: np.ndarray, kl_D: np.ndarray, nmi_DxF: np.ndarray
) -> list[str]:
    """Group, KL and best factor of each latent."""
    names, group_of_latent = model.description.ground_truth_names, model.model.group_of_latent
    labels = []
    for latent in latents:
        parts = [f"group {group_of_latent[latent]}"] if len(set(group_of_latent)) > 1 else []
        parts.append(f"KL {kl_D[latent]:.2f}")
        if kl_D[latent] < COLLAPSED:
            parts.append("collapsed")
        elif names:
            best = int(nmi_DxF[latent].argmax())
            parts.append(f"{names[best]} {nmi_DxF[latent, best]:.2f}")
        labels.append(", ".join(parts))
    return labels


def sliders(
    originals_BxHxWxC: np.ndarray,
    names_B: Sequence[str],
    means_BxD: np.ndarray,
    decoded_LxBxTxHxWxC: np.ndarray,
    latents_L: Sequence[int],
    labels_L: Sequence[str],
    values_T: np.ndarray,
) -> Traversals:
    """Sliders from decoded images.

    Args:
      originals_BxHxWxC: the base images.
      names_B: their names.
      means_BxD: their posterior means.
      decoded_LxBxTxHxWxC: each base image with latent latents_L[l] set to values_T[t].
      latents_L: numbers of the latents that vary.
      labels_L: text below each slider.
      values_T: of each slider.
    """
    height, width = originals_BxHxWxC.shape[1:3]
    starts_DxB = np.abs(np.asarray(values_T)[:, None, None] - means_BxD.T).argmin(axis=0)
    return Traversals(
        [BaseImage(png_uri(image), name) for image, name in zip(originals_BxHxWxC, names_B, strict=True)],
        [
            LatentSlider(latent, label, png_uri(sprite(images)), starts_DxB[latent].tolist())
            for latent, label, images in zip(latents_L, labels_L, decoded_LxBxTxHxWxC, strict=True)
        ],
        [f"{value:.2f}".replace("-", "−") for value in values_T],
        height / width,
    )


def sprite(images_BxTxHxWxC: np.ndarray) -> np.ndarray:
    """Images in a grid [B H, T W, C]: one row per base image, one column per value."""
    bases, values, height, width, channels = images_BxTxHxWxC.shape
    return images_BxTxHxWxC.transpose(0, 2, 1, 3, 4).reshape(bases * height, values * width, channels)


def projections(model: TrainedModel, sample: Sample, kl_D: np.ndarray, nmi_DxF: np.ndarray) -> Projections:
    """Posterior means on pairs of the most informative latents; for the arguments see `traversals`."""
    from deft_jax.reporting import figures

    mean, names = np.asarray(sample.posterior.mean), model.description.ground_truth_names
    pairs = informative_pairs(kl_D, nmi_DxF, open_latents(model).tolist())
    if not pairs:
        return Projections(None, [], len(mean))
    std = np.exp(0.5 * np.asarray(sample.posterior.logvar))
    drawn = figures.projections(mean, std, sample.ground_truth, names, pairs, ELLIPSES)
    panels = [(latents, (names[first], names[second])) for latents, (first, second) in pairs]
    return Projections(image_of(drawn, "png"), panels, len(mean))


def informative_pairs(
    kl_D: Sequence[float] | np.ndarray, nmi_DxF: np.ndarray, open_latents: Sequence[int]
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Pairs among the three open latents of highest KL, each with two factors to colour it by.

    The factors are those of highest NMI with either latent; where both have the same, the second is the next best.

    Args:
      kl_D: KL of each latent in nats.
      nmi_DxF: of each latent with each factor.
      open_latents: numbers of latents.

    Returns:
      ((latent, latent), (factor, factor)) of each pair; empty for fewer than two open latents or two factors.
    """
    best = sorted(open_latents, key=lambda latent: -kl_D[latent])[:3]
    if np.shape(nmi_DxF)[1] < 2:
        return []
    pairs = []
    for index, across in enumerate(best):
        for up in best[index + 1 :]:
            first, second = int(np.argmax(nmi_DxF[across])), int(np.argmax(nmi_DxF[up]))
            if first == second:
                others = np.maximum(nmi_DxF[across], nmi_DxF[up])
                others[first] = -1.0
                second = int(np.argmax(others))
            pairs.append(((across, up), (first, second)))
    return pairs
