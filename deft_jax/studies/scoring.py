"""Scores of the model in a workdir, or of an archive of codes."""

import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

from deft_jax.runtime import plugins, validation
from deft_jax.runtime.jax_settings import pinned
from deft_jax.runtime.paths import local_path

# In the order in which they are computed: the quick ones first.
DEFAULT = ("mig", "nmi", "gaussian_total_correlation", "irs", "mig_posterior", "sap", "infomec",
           "modularity_explicitness", "factor_vae", "dci")  # fmt: skip


AT_ONCE = 1_000_000  # images that a metric which draws its own asks for in one call; many at a time are quickest


VARIANTS = ("mean", "mean_active", "sampled", "sampled_active")


LEAST = 20  # images of a sample: one for each bin of a latent, in the metrics that count


@pinned()
def evaluate(
    workdir: str | os.PathLike,
    names: Sequence[str] | Mapping[str, Mapping] | None = None,
    *,
    step: int | None = None,
    num_samples: int = 10_000,
    seed: int = 0,
    variants: Sequence[str] = VARIANTS,
) -> dict:
    """Scores the model of a workdir and adds the scores to its results.json, metric by metric.

    Args:
      workdir: of one training.
      names: of metrics, or a mapping of each to its options, {'dci': {'model': 'linear'}}. Default: those of DEFAULT
        that the data set allows.
      step: of the checkpoint. Default: the newest.
      num_samples: images of the sample, at least 20; a set with no more images is taken whole.
      seed: of the sample and of metrics that draw, >= 0.
      variants: of the codes, some of VARIANTS.

    Returns:
      This evaluation, as it stands in results.json under 'evaluation' (with what was there of the same sample):
      'scores', variant -> metric -> its dict; 'refused', variant -> metric -> why there is none; 'factor_names' of the
      columns that were scored and 'left_out', those constant in the sample; 'num_images', distinct images in the
      sample; and how the scores were obtained.

    Raises:
      ValueError: the workdir holds no model, a name is unknown, or none of the metrics could be computed; one line.
    """
    import jax
    import numpy as np

    from deft_jax import metrics
    from deft_jax.evaluation import encoder, scores
    from deft_jax.metrics.latents import active_latents
    from deft_jax.studies import score_file
    from deft_jax.training import restore

    check_request(DEFAULT if names is None else names, num_samples, variants, seed)
    workdir = local_path(workdir, "workdir")
    runs = runs_of(workdir)
    if runs != [workdir]:
        raise ValueError(f"{workdir} holds {len(runs)} runs; give the workdir of one, such as {runs[0]}")
    if workdir.exists():
        _check_target(workdir / "results.json")
    model = restore.load(workdir, step)
    source = model.source
    chosen = {name: dict(fields) for name, fields in names.items()} if isinstance(names, Mapping) else {}
    for name, fields in chosen.items():
        validation.options_of(metrics.get(name), fields, name, metrics.CALLER_ARGUMENTS)
    factors = encoder.draw_factors(source, num_samples, seed)
    image_N = np.ravel_multi_index(tuple(factors.T), source.factor_sizes)
    truth = source.ground_truth(factors)
    columns = scores.varying_factors(truth)
    continuous = [source.ground_truth_continuous[column] for column in columns]

    def check_metric(name):
        scores.check_metric(name, source)
        _check_columns(name, columns)

    names, unfit = _fitting(names, check_metric)
    posterior = model.encode_factors(factors)
    latents = active_latents(posterior.mean, posterior.logvar)
    useful = np.flatnonzero(~latents["passive"])
    noise = np.random.default_rng(seed).standard_normal(posterior.mean.shape).astype(np.float32)
    codes = {"mean": posterior.mean, "sampled": posterior.mean + np.exp(0.5 * posterior.logvar) * noise}
    posterior_of = encoder.PosteriorCache(
        model.experiment_with_source.source, model.experiment_with_source.encode, model.params, model.stage
    )

    def encode(kind, kept):
        """A sampler's codes; noise of its own for every call."""
        rng = np.random.default_rng(seed + 1)

        def encode_factors(factors_NxF):
            mean, logvar = posterior_of(factors_NxF)
            if kind == "sampled":
                noise = rng.standard_normal(mean.shape, dtype=np.float32)
                mean = mean + np.exp(0.5 * logvar) * noise
            return mean[:, kept]

        return encode_factors

    def compute(name, kind, kept, progress):
        if not len(kept):
            raise ValueError("no latent is active")
        offered = {"seed": seed, "chunk": AT_ONCE, "groups": image_N, "progress": progress}
        options = scores.accepted(name, offered, continuous) | _of_columns(chosen.get(name, {}), columns)
        return scores.metric(
            name, encode(kind, kept), codes[kind][:, kept], truth[:, columns], source,
            jax.tree.map(lambda leaf: leaf[:, kept], posterior), **options,
        )  # fmt: skip

    scored = score_file.Scores(
        workdir / "results.json",
        variants,
        {
            "step": model.step,
            "stage": model.stage,
            "active": np.flatnonzero(latents["active"]),
            "mixed": np.flatnonzero(latents["mixed"]),
            "passive": np.flatnonzero(latents["passive"]),
            "factor_names": [source.ground_truth_names[column] for column in columns],
            "left_out": [name for f, name in enumerate(source.ground_truth_names) if f not in columns],
            "options": {name: fields for name, fields in chosen.items() if fields},
            "num_images": len(np.unique(image_N)),
            "digest": source.digest,
            **_obtained(num_samples, seed),
        },
        names,
    )
    for name, reason in unfit.items():
        for variant in variants:
            scored.refuse(variant, name, reason)
    everything = np.arange(posterior.mean.shape[1])
    with score_file.Progress(len(names) * len(variants), workdir.name) as progress:
        for name in names:
            computed: dict[tuple, str] = {}  # what the metric is computed of -> the variant that has it
            for variant in variants:
                kind, _, active = variant.partition("_")
                kept = useful if active else everything
                # Posteriors do not depend on the kind of codes; without passive latents, nor do they on 'active'.
                same = (kind if metrics.kind(name) != "posteriors" else "", tuple(kept))
                if same in computed:
                    scored.copy(computed[same], variant, name)
                else:
                    progress.start(f"{name}, {variant}")
                    scored.add(variant, name, functools.partial(compute, name, kind, kept, progress.within))
                    computed[same] = variant
                progress.finish()
        scored.write()
        if scored.moved:
            progress.say(f"{scored.path}: scores of another sample are kept under 'earlier_evaluations'")
    return scored.result()


