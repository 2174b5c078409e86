"""Scores of the model in a workdir, or of an archive of codes."""

import contextlib
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deft_jax.runtime import plugins, pretrained, validation
from deft_jax.runtime.files import read_object
from deft_jax.runtime.jax_settings import pinned
from deft_jax.runtime.paths import local_path, shown
from deft_jax.studies.run_folders import runs_of
from deft_jax.studies.score_file import ScoreFile
from deft_jax.studies.scoring_progress import ScoringProgress

if TYPE_CHECKING:
    import numpy as np

    from deft_jax.studies.model_sample import ModelSample

Names = Sequence[str] | Mapping[str, Mapping[str, Any]]
"""Names of metrics, or a mapping of each to its options."""

# In the order in which they are computed: fast ones first.
DEFAULT = ("mig", "nmi", "gaussian_total_correlation", "irs", "mig_posterior", "sap", "infomec",
           "modularity_explicitness", "factor_vae", "dci")  # fmt: skip

VARIANTS = ("mean", "mean_active", "sampled", "sampled_active")
"""Codes that are scored: posterior means or samples, of all latents or of those that are not passive."""
MIN_SAMPLES = 20
"""Fewest images of a sample: as many as the bins of a latent in metrics of counts."""


@pinned()
def evaluate(
    workdir: str | os.PathLike,
    names: Names | None = None,
    *,
    step: int | None = None,
    num_samples: int = 10_000,
    seed: int = 0,
    variants: Sequence[str] = VARIANTS,
) -> dict[str, Any]:
    """Scores the model of a workdir and adds the scores to its results.json, metric by metric.

    Args:
      workdir: of one training, a folder or an address gs://... or s3://... Or the name of a model that comes with the
        package, whose scores go into NAME.results.json in the current folder.
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
    check_request(DEFAULT if names is None else names, num_samples, variants, seed)
    with pretrained.scoring_copy(workdir, "workdir") as folder:
        return _evaluate(folder, names, step, num_samples, seed, variants)


def _evaluate(
    workdir: pathlib.Path,
    names: Names | None,
    step: int | None,
    num_samples: int,
    seed: int,
    variants: Sequence[str],
) -> dict[str, Any]:
    """`evaluate` in a local folder."""
    import numpy as np

    from deft_jax import metrics
    from deft_jax.evaluation import scores
    from deft_jax.studies.model_sample import ModelSample
    from deft_jax.training import restore

    runs = runs_of(workdir)
    if runs != [workdir]:
        raise ValueError(f"{workdir} holds {len(runs)} runs; give the workdir of one, such as {runs[0]}")
    if workdir.exists():
        _check_target(workdir / "results.json")
    model = restore.load(workdir, step)
    options = {name: dict(fields) for name, fields in names.items()} if isinstance(names, Mapping) else {}
    for name, fields in options.items():
        validation.options_of(metrics.get(name), fields, name, metrics.CALLER_ARGUMENTS)
    sample = ModelSample(model, num_samples, seed)

    def check_metric(name: str) -> None:
        scores.check_metric(name, sample.source)
        _check_columns(name, sample.columns)

    fitting, unfit = _fitting(names, check_metric)
    factor_names = sample.source.ground_truth_names
    about = {
        "step": model.step,
        "stage": model.stage,
        **{kind: np.flatnonzero(sample.latents[kind]) for kind in ("active", "mixed", "passive")},
        "factor_names": [factor_names[column] for column in sample.columns],
        "left_out": [name for f, name in enumerate(factor_names) if f not in sample.columns],
        "options": {name: fields for name, fields in options.items() if fields},
        "num_images": len(np.unique(sample.image_N)),
        "digest": sample.source.digest,
        **_provenance(num_samples, seed),
    }
    score_file = ScoreFile(workdir / "results.json", variants, about, fitting)
    for name, reason in unfit.items():
        for variant in variants:
            score_file.refuse(variant, name, reason)
    with ScoringProgress(len(fitting) * len(variants), workdir.name) as progress:
        for name in fitting:
            _score_variants(sample, name, variants, options.get(name, {}), score_file, progress)
        score_file.write()
        if score_file.moved:
            path = shown(score_file.path)
            progress.print_line(f"{path}: scores of another sample are kept under 'earlier_evaluations'")
    return score_file.result()


def _score_variants(
    sample: "ModelSample",
    name: str,
    variants: Sequence[str],
    options: Mapping[str, Any],
    score_file: ScoreFile,
    progress: ScoringProgress,
) -> None:
    """Adds the scores of one metric; variants of the codes that have the same score are computed once."""
    computed: dict[tuple, str] = {}
    for variant in variants:
        dependencies = sample.dependencies(name, variant)
        if dependencies in computed:
            score_file.copy(computed[dependencies], variant, name)
        else:
            progress.start(f"{name}, {variant}")
            score_file.add(
                variant, name, functools.partial(sample.compute, name, variant, options, progress.within)
            )
            computed[dependencies] = variant
        progress.finish()


def _fitting(
    names: Names | None, check_metric: Callable[[str], None]
) -> tuple[list[str], dict[str, str]]:
    """The names that can be computed, without metrics that compare runs; and why the others cannot.

    names: None for those of DEFAULT that can be. Raises ValueError where none is left.
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


