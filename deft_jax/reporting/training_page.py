"""The sections of a training: curves, how information moves between latents, sliders, projections."""

import json
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from deft_jax.reporting.elements import facts, figure, note, plainly, png, side_by_side, thinned
from deft_jax.reporting.runs import Run

BASES = 4  # images that the traversals start from
VALUES = np.linspace(-2.5, 2.5, 15)  # that a traversal gives its latent, in standard deviations of the prior; where
# latents have another traversal_range than 2, in that proportion
SAMPLE = 2000  # images that projections and KL are computed from
COLLAPSED = 0.05  # nats of KL below which a latent is called collapsed
_POINTS, _FRAMES, _TURNS = 1000, 200, 24  # at most so many entries of a curve, matrices of the slider, turns told of


def configuration(config: Mapping) -> str:
    """All fields, folded away."""
    return (
        "<details><summary>All fields of the configuration</summary>"
        f"<pre>{escape(json.dumps(config, indent=2))}</pre></details>"
    )


def options(given: Mapping) -> str:
    """'name (field value, ...)' of a section of a configuration, or its fields alone."""
    rest = ", ".join(f"{field} {plainly(value)}" for field, value in given.items()
                     if field != "name" and value is not None)
    if "name" not in given:
        return rest
    return f"{given['name']} ({rest})" if rest else str(given["name"])


def training_facts(run: Run, trained) -> str:
    """What was trained, how far and on what."""
    stages, config, groups = trained.stages, run.config, trained.model.group_of_latent
    done = "finished" if trained.step == stages.total_steps else "not finished"
    betas = [f"{float(stages.beta(start)):.3g}" for start in stages.starts]
    devices = run.results.get("devices", [])
    versions = run.results.get("versions", {})
    machine = ", ".join(f"{devices.count(name)} × {name}" for name in dict.fromkeys(devices))
    pairs = {
        "Workdir": str(run.workdir),
        "Objective": options(config["objective"]),
        "Data": f"{options(config['data'])}, {trained.description.num_images:,} images",
        "Latents": ", ".join(
            f"{groups.count(group)} in group {group}" for group in dict.fromkeys(groups)
        ),
        "Stages": f"{len(stages)}, from beta {', '.join(betas)}",
        "Optimiser": options(config["optimizer"]),
        "Batch": str(config["batch_size"]),
        "Seed": str(config["seed"]),
        "Step": f"{trained.step:,} of {stages.total_steps:,}, {done}; stage {trained.stage}",
        "Machine": machine or "not noted before the end of the run",
        "Versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
    }
    return facts({name: value for name, value in pairs.items() if value}) + configuration(config)


_PARTS = {
    "kl": "KL",
    "mutual_information": "I(x; z)",
    "total_correlation": "total correlation",
    "dimension_wise_kl": "dimension-wise KL",
}


def curves_part(records: Sequence[Mapping], stages, group_of_latent: Sequence[int]) -> str:
    """Loss, reconstruction, KL, beta, KL per latent, and what the KL is made of where evaluations tell it."""
    from deft_jax.evaluation import latent_selection, plots
    from deft_jax.reporting import figures

    trained = thinned([record for record in records if record["kind"] == "train"], _POINTS)
    if not trained:
        return note("Nothing was logged before the checkpoint.")
    steps = [record["step"] for record in trained]
    labels = {"loss": "loss (nats)", "reconstruction": "reconstruction (nats)", "kl": "KL (nats)", "beta": "β"}
    curves = {label: [record[name] for record in trained] for name, label in labels.items()}
    begun = [start for start in stages.starts if start < steps[-1]]
    latents = plots.kl_over_time(steps, [record["kl_per_latent"] for record in trained], group_of_latent, begun)
    smaller = [
        figure(
            latents, "KL of each latent to the prior over training steps.",
            "KL of each latent, coloured by group where there are several.",
        )
    ]
    evaluated = [record for record in records if record["kind"] == "eval" and "mutual_information" in record]
    if evaluated:
        shown = thinned(evaluated, _FRAMES)
        summed = [record | {"kl": sum(record["kl_per_latent"])} for record in shown]
        made = plots.nmi_over_time(
            [record["step"] for record in shown], [[record[name] for name in _PARTS] for record in summed],
            list(_PARTS.values()), "nats", [start for start in begun if start < shown[-1]["step"]],
        )
        smaller.append(figure(
            made, "KL, mutual information, total correlation and dimension-wise KL over training steps.",
            "What the KL is made of, at the evaluations. I(x; z): a lower bound.",
        ))
    return figure(
        figures.training_curves(steps, curves, begun, logarithmic=("loss (nats)", "reconstruction (nats)", "β")),
        "Loss, reconstruction, KL and beta over training steps.",
        "Means over a batch, per image" + ("; every second stage on a grey ground." if len(begun) > 1 else "."),
    ) + side_by_side(*smaller) + rotations_note(records)