def _fitting(names, check_metric: Callable[[str], None]) -> tuple[list[str], dict[str, str]]:
    """The names that can be computed, and why the others cannot.

    names: None for those of DEFAULT that can be. Metrics that compare runs are left out. Raises ValueError where none
    is left.
    """
    from deft_jax import metrics

    unfit = {}
    for name in DEFAULT if names is None else names:
        try:
            check_metric(name)
        except ValueError as error:
            unfit[name] = str(error)
    fit = [name for name in (DEFAULT if names is None else names) if name not in unfit]
    if not fit:
        raise ValueError("; ".join(dict.fromkeys(unfit.values())))
    return [name for name in fit if metrics.kind(name) != "runs"], {} if names is None else unfit


def _check_columns(name: str, columns) -> None:
    """Raises ValueError where the metric needs factors and none varies. columns: those that do."""
    from deft_jax import metrics

    if metrics.kind(name) in ("samples", "posteriors") and not len(columns):
        raise ValueError(f"the metric {name!r} needs factors, and no factor varies in the sample")


def _of_columns(options: Mapping, columns) -> dict:
    """A metric's options, with those that name factors by their index meant for some columns of the factors only."""
    made, place = dict(options), {column: index for index, column in enumerate(columns)}
    if isinstance(made.get("continuous"), list | tuple):
        made["continuous"] = [entry for column, entry in enumerate(made["continuous"]) if column in place]
    if made.get("average_over") is not None:
        made["average_over"] = [place.get(column, column) for column in made["average_over"] if column in place]
    return made


@pinned()
def evaluate_codes(path: str | os.PathLike, names: Sequence[str] | None = None) -> dict:
    """Scores an archive of codes and factors and writes FILE.results.json beside it; see the head of this file.

    Args:
      path: of the archive. Columns of its factors with many distinct real numbers are taken as continuous
        (metrics/inputs.py, continuous_columns).
      names: of metrics. Default: those of DEFAULT that the archive allows.

    Returns:
      As `evaluate`, with the one variant 'codes'.

    Raises:
      ValueError: the archive cannot be read, a name is unknown, or none of the metrics could be computed; one line.
    """
    import numpy as np

    from deft_jax import metrics
    from deft_jax.evaluation import scores
    from deft_jax.metrics import inputs
    from deft_jax.studies import score_file

    check_request(DEFAULT if names is None else names, LEAST, VARIANTS)
    path = local_path(path, "--codes")
    codes, factors, logvar = _read_codes(path)
    codes, values, continuous = inputs.mixed_samples(codes, factors, None, allow_constant=True)
    if factors.dtype.kind == "f":  # numbers that are all integers become integers
        factors = np.stack(values, axis=1)
    columns = scores.varying_factors(factors)

    def check_metric(name):
        if metrics.kind(name) in ("sampler", "runs"):
            raise ValueError(f"the metric {name!r} needs a model, not an archive of codes: give --workdir")
        if metrics.kind(name) == "posteriors" and logvar is None:
            raise ValueError(f"the metric {name!r} looks at posteriors: give their logvar beside their means")
        _check_columns(name, columns)

    names, unfit = _fitting(names, check_metric)
    target = path.with_name(path.name + ".results.json")
    _check_target(target)
    image_N = inputs.distinct_rows(codes, factors)

    def compute(name, progress):
        options = scores.accepted(name, {"groups": image_N, "progress": progress}, continuous[columns])
        posterior = {"logvar": logvar} if metrics.kind(name) == "posteriors" else {}
        return metrics.compute(name, codes, factors[:, columns], **posterior, **options)

    arrays = (codes, factors) if logvar is None else (codes, factors, logvar)
    scored = score_file.Scores(
        target,
        ("codes",),
        {
            "factor_names": [f"factor {column}" for column in columns],
            "left_out": [f"factor {column}" for column in range(factors.shape[1]) if column not in columns],
            "num_images": len(np.unique(image_N)),
            "digest": hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest(),
            **_obtained(len(codes), 0),
        },
        names,
    )
    for name, reason in unfit.items():
        scored.refuse("codes", name, reason)
    with score_file.Progress(len(names), path.name) as progress:
        for name in names:
            progress.start(name)
            scored.add("codes", name, functools.partial(compute, name, progress.within))
            progress.finish()
        if scored.moved:
            progress.say(f"{scored.path}: scores of other codes are kept under 'earlier_evaluations'")
    return scored.result()


