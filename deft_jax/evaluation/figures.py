"""Figures that a training writes into figures/: of the model at an evaluation, and of the whole log at the end."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from deft_jax.data.features import Features
from deft_jax.data.source import Source
from deft_jax.evaluation import ledger
from deft_jax.evaluation.decoder import Decoder
from deft_jax.evaluation.latent_selection import selection_note, shown_latents
from deft_jax.evaluation.traversal_codes import traversal_codes
from deft_jax.models import posterior as models_posterior
from deft_jax.models.networks import Model
from deft_jax.models.posterior import Posterior

if TYPE_CHECKING:  # matplotlib loads when a figure is drawn
    from matplotlib.figure import Figure

_RECONSTRUCTED, _TRAVERSAL_VALUES = 20, 9
LINES = 8
"""Vectors or series that a figure of reconstructions shows."""


def figures(
    *,
    source: Source,
    model: Model,
    params: Mapping[str, Any],
    stage: int,
    factors_NxF: np.ndarray,
    posterior: Posterior,
    scores: Mapping[str, Any],
    traversal_range: float = 2.0,
    title: str = "",
    decoder: Decoder | None = None,
) -> "dict[str, Figure]":
    """Traversals, reconstructions and, where there are labels, the NMI heat map.

    Traversals vary one latent of the first image. Of more than 20 open latents, those of highest KL are shown.

    Args:
      source: the data set.
      model: encoders and decoder.
      params: of the model.
      stage: groups up to this one are open.
      factors_NxF: a sample as it was evaluated, [N, F]; its first images are shown.
      posterior: of the sample, [N, D].
      scores: as from scores.score; the heat map shows its 'nmi'.
      traversal_range: a latent is set to values from -traversal_range to traversal_range, in standard deviations of
        the prior.
      title: above the heat map.
      decoder: of the model, if there is one that has compiled already.

    Returns:
      Figures by name.
    """
    from deft_jax.evaluation import plots

    group_of_latent = model.group_of_latent
    kl_D = np.asarray(jnp.mean(models_posterior.kl_per_latent(posterior), axis=0))
    values_T = np.linspace(-traversal_range, traversal_range, _TRAVERSAL_VALUES)
    open_latents = np.flatnonzero(np.asarray(group_of_latent) <= stage)
    traversed = open_latents[shown_latents(kl_D[open_latents])]
    z_LxTxD = traversal_codes(posterior.mean[:1], traversed, values_T)[:, 0]
    decode = decoder or Decoder(source, model)
    decoded = decode(params, z_LxTxD.reshape(-1, model.num_latents))
    labels = [f"z{latent} (group {group_of_latent[latent]})  KL {kl_D[latent]:.2f}" for latent in traversed]

    factors_RxF = jnp.asarray(factors_NxF[:_RECONSTRUCTED])
    originals = jax.jit(source.render)(source.arrays, factors_RxF, jax.random.key(0))
    reconstructed = decode(params, np.asarray(posterior.mean[:_RECONSTRUCTED]))
    features = source.features
    decoded = in_units(features, decoded.reshape(len(traversed), len(values_T), *source.image_shape))
    note = selection_note(len(traversed), len(open_latents))
    by_name = {
        "traversals": traversals(features, decoded, labels, values_T, note),
        "reconstructions": reconstructions(features, in_units(features, originals), in_units(features, reconstructed)),
    }
    if "nmi" in scores:
        names = source.ground_truth_names
        by_name["nmi"] = plots.nmi_heatmap(scores["nmi"], names, group_of_latent, title or None, kl_D)
    return by_name


def in_units(features: Features | None, images: ArrayLike) -> np.ndarray:
    """Images as they are; vectors and series in the units of the data.

    Args:
      features: of vectors and series, else None.
      images: [..., H, W, C], as the model takes and gives them.
    """
    return np.asarray(images) if features is None else features.restore(images)


def traversals(
    features: Features | None,
    decoded: np.ndarray,
    labels: Sequence[str],
    values_T: np.ndarray,
    note: str = "",
) -> "Figure":
    """Latent traversals as images, or as lines of vectors and series.

    Args:
      features: of vectors and series, else None.
      decoded: images [D, T, H, W, C], vectors [D, T, F] or series [D, T, S, C], as of `in_units`.
      labels: of the D rows.
      values_T: that the latents are set to.
      note: which latents are shown.
    """
    from deft_jax.evaluation import line_grids, plots

    if features is None:
        return plots.traversals(decoded, labels, values_T, note)
    note = ". ".join(filter(None, [f"{features.plural} {features.drawn_unit}", note]))
    return line_grids.traversal_lines(features.for_lines(decoded), labels, values_T, features.names, note)


def reconstructions(features: Features | None, originals: np.ndarray, decoded: np.ndarray) -> "Figure":
    """Originals and their reconstructions as images, or as lines of vectors and series.

    Args:
      features: of vectors and series, else None.
      originals: examples as of `in_units`; of vectors and series, the first 8 are shown.
      decoded: of the same shape.
    """
    from deft_jax.evaluation import line_grids, plots

    if features is None:
        return plots.reconstructions(originals, decoded)
    first, second = (features.for_lines(part[:LINES]) for part in (originals, decoded))
    return line_grids.reconstruction_lines(first, second, features.names)


def history_figures(
    records: Sequence[Mapping[str, Any]],
    *,
    factor_names: Sequence[str],
    group_of_latent: Sequence[int],
    stage_starts: Sequence[int],
    betas: Sequence[float],
) -> "dict[str, Figure]":
    """KL per latent over training and, where there are factors, NMI1, NMI2 and the ledger of information.

    Args:
      records: of metrics.jsonl.
      factor_names: of the F factors; empty for a set without labels.
      group_of_latent: the group of each latent.
      stage_starts: first steps of the stages.
      betas: the beta of each stage, or empty.

    Returns:
      Figures by name: 'kl', 'nmi1', 'nmi2', 'ledger'.
    """
    from deft_jax.evaluation import plots

    evaluations = [record for record in records if record["kind"] == "eval"]
    updates = [record for record in records if record["kind"] == "train"]
    by_name = {}
    for name in ("nmi1", "nmi2") if factor_names else ():
        values = np.array([record[name] for record in evaluations])
        steps = np.array([record["step"] for record in evaluations])
        by_name[name] = plots.nmi_over_time(steps, values, factor_names, name.upper(), stage_starts, betas)
    by_name |= ledger_figure(records, group_of_latent=group_of_latent, stage_starts=stage_starts)
    steps = np.array([record["step"] for record in updates])
    values = np.array([record["kl_per_latent"] for record in updates])
    by_name["kl"] = plots.kl_over_time(steps, values, group_of_latent, stage_starts, betas)
    return by_name


def ledger_figure(
    records: Sequence[Mapping[str, Any]], *, group_of_latent: Sequence[int], stage_starts: Sequence[int]
) -> "dict[str, Figure]":
    """The ledger of home and foreign information over training.

    Args:
      records: of metrics.jsonl.
      group_of_latent: the group of each latent.
      stage_starts: first steps of the stages.

    Returns:
      {'ledger': Figure}; {} where no evaluation has a ledger.
    """
    from deft_jax.evaluation import plots

    evaluations = ledger.with_ledger(records)
    if not evaluations:
        return {}
    figure = plots.ledger_over_time(
        [record["step"] for record in evaluations],
        [record["home_information"] for record in evaluations],
        [record["foreign_information"] for record in evaluations],
        group_of_latent,
        [record["beta"] for record in evaluations],
        stage_starts,
    )
    return {"ledger": figure}


def save_figures(figure_of_name: "Mapping[str, Figure]", directory: pathlib.Path, suffix: str = "") -> None:
    """Writes figures as NAME[suffix].png into the directory."""
    from deft_jax.evaluation import plots

    for name, figure in figure_of_name.items():
        plots.save(figure, directory / f"{name}{suffix}.png")