def rotations_note(records: Sequence[Mapping]) -> str:
    """By how many degrees latents were turned onto independent axes, and when; nothing of a run that does not turn."""
    turns = [record for record in records if record["kind"] == "rotation"]
    if not turns:
        return ""
    shown = thinned(turns, _TURNS)
    told = ", ".join(f"{record['degrees']:.0f}° at step {record['step']:,}" for record in shown)
    count = f"; {len(shown)} of {len(turns)} turns" if len(shown) < len(turns) else ""
    return note(f"The open group was turned onto independent axes, its latent that moved most by {told}{count}.")


def matrix_slider(evaluated: Sequence[Mapping], factor_names: Sequence[str], group_of_latent: Sequence[int]) -> str:
    """The NMI matrix as a table that a slider moves through the evaluations.

    Of more than 20 latents, those of highest KL at the last evaluation are shown, and the caption says so.
    """
    from deft_jax.evaluation import latent_selection, plots

    latents, selection = latent_selection.select_latents(np.array(evaluated[-1]["nmi"]), _last_kl(evaluated))
    caption = f"<caption>{escape(selection)}</caption>" if selection else ""
    shown = thinned(evaluated, _FRAMES)
    labels = [f"step {record['step']:,}, stage {record['stage']}, β {record['beta']:.3g}" for record in shown]
    frames = {"labels": labels, "nmi": [np.round(record["nmi"], 3)[latents].tolist() for record in shown]}
    several = len(set(group_of_latent)) > 1
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in factor_names)
    rows, above = [], group_of_latent[latents[0]]
    for latent, values in zip(latents, frames["nmi"][-1], strict=True):
        group = f" <small>group {group_of_latent[latent]}</small>" if several else ""
        first, above = group_of_latent[latent] != above, group_of_latent[latent]
        cells = "".join(
            f'<td style="--value:{value:g}"{" class=dark" if value > 0.55 else ""}>{value:.2f}</td>' for value in values
        )
        rows.append(f'<tr{" class=first" if first else ""}><th scope="row">z{latent}{group}</th>{cells}</tr>')
    last = len(shown) - 1
    return (
        f'<div class="matrix" data-frames="{escape(json.dumps(frames))}"><div class="control">'
        f'<button type="button">Play</button><input type="range" min="0" max="{last}" value="{last}" '
        f'aria-label="evaluation of the NMI matrix" aria-valuetext="{escape(labels[-1])}">'
        f"<output>{escape(labels[-1])}</output></div>"
        f'<table class="heat">{caption}<thead><tr><td></td>{head}</tr></thead>'
        f'<tbody>{"".join(rows)}</tbody></table></div>'
    )


def _last_kl(evaluated: Sequence[Mapping]) -> Sequence[float] | None:
    """KL of each latent at the last evaluation; None in a log that does not hold it."""
    return evaluated[-1].get("kl_per_latent")


def information_part(
    records: Sequence[Mapping], stages, factor_names: Sequence[str], group_of_latent: Sequence[int]
) -> str:
    """Which latent knows which factor, over training, from the evaluations."""
    from deft_jax.evaluation import latent_selection, plots
    from deft_jax.reporting import figures

    evaluated = [record for record in records if record["kind"] == "eval"]
    if not evaluated:
        return note("No evaluation before the checkpoint.")
    if not factor_names:
        return note("Nothing is known of these images to compare the latents with.")
    shown = thinned(evaluated, _FRAMES)
    steps = [record["step"] for record in shown]
    begun = [start for start in stages.starts if start < steps[-1]]
    lines = [
        figure(
            plots.nmi_over_time(steps, [record[name] for record in shown], factor_names, name.upper(), begun),
            f"{name.upper()} of each factor over training steps.",
            f"{name.upper()}: {told}",
        )
        for name, told in (
            ("nmi1", "what the best latent knows of a factor."),
            ("nmi2", "what the second best knows. It rises where information diffuses into other latents."),
        )
    ]
    kl_D = _last_kl(evaluated)
    spread = figures.diffusion(steps, [record["nmi"] for record in shown], factor_names, begun, kl_D)
    ends = {record["stage"]: record for record in evaluated}
    by_stage = ""
    if len(ends) > 1:
        titles = [f"stage {stage}: step {record['step']:,}, β {record['beta']:.3g}" for stage, record in ends.items()]
        by_stage = figure(
            figures.stage_ends([record["nmi"] for record in ends.values()], factor_names, titles, kl_D),
            "NMI of every latent with every factor at the last evaluation of each stage.",
            "The matrix at the last evaluation of each stage.",
        )
    return "".join([
        side_by_side(*lines),
        figure(
            spread, "NMI of every latent with each factor over training steps, a heat map a factor.",
            "Each factor: a row a latent. One dark row is a factor held by one latent; a second row turning dark is "
            "information that diffuses.",
        ),
        by_stage,
        note(
            "The matrix at any evaluation; the slider, or Play, moves it through training. It is of posterior means: a "
            "collapsed latent, whose mean hardly varies, may still show a little."
        ),
        matrix_slider(evaluated, factor_names, group_of_latent),
    ])