def _read_codes(path):
    """`codes`, `factors` and `logvar` of an .npz file, the last None where it has none; ValueError in one line else."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in ("codes", "factors") if name not in archive]
            if missing:
                raise ValueError(f"it lacks {' and '.join(missing)}; it has {', '.join(archive) or 'nothing'}")
            return archive["codes"], archive["factors"], archive["logvar"] if "logvar" in archive else None
    # A damaged file is reported in as many ways as there are bytes in it: by zipfile, zlib, ast, tokenize and numpy.
    except Exception as error:
        told = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"cannot read codes and factors from {path}: {told[:200]}") from None


@pinned()
def compare(workdirs: Sequence[str | os.PathLike], *, num_samples: int = 10_000, seed: int = 0) -> dict:
    """UDR of several runs on the same images, Spearman and lasso: {'spearman': ..., 'lasso': ...}; see metrics/udr.py.

    Raises ValueError where there are fewer than two runs or their data sets differ.
    """
    import numpy as np

    from deft_jax.evaluation import encoder
    from deft_jax.metrics.udr import udr
    from deft_jax.models.posterior import kl_per_latent
    from deft_jax.training import restore

    given = [restore.read_config(workdir)["data"].items() for workdir in workdirs]
    sets = {json.dumps({field: value for field, value in data if value is not None}, sort_keys=True) for data in given}
    if len(sets) > 1:
        raise ValueError(f"udr compares runs on the same images, but the data sets differ: {'; '.join(sorted(sets))}")
    models = [restore.load(workdir) for workdir in workdirs]
    factors = encoder.draw_factors(models[0].source, num_samples, seed)
    posteriors = [model.encode_factors(factors) for model in models]
    kls = [np.asarray(kl_per_latent(posterior)).mean(axis=0) for posterior in posteriors]
    codes = [posterior.mean for posterior in posteriors]
    return {correlation: udr(codes, kls, correlation) for correlation in ("spearman", "lasso")}


def check_request(names, num_samples, variants, seed=0) -> None:
    """Raises ValueError in one line where a name is unknown, or a number out of range, before anything is encoded."""
    from deft_jax import metrics

    for name in names:
        metrics.kind(name)
    for variant in variants:
        plugins.choose(dict.fromkeys(VARIANTS), variant, "variant")
    if not names or not variants or num_samples < 1:
        raise ValueError("there must be a metric, a variant and a sample at least")
    validation.check(validation.count_from(LEAST), num_samples, "num_samples")
    validation.check(validation.NonNegativeInt, seed, "seed")


def _obtained(num_samples, seed) -> dict:
    """How scores came about."""
    import platform

    import jax
    import numpy as np
    import scipy
    import sklearn

    import deft_jax

    versions = {module.__name__: module.__version__ for module in (deft_jax, jax, np, scipy, sklearn)}
    versions["python"] = platform.python_version()
    return {"num_samples": num_samples, "seed": seed, "versions": versions}


def _check_target(path) -> None:
    """Raises ValueError where a results file could not be added to: better before than after the scoring."""
    from deft_jax.runtime.files import read_object

    read_object(path)
    if path.parent.is_dir() and not os.access(path.parent, os.W_OK):
        raise ValueError(f"cannot write {path}: {path.parent} is read-only")


def runs_of(workdir: pathlib.Path) -> list[pathlib.Path]:
    """The workdirs of the trainings that a folder stands for: itself, or those of its seeds or of its study.

    Raises ValueError where the folder is that of several seeds or of a study and holds none.
    """
    from deft_jax.runtime.files import read_object

    try:
        config = read_object(workdir / "config.json") or {}
    except ValueError:  # to be refused, as the workdir of one run, with what is wrong
        return [workdir]
    if not ("runs" in config or config.get("num_seeds")):
        return [workdir]
    found = workdir.glob("**/run/config.json" if "runs" in config else "seed_*/config.json")
    runs = sorted((path.parent for path in found), key=_by_number)
    if not runs:
        raise ValueError(f"{workdir} holds no run yet")
    return runs


def _by_number(path: pathlib.Path) -> list:
    """Sorts seed_10 behind seed_9."""
    parts = [part.rpartition("_") for part in path.parts]
    return [(name, int(end), "") if end.isdecimal() else ("_".join((name, end)), 0, "") for name, _, end in parts]
