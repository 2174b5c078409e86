"""The section of a report whose decoder runs in the browser: its weights, codes to start from, and the evaluations.

templates/decoder.js is the decoder, templates/live.js connects it with sliders, the plane and the images.
"""

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deft_jax.models.decoder_layers import Layer, apply_layers, decoder_layers
from deft_jax.reporting import weights
from deft_jax.reporting.elements import Section, png_uri, thin
from deft_jax.reporting.model_sample import COLLAPSED, Sample, image_names, open_latents
from deft_jax.training.checkpoint import Checkpoints
from deft_jax.training.restore import TrainedModel, load

LARGEST = 8_000_000
"""Bytes of weights of one model in a page, at most, before base64."""
TOLERANCE = 0.005
"""Change of a pixel by the rounding of weights above which they are kept in single precision."""
MISMATCH = 0.05
"""Change of a pixel above which the page has no live decoder."""
CLOUD = 256
"""Posterior means that the plane shows, at most."""
MOST_EVALUATIONS = 60
"""Evaluations that the slider of the stages moves through, at most."""
_MOST_CLOUD_NUMBERS = 20_000
_PROBES = 44  # codes beside those of the images at which rounding is measured


@dataclasses.dataclass(frozen=True)
class LiveImage:
    """An image to start from. source: a data URI."""

    source: str
    name: str


@dataclasses.dataclass(frozen=True)
class LiveLatent:
    """A slider.

    Attributes:
      latent: its number.
      group: of its encoder; None where there is one group.
      is_open: whether the group is open at the checkpoint.
      is_off: whether it is not open, or its KL is below COLLAPSED.
      in_front: whether it is among those that are shown first.
    """

    latent: int
    group: int | None
    is_open: bool
    is_off: bool
    in_front: bool


@dataclasses.dataclass(frozen=True)
class LiveDecoder(Section):
    """A decoder that runs in the browser.

    Attributes:
      missing: why there is none; the other fields are then empty.
      data: what live.js reads, see `live_decoder`.
      images: of the data set, whose codes are in `data`.
      latents: one per slider.
      limit: sliders reach from -limit to limit.
      starts: of the sliders, the code of the first image.
      num_bytes: of all weights.
      precision: 'half' or 'single', of the weights.
      error: the largest change of a pixel by it.
      stages_without: stages before the last of which no checkpoint is left.
      selection: which latents are in front; '' for all.
    """

    missing: str
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    images: Sequence[LiveImage] = ()
    latents: Sequence[LiveLatent] = ()
    limit: float = 0.0
    starts: Sequence[float] = ()
    num_bytes: int = 0
    precision: str = "half"
    error: float = 0.0
    stages_without: Sequence[int] = ()
    selection: str = ""

    heading = "Live decoder"
    template = "live.html.j2"


def live_decoder(model: TrainedModel, sample: Sample, kl_D: np.ndarray, nmi_DxF: np.ndarray) -> LiveDecoder:
    """The section of a model, with the decoders of earlier stages whose checkpoints are left.

    Args:
      model: whose decoder is read.
      sample: whose images the page starts from.
      kl_D: KL of each latent in nats.
      nmi_DxF: of each latent with each factor; F = 0 without labels.

    Returns:
      The section. Its data has 'shape' and 'likelihood' of the images; 'key', equal where the images of two runs are;
      'names' of the factors; 'cloud', posterior means of more images; 'evaluations' with step, stage, beta, KL,
      best factor and NMI of each latent; 'snapshots' with step, stage, codes of the images and layers. The last of
      them is the model itself.
    """
    if model.description.features is not None:
        return LiveDecoder(f"The live decoder draws images, and the examples of this set are "
                           f"{model.description.features.plural}: it does not apply.")
    try:
        layers = decoder_layers(model.model, model.params)
    except ValueError as fault:
        return LiveDecoder(f"The decoder does not run in a browser: {fault}.")
    num_bytes = weights.size_in_bytes(layers)
    if num_bytes > LARGEST:
        return LiveDecoder(
            f"The decoder has {num_bytes / 2e6:.1f} million weights, {num_bytes / 1e6:.1f} MB in half precision; "
            f"a page takes at most {LARGEST / 1e6:.0f} MB."
        )
    codes = np.asarray(model.encode(sample.images).mean)
    if not np.isfinite(codes).all():
        return LiveDecoder("Posterior means of its images are not finite numbers.")
    limit = _slider_limit(model.traversal_range, codes)
    precision, error = _precision(model, layers, codes, limit)
    if not error <= MISMATCH:  # also where it is NaN
        return LiveDecoder(f"In {precision} precision the decoder's images differ by {error:.2g} from the model's.")
    num_bytes = weights.size_in_bytes(layers, precision)
    snapshots, stages_without = _earlier_snapshots(model, sample, precision, LARGEST - num_bytes)
    snapshots.append(_snapshot(model, layers, codes, precision))
    num_bytes = sum(weights.size_in_bytes(layers, precision) for _ in snapshots)
    latents, selection = _latents(model, kl_D)
    names = image_names(model, sample, len(codes))
    data = {
        "shape": model.description.image_shape,
        "likelihood": model.description.likelihood,
        "key": _key(sample),
        "names": model.description.ground_truth_names,
        "precision": precision,
        "cloud": _cloud(sample),
        "evaluations": _evaluations(model, kl_D, nmi_DxF),
        "snapshots": snapshots,
        "off": COLLAPSED,
    }
    return LiveDecoder(
        "", data, [LiveImage(png_uri(image), name) for image, name in zip(sample.images, names, strict=True)], latents,
        limit, codes[0].tolist(), num_bytes, precision, error, stages_without, selection,
    )  # fmt: skip