def sprite(images_BxTxHxWxC: np.ndarray) -> str:
    """Images in a grid, a row a base image and a column a value, as a data URI."""
    bases, values, height, width, channels = images_BxTxHxWxC.shape
    grid = images_BxTxHxWxC.transpose(0, 2, 1, 3, 4).reshape(bases * height, values * width, channels)
    return png(grid)


def traversals(
    anchor: str,
    originals_BxHxWxC: np.ndarray,
    names_B: Sequence[str],
    means_BxD: np.ndarray,
    decoded_LxBxTxHxWxC: np.ndarray,
    latents_L: Sequence[int],
    labels_L: Sequence[str],
    values_T: Sequence[float] = VALUES,
) -> str:
    """Sliders that each move one latent of a decoded image, and buttons that choose the image.

    originals_BxHxWxC, names_B, means_BxD: the base images, what they are, their posterior means.
    decoded_LxBxTxHxWxC: each base image with latent latents_L[l] set to values_T[t]. labels_L: lines below z's name.
    """
    height, width = originals_BxHxWxC.shape[1:3]
    starts_DxB = np.abs(np.asarray(values_T)[:, None, None] - means_BxD.T).argmin(axis=0)
    radios = "".join(
        f'<label><input type="radio" name="{anchor}-base" value="{index}"{" checked" if index == 0 else ""}>'
        f'<img class="base" src="{png(image)}" alt="base image {index + 1}: {escape(name)}">'
        f"<span>{escape(name)}</span></label>"
        for index, (image, name) in enumerate(zip(originals_BxHxWxC, names_B, strict=True))
    )
    written = [f"{value:.2f}".replace("-", "−") for value in values_T]
    panels = []
    for latent, label, images in zip(latents_L, labels_L, decoded_LxBxTxHxWxC, strict=True):
        starts = starts_DxB[latent].tolist()
        panels.append(
            f'<div class="latent" data-starts="{json.dumps(starts)}" style="--column:{starts[0]};--row:0">'
            f'<div class="window"><img class="sprite" src="{sprite(images)}" '
            f'alt="decoded image, changed by the slider of z{latent}"></div>'
            f'<input type="range" min="0" max="{len(written) - 1}" value="{starts[0]}" aria-label="z{latent}" '
            f'aria-valuetext="{written[starts[0]]}" data-latent="{latent}">'
            f"<p><strong>z{latent}</strong> <output>{written[starts[0]]}</output><br><small>{escape(label)}</small></p>"
            "</div>"
        )
    size = f"--columns:{len(written)};--rows:{len(originals_BxHxWxC)};--aspect:{height / width:g}"
    return (
        f'<div class="traversals" style="{size}" data-values="{escape(json.dumps(written))}">'
        f'<fieldset><legend>Image to start from</legend>{radios}</fieldset>'
        f'<div class="latents">{"".join(panels)}</div></div>'
    )


