"""Figures of a model: traversals, reconstructions, NMI, and curves over training."""

import pathlib
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from deft_jax.data.source import Source
from deft_jax.models import posterior as models_posterior
from deft_jax.models.likelihoods import to_images
from deft_jax.models.networks import Model
from deft_jax.models.posterior import Posterior


def figures(
    *,
    source: Source,
    model: Model,
    params,
    stage: int,
    factors_NxF: np.ndarray,
    posterior: Posterior,
    scores: Mapping,
    traversal_range: float = 2.0,
    title: str = "",
) -> dict:
    """Traversals, reconstructions and, where there are labels, the NMI heat map as matplotlib figures by name.

    factors_NxF, posterior: a sample, as evaluated; its first images are shown. Traversals set one latent of the
    first image to values from -traversal_range to traversal_range and leave the others at their posterior means. Of
    more than 20 open latents, those of highest KL are shown.
    """
    from deft_jax.evaluation import plots

    group_of_latent = model.group_of_latent
    kl_D = np.asarray(jnp.mean(models_posterior.kl_per_latent(posterior), axis=0))
    values_T = np.linspace(-traversal_range, traversal_range, 9)
    opened = np.flatnonzero(np.asarray(group_of_latent) <= stage)
    traversed = opened[plots.shown_latents(kl_D[opened])]
    z_LxTxD = np.tile(posterior.mean[0], (len(traversed), len(values_T), 1))
    for row, latent in enumerate(traversed):
        z_LxTxD[row, :, latent] = values_T
    decode = jax.jit(lambda params, z: to_images(source.likelihood, model.decode(params, z)))
    decoded = decode(params, jnp.asarray(z_LxTxD.reshape(-1, model.num_latents)))
    labels = [f"z{latent} (group {group_of_latent[latent]})  KL {kl_D[latent]:.2f}" for latent in traversed]

    shown = min(20, len(factors_NxF))
    images = jax.jit(source.render)(source.arrays, jnp.asarray(factors_NxF[:shown]), jax.random.key(0))
    again = decode(params, jnp.asarray(posterior.mean[:shown]))
    made = {
        "traversals": plots.traversals(
            np.asarray(decoded).reshape(len(traversed), len(values_T), *source.image_shape),
            labels,
            values_T,
            plots.selection_note(len(traversed), len(opened)),
        ),
        "reconstructions": plots.reconstructions(np.asarray(images), np.asarray(again)),
    }
    if "nmi" in scores:
        names = source.ground_truth_names
        made["nmi"] = plots.nmi_heatmap(
            scores["nmi"], names, group_of_latent_D=group_of_latent, title=title or None, kl_D=kl_D
        )
    return made


def history_figures(
    records: Sequence[Mapping],
    *,
    factor_names: Sequence[str],
    group_of_latent: Sequence[int],
    stage_starts: Sequence[int],
    betas: Sequence[float],
) -> dict:
    """NMI1, NMI2 (where there are factors) and KL per latent over training, from metrics.jsonl, as figures by name."""
    from deft_jax.evaluation import plots

    evaluated = [record for record in records if record["kind"] == "eval"]
    trained = [record for record in records if record["kind"] == "train"]
    marks = {"stage_starts": stage_starts, "betas": betas}
    made = {}
    for name in ("nmi1", "nmi2") if factor_names else ():
        values = np.array([record[name] for record in evaluated])
        steps = np.array([record["step"] for record in evaluated])
        made[name] = plots.nmi_over_time(steps, values, factor_names, name.upper(), **marks)
    steps = np.array([record["step"] for record in trained])
    values = np.array([record["kl_per_latent"] for record in trained])
    made["kl"] = plots.kl_over_time(steps, values, group_of_latent, **marks)
    return made


def save_figures(made: Mapping, directory: pathlib.Path, suffix: str = "") -> None:
    """Writes figures as NAME[suffix].png into the directory."""
    from deft_jax.evaluation import plots

    for name, figure in made.items():
        plots.save(figure, directory / f"{name}{suffix}.png")