def _slider_limit(traversal_range: float, codes_NxD: np.ndarray) -> float:
    """As far as the traversals reach, further where a code lies outside; a multiple of 1/2."""
    return math.ceil(2 * max(1.25 * traversal_range, float(np.abs(codes_NxD).max(initial=0.0)))) / 2


def _precision(
    model: TrainedModel, layers: Sequence[Layer], codes: np.ndarray, limit: float
) -> tuple[weights.Precision, float]:
    """How weights are rounded, and the largest change of a pixel at codes of images and anywhere that sliders reach."""
    import jax

    from deft_jax.models import likelihoods

    anywhere = np.random.default_rng(0).uniform(-limit, limit, (_PROBES, codes.shape[1]))
    probes = np.concatenate([codes, anywhere]).astype(np.float32)
    wanted, likelihood, shape = model.decode(probes), model.description.likelihood, model.description.image_shape
    decode = jax.jit(
        lambda kernels, biases, z: likelihoods.to_images(
            likelihood,
            apply_layers([layer._replace(kernel=kernel, bias=bias)
                          for layer, kernel, bias in zip(layers, kernels, biases, strict=True)], z, shape),
        )
    )  # fmt: skip

    def largest_error(of: Sequence[Layer]) -> float:
        images = decode([layer.kernel for layer in of], [layer.bias for layer in of], probes)
        return float(np.abs(np.asarray(images) - wanted).max())

    return weights.choose_precision(layers, largest_error, TOLERANCE)


def _snapshot(
    model: TrainedModel, layers: Sequence[Layer], codes: np.ndarray, precision: weights.Precision
) -> dict[str, Any]:
    return {
        "step": model.step,
        "stage": model.stage,
        "codes": codes.round(4).tolist(),
        "layers": weights.pack_layers(layers, precision),
    }


def _earlier_snapshots(
    model: TrainedModel, sample: Sample, precision: weights.Precision, room: int
) -> tuple[list[dict[str, Any]], list[int]]:
    """Of each stage before that of the model, the last checkpoint that is left; and the stages of which none is.

    Args:
      model: of the newest checkpoint.
      sample: of its data set.
      precision: of the weights.
      room: bytes that they may have together; the latest stages come first.
    """
    steps = Checkpoints(model.workdir / "checkpoints", keep=1).steps
    last_of_stage = {model.stages.at(max(step - 1, 0)): step for step in steps}
    snapshots, without = [], []
    for stage in reversed(range(model.stage)):
        try:
            earlier = load(model.workdir, last_of_stage[stage])
        except (KeyError, ValueError):  # none is left, or it is damaged
            without.append(stage)
            continue
        layers = decoder_layers(earlier.model, earlier.params)
        room -= weights.size_in_bytes(layers, precision)
        if room < 0:
            without.append(stage)
            continue
        codes = np.asarray(earlier.encode(sample.images).mean)
        snapshots.append(_snapshot(earlier, layers, codes, precision))
    return snapshots[::-1], without[::-1]


def _latents(model: TrainedModel, kl_D: np.ndarray) -> tuple[list[LiveLatent], str]:
    """All latents in order, and which of them are in front."""
    from deft_jax.evaluation.latent_selection import selection_note, shown_latents

    groups, opened = model.model.group_of_latent, set(open_latents(model).tolist())
    front = set(shown_latents([kl if latent in opened else -1.0 for latent, kl in enumerate(kl_D)]).tolist())
    latents = [
        LiveLatent(
            latent, group if len(set(groups)) > 1 else None, latent in opened,
            latent not in opened or not kl_D[latent] >= COLLAPSED, latent in front,
        )
        for latent, group in enumerate(groups)
    ]  # fmt: skip
    return latents, selection_note(len(front), len(groups))


def _cloud(sample: Sample) -> dict[str, Any]:
    """Posterior means of images, which the plane shows and by which latents of two models are paired."""
    means = np.asarray(sample.posterior.mean)
    means = means[: max(2, min(CLOUD, _MOST_CLOUD_NUMBERS // means.shape[1]))]
    return {"count": len(means)} | weights.pack(means, "half")


def _key(sample: Sample) -> str:
    """Equal for the samples of two runs if they are the same images in the same order."""
    pixels = np.round(255 * np.asarray(sample.images)).astype(np.uint8)
    labels = np.asarray(sample.ground_truth, float)[:CLOUD]
    shapes = repr((pixels.shape, labels.shape)).encode()
    return hashlib.sha256(shapes + pixels.tobytes() + labels.tobytes()).hexdigest()[:16]


def _evaluations(model: TrainedModel, kl_D: np.ndarray, nmi_DxF: np.ndarray) -> list[dict[str, Any]]:
    """KL, best factor and NMI of each latent at the evaluations and, last, at the checkpoint."""
    logged = [record for record in model.records if record["kind"] == "eval" and "kl_per_latent" in record]
    entries = [
        (record["step"], record["stage"], record["beta"], record["kl_per_latent"], np.array(record.get("nmi", [])))
        for record in thin(logged, MOST_EVALUATIONS)
    ]
    if not entries:
        entries = [(model.step, model.stage, float(model.stages.beta(model.step)), kl_D, nmi_DxF)]
    return [
        {
            "step": step,
            "stage": stage,
            "beta": float(f"{beta:.4g}"),
            "kl": np.nan_to_num(np.asarray(kl, float)).round(3).tolist(),
            "best": nmi.argmax(axis=1).tolist() if nmi.ndim == 2 and nmi.shape[1] else [],
            "nmi": nmi.max(axis=1).round(3).tolist() if nmi.ndim == 2 and nmi.shape[1] else [],
        }
        for step, stage, beta, kl, nmi in entries
    ]