def _check_columns(name: str, columns: "np.ndarray") -> None:
    """Raises ValueError where the metric needs factors and none varies. columns: those that do."""
    from deft_jax import metrics

    if metrics.kind(name) in ("samples", "posteriors") and not len(columns):
        raise ValueError(f"the metric {name!r} needs factors, and no factor varies in the sample")


@pinned()
def evaluate_codes(path: str | os.PathLike, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Scores an archive of codes and factors and writes FILE.results.json beside it.

    Args:
      path: an .npz file with `codes` [N, D] and `factors` [N, F]; `logvar` [N, D] where codes are means of posteriors.
        Columns of factors with many distinct real numbers are taken as continuous (inputs.continuous_columns).
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

    check_request(DEFAULT if names is None else names, MIN_SAMPLES, VARIANTS)
    path = local_path(path, "--codes")
    codes, factors, logvar = _read_codes(path)
    arrays = (codes, factors) if logvar is None else (codes, factors, logvar)
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()
    codes, values, continuous = inputs.mixed_samples(codes, factors, None, allow_constant=True)
    if factors.dtype.kind == "f":  # numbers that are all integers become integers
        factors = np.stack(values, axis=1)
    columns = scores.varying_factors(factors)

    def check_metric(name: str) -> None:
        if metrics.kind(name) in ("sampler", "runs"):
            raise ValueError(f"the metric {name!r} needs a model, not an archive of codes: give --workdir")
        if metrics.kind(name) == "posteriors" and logvar is None:
            raise ValueError(f"the metric {name!r} looks at posteriors: give their logvar beside their means")
        _check_columns(name, columns)

    fitting, unfit = _fitting(names, check_metric)
    target = path.with_name(path.name + ".results.json")
    _check_target(target)
    image_N = inputs.distinct_rows(codes, factors)

    def compute(name: str, progress: Callable[..., None]) -> dict[str, Any]:
        options = scores.accepted(name, {"groups": image_N, "progress": progress}, continuous[columns])
        posterior = {"logvar": logvar} if metrics.kind(name) == "posteriors" else {}
        return metrics.compute(name, codes, factors[:, columns], **posterior, **options)

    about = {
        "factor_names": [f"factor {column}" for column in columns],
        "left_out": [f"factor {column}" for column in range(factors.shape[1]) if column not in columns],
        "num_images": len(np.unique(image_N)),
        "digest": digest,
        **_provenance(len(codes), 0),
    }
    score_file = ScoreFile(target, ("codes",), about, fitting)
    for name, reason in unfit.items():
        score_file.refuse("codes", name, reason)
    with ScoringProgress(len(fitting), path.name) as progress:
        for name in fitting:
            progress.start(name)
            score_file.add("codes", name, functools.partial(compute, name, progress.within))
            progress.finish()
        if score_file.moved:
            progress.print_line(f"{score_file.path}: scores of other codes are kept under 'earlier_evaluations'")
    return score_file.result()


def _read_codes(path: pathlib.Path) -> "tuple[np.ndarray, np.ndarray, np.ndarray | None]":
    """`codes`, `factors` and `logvar` of an .npz file, the last None where it has none. Raises ValueError."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in ("codes", "factors") if name not in archive]
            if missing:
                raise ValueError(f"it lacks {' and '.join(missing)}; it has {', '.join(archive) or 'nothing'}")
            return archive["codes"], archive["factors"], archive["logvar"] if "logvar" in archive else None
    # A damaged file is reported in as many ways as there are bytes in it: by zipfile, zlib, ast, tokenize and numpy.
    except Exception as error:
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"cannot read codes and factors from {path}: {reason[:200]}") from None


@pinned()
def compare(
    workdirs: Sequence[str | os.PathLike], *, num_samples: int = 10_000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """UDR of several runs on the same images (metrics/udr.py).

    Args:
      workdirs: of two trainings or more.
      num_samples: images of the sample.
      seed: of the sample.

    Returns:
      'spearman' and 'lasso', the kind of correlation -> the dict of the metric.

    Raises:
      ValueError: there are fewer than two runs, or their data sets differ.
    """
    with contextlib.ExitStack() as copies:
        paths = [copies.enter_context(pretrained.reading_copy(workdir, "workdir")) for workdir in workdirs]
        return _compare(paths, num_samples, seed)


def _compare(paths: Sequence[pathlib.Path], num_samples: int, seed: int) -> dict[str, dict[str, Any]]:
    """`compare` of local folders."""
    import numpy as np

    from deft_jax.evaluation import encoder
    from deft_jax.metrics.udr import udr
    from deft_jax.models.posterior import kl_per_latent
    from deft_jax.training import restore

    sections = [restore.read_config(path)["data"].items() for path in paths]
    sets = {json.dumps({field: value for field, value in data if value is not None}, sort_keys=True)
            for data in sections}  # fmt: skip
    if len(sets) > 1:
        raise ValueError(f"udr compares runs on the same images, but the data sets differ: {'; '.join(sorted(sets))}")
    models = [restore.load(path) for path in paths]
    factors = encoder.draw_factors(models[0].source, num_samples, seed)
    posteriors = [model.encode_factors(factors) for model in models]
    kls = [np.asarray(kl_per_latent(posterior)).mean(axis=0) for posterior in posteriors]
    codes = [np.asarray(posterior.mean) for posterior in posteriors]
    return {correlation: udr(codes, kls, correlation) for correlation in ("spearman", "lasso")}


def check_request(names: Names, num_samples: int, variants: Sequence[str], seed: int = 0) -> None:
    """Raises ValueError in one line where a name is unknown, or a number out of range, before anything is encoded."""
    from deft_jax import metrics

    for name in names:
        metrics.kind(name)
    for variant in variants:
        plugins.choose(dict.fromkeys(VARIANTS), variant, "variant")
    if not names or not variants or num_samples < 1:
        raise ValueError("there must be a metric, a variant and a sample at least")
    validation.check(validation.count_from(MIN_SAMPLES), num_samples, "num_samples")
    validation.check(validation.NonNegativeInt, seed, "seed")


def _provenance(num_samples: int, seed: int) -> dict[str, Any]:
    """How scores were obtained: the sample, and versions."""
    import platform

    import jax
    import numpy as np
    import scipy
    import sklearn

    import deft_jax

    versions = {module.__name__: module.__version__ for module in (deft_jax, jax, np, scipy, sklearn)}
    versions["python"] = platform.python_version()
    return {"num_samples": num_samples, "seed": seed, "versions": versions}


def _check_target(path: pathlib.Path) -> None:
    """Raises ValueError where a results file could not be added to: better before than after the scoring."""
    read_object(path)
    if path.parent.is_dir() and not os.access(path.parent, os.W_OK):
        raise ValueError(f"cannot write {path}: {path.parent} is read-only")
