"""What a report shows of a training: the list of its sections, its summary, and those that are read from its log.

The sections of the model itself, such as the traversals, are in model_sections.py.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deft_jax.data.description import SourceDescription
from deft_jax.reporting.elements import Image, Section, image_of, thin
from deft_jax.reporting.ledger_section import information_ledger
from deft_jax.reporting.model_sections import model_sections
from deft_jax.reporting.run_summary import RunSummary, devices_text, options_text, run_summary
from deft_jax.reporting.runs import Run
from deft_jax.runtime.paths import shown
from deft_jax.training.restore import TrainedModel, load
from deft_jax.training.schedules import Stages

Record = Mapping[str, Any]

MOST_POINTS = 1000
"""Of a curve, at most."""
MOST_FRAMES = 200
"""NMI matrices that the slider moves through, at most."""
MOST_ROTATIONS = 24
"""Rotations that are listed, at most."""


@dataclasses.dataclass(frozen=True)
class TrainingCurves(Section):
    """Curves of what was logged over the steps.

    Attributes:
      curves: loss, reconstruction, KL and beta; None where nothing was logged.
      kl_per_latent: None where nothing was logged.
      kl_decomposition: parts of the KL at the evaluations; None where they do not have them.
      num_stages: stages that have started.
      rotations: (degrees, step) of the rotations that are listed.
      num_rotations: of all rotations.
    """

    curves: Image | None
    kl_per_latent: Image | None
    kl_decomposition: Image | None
    num_stages: int
    rotations: Sequence[tuple[float, int]]
    num_rotations: int

    heading = "Training"
    template = "training_curves.html.j2"


@dataclasses.dataclass(frozen=True)
class MatrixRow:
    """A latent of the NMI matrix.

    Attributes:
      latent: its number.
      group: None where there is one group only.
      starts_group: whether the latent above belongs to another group.
    """

    latent: int
    group: int | None
    starts_group: bool


@dataclasses.dataclass(frozen=True)
class NmiMatrix:
    """The NMI matrix at every evaluation.

    Attributes:
      labels: of the evaluations: step, stage and beta.
      frames: NMI by evaluation, latent and factor, rounded.
      factor_names: of the columns.
      rows: the latents that are shown.
      selection: which latents these are; '' for all.
    """

    labels: Sequence[str]
    frames: Sequence[Sequence[Sequence[float]]]
    factor_names: Sequence[str]
    rows: Sequence[MatrixRow]
    selection: str


@dataclasses.dataclass(frozen=True)
class LatentInformation(Section):
    """Which latent has information on which factor, over training.

    Attributes:
      evaluated: whether there was an evaluation.
      labelled: whether the data set has labels; without them, or without evaluations, the others are None.
      nmi1, nmi2: of the best and of the second best latent over steps.
      diffusion: of every latent over steps, one panel per factor.
      stage_ends: the matrix at the end of each stage; None where there is one stage.
      matrix: the matrix at every evaluation.
    """

    evaluated: bool
    labelled: bool
    nmi1: Image | None = None
    nmi2: Image | None = None
    diffusion: Image | None = None
    stage_ends: Image | None = None
    matrix: NmiMatrix | None = None

    heading = "Information in the latents"
    template = "latent_information.html.j2"


def training_sections(run: Run, live: bool = True) -> list[Section]:
    """The sections of a training, in their order.

    Args:
      run: a workdir of a training; its checkpoint is read.
      live: whether the decoder goes into the page.

    Raises:
      ValueError: there is no checkpoint.
    """
    model = load(run.workdir)
    groups = model.model.group_of_latent
    return [
        training_summary(run, model),
        training_curves(model.records, model.stages, groups),
        latent_information(model.records, model.stages, model.description.ground_truth_names, groups),
        *information_ledger(model.records, model.stages.starts, groups, run.results),
        *model_sections(model, live),
    ]


def training_summary(run: Run, model: TrainedModel) -> RunSummary:
    """The objective, the data, the latents, the stages and how far the training came."""
    config, stages, groups = run.config, model.stages, model.model.group_of_latent
    progress = "finished" if model.step == stages.total_steps else "not finished"
    betas = ", ".join(f"{float(stages.beta(start)):.3g}" for start in stages.starts)
    facts = {
        "Workdir": shown(run.workdir),
        "Objective": options_text(config["objective"]),
        "Data": f"{options_text(config['data'])}, {model.description.num_images:,} {_noun(model.description)}",
        **({"Read as": "; ".join(model.description.remarks)} if model.description.remarks else {}),
        "Model": model.model.summary,
        "Latents": ", ".join(f"{groups.count(group)} in group {group}" for group in dict.fromkeys(groups)),
        "Stages": f"{len(stages)}, starting at beta {betas}",
        "Optimiser": options_text(config["optimizer"]),
        "Batch": str(config["batch_size"]),
        "Seed": str(config["seed"]),
        "Step": f"{model.step:,} of {stages.total_steps:,}, {progress}; stage {model.stage}",
        "Machine": devices_text(run.results.get("devices", [])) or "recorded at the end of a run",
        "Versions": ", ".join(f"{name} {version}" for name, version in run.results.get("versions", {}).items()),
    }
    return run_summary(facts, config)


def _noun(description: SourceDescription) -> str:
    """'images', or 'vectors' or 'series' with their normalisation."""
    features = description.features
    return "images" if features is None else f"{features.plural} (normalisation: {features.rule})"


def training_curves(records: Sequence[Record], stages: Stages, group_of_latent: Sequence[int]) -> TrainingCurves:
    """Loss, reconstruction, KL, beta, KL per latent, and the parts of the KL where evaluations have them.

    Args:
      records: of metrics.jsonl.
      stages: of the training.
      group_of_latent: the group of each latent.
    """
    from deft_jax.evaluation import plots
    from deft_jax.reporting import figures

    rotations = [(record["degrees"], record["step"]) for record in records if record["kind"] == "rotation"]
    listed = thin(rotations, MOST_ROTATIONS)
    updates = thin([record for record in records if record["kind"] == "train"], MOST_POINTS)
    if not updates:
        return TrainingCurves(None, None, None, 0, listed, len(rotations))
    steps = [record["step"] for record in updates]
    starts = _starts_before(stages, steps[-1])
    labels = {"loss": "loss (nats)", "reconstruction": "reconstruction (nats)", "kl": "KL (nats)", "beta": "β"}
    curves = {label: [record[name] for record in updates] for name, label in labels.items()}
    latents = plots.kl_over_time(steps, [record["kl_per_latent"] for record in updates], group_of_latent, starts)
    return TrainingCurves(
        image_of(figures.training_curves(steps, curves, starts, ("loss (nats)", "reconstruction (nats)", "β"))),
        image_of(latents),
        _kl_decomposition(records, stages),
        len(starts),
        listed,
        len(rotations),
    )


def _kl_decomposition(records: Sequence[Record], stages: Stages) -> Image | None:
    from deft_jax.evaluation import plots

    evaluations = [record for record in records if record["kind"] == "eval" and "mutual_information" in record]
    if not evaluations:
        return None
    parts = {
        "mutual_information": "I(x; z)",
        "total_correlation": "total correlation",
        "dimension_wise_kl": "dimension-wise KL",
    }
    evaluations = thin(evaluations, MOST_FRAMES)
    steps = [record["step"] for record in evaluations]
    values = [[sum(record["kl_per_latent"]), *(record[name] for name in parts)] for record in evaluations]
    starts = _starts_before(stages, steps[-1])
    return image_of(plots.nmi_over_time(steps, values, ["KL", *parts.values()], "nats", starts))


def latent_information(
    records: Sequence[Record], stages: Stages, factor_names: Sequence[str], group_of_latent: Sequence[int]
) -> LatentInformation:
    """NMI of the latents with the factors at the evaluations, as curves, heat maps and a matrix with a slider.

    Args:
      records: of metrics.jsonl.
      stages: of the training.
      factor_names: empty for a data set without labels.
      group_of_latent: the group of each latent.
    """
    from deft_jax.evaluation import plots
    from deft_jax.reporting import figures

    evaluations = [record for record in records if record["kind"] == "eval"]
    if not evaluations or not factor_names:
        return LatentInformation(bool(evaluations), bool(factor_names))
    shown = thin(evaluations, MOST_FRAMES)
    steps = [record["step"] for record in shown]
    starts = _starts_before(stages, steps[-1])
    nmi1, nmi2 = (
        image_of(plots.nmi_over_time(steps, [record[name] for record in shown], factor_names, name.upper(), starts))
        for name in ("nmi1", "nmi2")
    )
    kl_D = evaluations[-1].get("kl_per_latent")
    diffusion = figures.diffusion(steps, [record["nmi"] for record in shown], factor_names, starts, kl_D)
    ends = {record["stage"]: record for record in evaluations}
    titles = [f"stage {stage}: step {record['step']:,}, β {record['beta']:.3g}" for stage, record in ends.items()]
    stage_ends = None
    if len(ends) > 1:
        matrices = [record["nmi"] for record in ends.values()]
        stage_ends = image_of(figures.stage_ends(matrices, factor_names, titles, kl_D))
    matrix = nmi_matrix(evaluations, factor_names, group_of_latent)
    return LatentInformation(True, True, nmi1, nmi2, image_of(diffusion), stage_ends, matrix)


def nmi_matrix(
    evaluations: Sequence[Record], factor_names: Sequence[str], group_of_latent: Sequence[int]
) -> NmiMatrix:
    """The NMI matrices of evaluations.

    Of more than 20 latents, those of highest KL at the last evaluation are shown.

    Args:
      evaluations: records with 'step', 'stage', 'beta', 'nmi' [D, F] and, in newer logs, 'kl_per_latent' [D].
      factor_names: F names.
      group_of_latent: the group of each latent.
    """
    from deft_jax.evaluation.latent_selection import select_latents

    last = evaluations[-1]
    latents, selection = select_latents(np.array(last["nmi"]), last.get("kl_per_latent"))
    shown = thin(evaluations, MOST_FRAMES)
    groups = [group_of_latent[latent] for latent in latents]
    several = len(set(group_of_latent)) > 1
    rows = [
        MatrixRow(int(latent), group if several else None, group != above)
        for latent, group, above in zip(latents, groups, [groups[0], *groups], strict=False)
    ]
    labels = [f"step {record['step']:,}, stage {record['stage']}, β {record['beta']:.3g}" for record in shown]
    frames = [np.asarray(record["nmi"], float)[latents].round(3).tolist() for record in shown]
    return NmiMatrix(labels, frames, factor_names, rows, selection)


def _starts_before(stages: Stages, step: int) -> list[int]:
    """First steps of the stages that have started before a step."""
    return [start for start in stages.starts if start < step]