def informative_pairs(
    kl_D: Sequence[float], nmi_DxF: np.ndarray, opened: Sequence[int]
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Pairs among the three open latents of highest KL, each with two factors: the best known of either latent.

    Where that is the same factor, the second is what the pair knows best beside it. Fewer than two open latents, or
    than two factors, make no pair.
    """
    best = sorted(opened, key=lambda latent: -kl_D[latent])[:3]
    if np.shape(nmi_DxF)[1] < 2:
        return []
    pairs = []
    for index, across in enumerate(best):
        for up in best[index + 1 :]:
            first, second = int(np.argmax(nmi_DxF[across])), int(np.argmax(nmi_DxF[up]))
            if first == second:
                rest = np.maximum(nmi_DxF[across], nmi_DxF[up])
                rest[first] = -1.0
                second = int(np.argmax(rest))
            pairs.append(((across, up), (first, second)))
    return pairs


def model_parts(anchor: str, trained) -> list[tuple[str, str]]:
    """(heading, HTML) of what the model makes of images: traversals, reconstructions, projections."""
    from deft_jax.evaluation import latent_selection, plots
    from deft_jax.evaluation import scores as evaluation_scores
    from deft_jax.reporting import figures

    description, model = trained.description, trained.model
    truth_names = description.ground_truth_names
    images, truth, posterior, remark = _sample(trained)
    mean, std = np.asarray(posterior.mean), np.exp(0.5 * np.asarray(posterior.logvar))
    kl_D = (0.5 * (std**2 + mean**2 - 1 - 2 * np.log(std))).mean(axis=0)
    evaluated = [record for record in trained.records if record["kind"] == "eval"]
    classes = evaluation_scores.in_bins(truth, description.ground_truth_continuous)
    scores = evaluated[-1] if evaluated else evaluation_scores.score(mean, classes)
    nmi = np.array(scores["nmi"]) if truth_names else np.zeros((len(kl_D), 0))
    opened = np.flatnonzero(np.asarray(model.group_of_latent) <= trained.stage)
    traversed = opened[latent_selection.shown_latents(kl_D[opened])].tolist()

    values_T = VALUES * trained.traversal_range / 2
    z_LxBxTxD = np.tile(mean[None, :BASES, None], (len(traversed), 1, len(values_T), 1))
    for row, latent in enumerate(traversed):
        z_LxBxTxD[row, :, :, latent] = values_T
    decoded = trained.decode(z_LxBxTxD.reshape(-1, z_LxBxTxD.shape[-1]))
    labels = []
    for latent in traversed:
        told = [f"group {model.group_of_latent[latent]}"] if len(set(model.group_of_latent)) > 1 else []
        told.append(f"KL {kl_D[latent]:.2f}")
        if kl_D[latent] < COLLAPSED:
            told.append("collapsed")
        elif truth_names:
            best = int(nmi[latent].argmax())
            told.append(f"{truth_names[best]} {nmi[latent, best]:.2f}")
        labels.append(", ".join(told))
    names = [
        ", ".join(f"{name} {value}" for name, value in zip(truth_names, row, strict=True)) or f"image {number}"
        for number, row in enumerate(truth[:BASES].tolist(), 1)
    ]
    moving = traversals(
        anchor, images[:BASES], names, mean[:BASES], decoded.reshape(*z_LxBxTxD.shape[:3], *description.image_shape),
        traversed, labels, values_T,
    )
    selection = latent_selection.selection_note(len(traversed), len(opened))
    told = note(
        f"{f'{selection}. ' if selection else ''}"
        f"Each slider sets one latent of the chosen image from {values_T[0]:g} to {values_T[-1]:g}; the others stay at "
        "their posterior means. It starts at the value nearest to the image's own. Below it: the KL of the latent in "
        "nats, and the factor that it knows best, with their NMI."
    )
    again = figure(
        plots.reconstructions(images, trained.decode(mean[:20])),
        "Twenty images above their reconstructions.", "Decoded posterior means.", kind="png",
    )
    pairs = informative_pairs(kl_D, nmi, opened.tolist())
    scatter = note("Projections need two open latents and two factors.")
    if pairs:
        scatter = figure(
            figures.projections(mean, std, truth, truth_names, pairs),
            "Posterior means on pairs of latents, coloured by factors: " + "; ".join(
                f"z{across} and z{up} by {truth_names[first]} and by {truth_names[second]}"
                for (across, up), (first, second) in pairs
            ),
            f"The latents of highest KL, in pairs: posterior means of {len(mean):,} images, with the ellipse of one "
            "posterior standard deviation for 60 of them; the dashed circle is that of the prior.",
            kind="png",
        )
    return [("Traversals", remark + told + moving), ("Reconstructions", again), ("Projections", scatter)]


def _sample(trained):
    """(first images [20, H, W, C], ground truth [N, L], posterior of [N, D], a note) of a sample of the data set.

    Where the data set cannot be opened, of the images that the run has kept.
    """
    from deft_jax.data import description
    from deft_jax.evaluation import encoder

    try:
        source = trained.source
    except ValueError as error:
        kept = description.read_sample(trained.workdir)
        if kept is None:
            raise
        remark = note(f"Drawn from the {len(kept.images)} images that the run has kept: {error}.")
        return kept.images[:20], kept.ground_truth, trained.encode(kept.images), remark
    factors = encoder.draw_factors(source, SAMPLE, trained.config.evaluation.seed)
    return _rendered(source, factors[:20]), source.ground_truth(factors), trained.encode_factors(factors), ""


def _rendered(source, factors) -> np.ndarray:
    import jax

    return np.asarray(source.render(source.arrays, jax.numpy.asarray(factors), jax.random.key(0)))


def training_sections(anchor: str, run: Run) -> list[tuple[str, str]]:
    """(heading, HTML) of a training; reads its checkpoint."""
    from deft_jax.training import restore

    model = restore.load(run.workdir)
    names, groups = model.description.ground_truth_names, model.model.group_of_latent
    return [
        ("Run", training_facts(run, model)),
        ("Training", curves_part(model.records, model.stages, groups)),
        ("Information in the latents", information_part(model.records, model.stages, names, groups)),
        *model_parts(anchor, model),
    ]
