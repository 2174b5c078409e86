"""Scores of trained models, or of codes from anywhere.

    python -m deft_jax.evaluate --workdir DIR [DIR ...] [--metrics mig,dci] [--step N] [--num_samples 10000] [--seed 0]
                                [--jobs 2]
    python -m deft_jax.evaluate --codes FILE.npz [--metrics mig,dci]

A workdir is that of a training, finished or interrupted. Every metric is computed of the posterior means and of sampled
codes, of all latents and of the active ones alone (metrics/latents.py); mig_posterior, of the posteriors themselves, is
the same for both. With several workdirs the runs stand side by side, as many at a time as --jobs says, and udr compares
them. An archive holds `codes` [N, D] and `factors` [N, F], and may hold `logvar` [N, D], where the codes are means of
posteriors; nothing else in it is read.

Results go into the workdir's results.json under 'evaluation', or beside the archive into FILE.results.json.
"""

import concurrent.futures
import functools
import inspect
import json
import multiprocessing
import os
import pathlib
import queue
import sys
import time
from collections.abc import Mapping

from deft_jax import commands
from deft_jax.jax_settings import pinned
from deft_jax.options import check

DEFAULT = ("mig", "mig_posterior", "nmi", "sap", "dci", "modularity_explicitness", "infomec", "irs",
           "gaussian_total_correlation", "factor_vae")  # fmt: skip
AT_ONCE = 1_000_000  # images that a metric which draws its own asks for in one call; many at a time are quickest
VARIANTS = ("mean", "mean_active", "sampled", "sampled_active")


@pinned()
def evaluate(workdir, names=None, *, step=None, num_samples=10_000, seed=0, variants=VARIANTS) -> dict:
    """Scores the model of a workdir and adds them to its results.json.

    names: of metrics, or a mapping of each to fields of its own, {'dci': {'model': 'linear'}}; those of DEFAULT that
    the data set allows unless told. step: of the checkpoint, the newest unless
    told. num_samples: images drawn. variants: of the codes, see VARIANTS.
    Returns what the entry 'evaluation' of results.json holds: 'scores', variant -> metric -> its dict, and how they
    were obtained. Raises ValueError in one line where the workdir holds no model, a name is unknown, or a metric needs
    more than is known of the images.
    """
    import jax
    import numpy as np

    from deft_jax import evaluation, metrics, trained
    from deft_jax.metrics.latents import active_latents

    _check(DEFAULT if names is None else names, num_samples, variants, seed)
    target = pathlib.Path(workdir) / "results.json"
    if pathlib.Path(workdir).exists():
        _check_target(target)
    model = trained.load(workdir, step)
    chosen = {name: dict(fields) for name, fields in names.items()} if isinstance(names, Mapping) else {}
    for name, fields in chosen.items():
        check(metrics.get(name), fields, name, metrics.GIVEN)
    names = _fitting(names, model.source)
    factors = evaluation.draw_factors(model.source, num_samples, seed)
    posterior = model.encode_factors(factors)
    latents = active_latents(posterior.mean, posterior.logvar)
    useful = np.flatnonzero(~latents["passive"])
    noise = np.random.default_rng(seed).standard_normal(posterior.mean.shape).astype(np.float32)
    codes = {"mean": posterior.mean, "sampled": posterior.mean + np.exp(0.5 * posterior.logvar) * noise}

    truth = model.source.ground_truth(factors)
    posterior_of = evaluation.Table(model.experiment, model.params, model.stage)

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

    scores, seconds = {}, {}
    everything = np.arange(codes["mean"].shape[1])
    for variant in variants:
        kind, _, active = variant.partition("_")
        kept = useful if active else everything
        if active and len(useful) == len(everything) and kind in scores:
            scores[variant] = scores[kind]  # no latent is passive: the same codes
            continue
        scores[variant] = {}
        for name in names:
            if metrics.kind(name) == "runs" or not len(kept):
                continue
            of_means = scores.get("mean_active" if active else "mean", {})
            if metrics.kind(name) == "posteriors" and name in of_means:
                scores[variant][name] = of_means[name]  # it does not depend on the codes
                continue
            begin = time.perf_counter()
            taken = inspect.signature(metrics.get(name)).parameters
            options = {option: value for option, value in (("seed", seed), ("chunk", AT_ONCE)) if option in taken}
            options |= chosen.get(name, {})
            scores[variant][name] = evaluation.metric(
                name, encode(kind, kept), codes[kind][:, kept], truth, model.source,
                jax.tree.map(lambda leaf, kept=kept: leaf[:, kept], posterior), **options,
            )  # fmt: skip
            seconds[f"{name}, {variant}"] = time.perf_counter() - begin
    result = {
        "step": model.step,
        "stage": model.stage,
        "scores": scores,
        "active": np.flatnonzero(latents["active"]),
        "mixed": np.flatnonzero(latents["mixed"]),
        "passive": np.flatnonzero(latents["passive"]),
        "options": {name: fields for name, fields in chosen.items() if fields},
        **_obtained(num_samples, seed, seconds),
    }
    _write(target, result)
    return result


def _fitting(names, source):
    """The names, or those of DEFAULT that the source allows. Raises ValueError for one told that does not fit."""
    from deft_jax import evaluation

    def fits(name):
        try:
            evaluation.check_metric(name, source)
        except ValueError:
            if names is not None:
                raise
            return False
        return True

    return [name for name in (DEFAULT if names is None else names) if fits(name)]


@pinned()
def evaluate_codes(path, names=None) -> dict:
    """Scores an archive of codes and factors and writes FILE.results.json beside it; see the head of this file.

    names: of metrics, those of DEFAULT that the archive allows unless told.
    """

    from deft_jax import information, metrics

    told = names is not None
    names = names if told else [name for name in DEFAULT if metrics.kind(name) != "sampler"]
    _check(names, 1, VARIANTS)
    for name in names:
        if metrics.kind(name) in ("sampler", "runs"):
            raise ValueError(f"the metric {name!r} needs a model, not an archive of codes: give --workdir")
    path = pathlib.Path(path)
    *sample, logvar = _read_codes(path)
    codes, factors = information.check_samples(*sample)
    if logvar is None and not told:
        names = [name for name in names if metrics.kind(name) != "posteriors"]
    target = path.with_name(path.name + ".results.json")
    _check_target(target)
    scores, seconds = {}, {}
    for name in names:
        begin = time.perf_counter()
        posterior = {"logvar": logvar} if metrics.kind(name) == "posteriors" else {}
        scores[name] = metrics.compute(name, codes, factors, **posterior)
        seconds[name] = time.perf_counter() - begin
    result = {"scores": {"codes": scores}, **_obtained(len(codes), 0, seconds)}
    _write(target, result)
    return result


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
def compare(workdirs, *, num_samples=10_000, seed=0) -> dict:
    """UDR of several runs on the same images, Spearman and lasso: {'spearman': ..., 'lasso': ...}; see metrics/udr.py.

    Raises ValueError where there are fewer than two runs or their data sets differ.
    """
    import numpy as np

    from deft_jax import evaluation, trained
    from deft_jax.gaussian import kl_per_latent
    from deft_jax.metrics.udr import udr

    given = [trained.read_config(workdir)["data"].items() for workdir in workdirs]
    sets = {json.dumps({field: value for field, value in data if value is not None}, sort_keys=True) for data in given}
    if len(sets) > 1:
        raise ValueError(f"udr compares runs on the same images, but the data sets differ: {'; '.join(sorted(sets))}")
    models = [trained.load(workdir) for workdir in workdirs]
    factors = evaluation.draw_factors(models[0].source, num_samples, seed)
    posteriors = [model.encode_factors(factors) for model in models]
    kls = [np.asarray(kl_per_latent(posterior)).mean(axis=0) for posterior in posteriors]
    codes = [posterior.mean for posterior in posteriors]
    return {correlation: udr(codes, kls, correlation) for correlation in ("spearman", "lasso")}


def _check(names, num_samples, variants, seed=0) -> None:
    from deft_jax import metrics, options

    for name in names:
        metrics.kind(name)
    for variant in variants:
        options.choose(dict.fromkeys(VARIANTS), variant, "variant")
    if not names or not variants or num_samples < 1:
        raise ValueError("there must be a metric, a variant and a sample at least")
    options.check_count("num_samples", num_samples)
    options.check_count("seed", seed, least=0)


def _obtained(num_samples, seed, seconds) -> dict:
    """How scores came about."""
    import platform

    import jax
    import numpy as np
    import scipy
    import sklearn

    import deft_jax

    versions = {module.__name__: module.__version__ for module in (deft_jax, jax, np, scipy, sklearn)}
    versions["python"] = platform.python_version()
    return {"num_samples": num_samples, "seed": seed, "seconds": seconds, "versions": versions}


def _check_target(path) -> None:
    """Raises ValueError where a results file could not be added to: better before than after the scoring."""
    from deft_jax.logs import read_object

    read_object(path)
    if path.parent.is_dir() and not os.access(path.parent, os.W_OK):
        raise ValueError(f"cannot write {path}: {path.parent} is read-only")


def _write(path, result) -> None:
    """Adds the entry 'evaluation' to a results file and leaves its other entries."""
    from deft_jax.logs import plain, read_object, write_atomically

    held = read_object(path) or {}
    write_atomically(path, json.dumps(held | {"evaluation": plain(result)}, indent=2) + "\n")


def table(columns) -> str:
    """A text table: columns, name -> {row: value}."""
    rows = list(dict.fromkeys(row for values in columns.values() for row in values))
    width = max([12, *(len(row) for row in rows)]) + 2
    widths = {name: max(10, len(name) + 2) for name in columns}
    lines = [" " * width + "".join(f"{name:>{widths[name]}}" for name in columns)]
    for row in rows:
        cells = (f"{values[row]:.3f}" if row in values else "" for values in columns.values())
        lines.append(f"{row:<{width}}" + "".join(f"{cell:>{widths[name]}}" for cell, name in zip(cells, columns)))  # noqa: B905
    return "\n".join(lines)


def _score(workdirs, jobs, **options):
    """Yields (workdir, the result of `evaluate` or the error it ended in) in the order of the workdirs.

    jobs: how many to score at a time, each in a process of its own on its share of the cores; None for as many as
    there are cores, or one on an accelerator, for whose memory processes would fight.
    """
    import jax

    from deft_jax import evaluation

    cores = evaluation.cores()
    if jobs is None:
        jobs = len(cores) if jax.default_backend() == "cpu" else 1
    jobs = min(jobs, len(workdirs))
    call = functools.partial(_result, **options)
    if jobs == 1:
        yield from zip(workdirs, map(call, workdirs), strict=True)
        return
    shares = queue.SimpleQueue()
    for job in range(jobs):
        shares.put(cores[job::jobs] or [cores[job % len(cores)]])
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        yield from zip(workdirs, pool.map(functools.partial(_apart, call, shares), workdirs), strict=True)


def _result(workdir, **options):
    try:
        return evaluate(workdir, **options)
    except ValueError as error:
        return error


def _apart(call, shares, workdir):
    """call(workdir) in a process of its own, which takes nobody along if it dies."""
    share = shares.get()
    context = multiprocessing.get_context("spawn")
    try:
        with concurrent.futures.ProcessPoolExecutor(1, context, initializer=_keep_to, initargs=(share,)) as alone:
            return alone.submit(call, workdir).result()
    except concurrent.futures.process.BrokenProcessPool:
        return ChildProcessError("the process that scored it died; if memory ran out, give fewer --jobs")
    finally:
        shares.put(share)


def _keep_to(cores):
    """Keeps this process to some cores. The libraries that it loads later start as many threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def main(argv=None) -> None:
    """Entry point; bad input ends in one line and status 2, one line a run where several are scored."""
    parser = commands.Parser("deft_jax.evaluate", __doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--workdir", nargs="+", metavar="DIR", help="workdirs of trainings")
    where.add_argument("--codes", metavar="FILE.npz", help="an archive with codes and factors")
    parser.add_argument("--metrics", help=f"names between commas ({','.join(DEFAULT)}, or those that the data allow)")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="of the codes (%(default)s)")
    parser.add_argument("--step", type=int, help="of the checkpoint; the newest unless told")
    parser.add_argument("--num_samples", type=int, default=10_000, help="images drawn (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (%(default)s)")
    parser.add_argument("--jobs", type=int, help="workdirs scored at a time (one a core; one on an accelerator)")
    args = parser.parse_args(argv)
    with commands.ending("deft_jax.evaluate"):
        _run(args)


def _run(args) -> None:
    """What the command does with its arguments."""
    from deft_jax.evaluation import headlines

    names = None if args.metrics is None else [word for word in args.metrics.split(",") if word]
    variants = [word for word in args.variants.split(",") if word]
    if args.codes is not None:
        print(table({"codes": headlines(evaluate_codes(args.codes, names)["scores"]["codes"])}))
        return
    _check(DEFAULT if names is None else names, args.num_samples, variants, args.seed)
    if args.jobs is not None and args.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {args.jobs}")
    if names and "udr" in names and len(args.workdir) < 2:
        raise ValueError("udr compares several runs: give two workdirs or more")
    options = {"num_samples": args.num_samples, "seed": args.seed}
    scoring = options | {"names": names, "step": args.step, "variants": variants}
    columns, scored, failed = {}, [], {}
    for workdir, result in _score(args.workdir, args.jobs, **scoring):
        if isinstance(result, Exception):
            failed[workdir] = result
            continue
        scored.append(workdir)
        prefix = f"{pathlib.Path(workdir).name} " if len(args.workdir) > 1 else ""
        columns |= {prefix + variant: headlines(scores) for variant, scores in result["scores"].items()}
        told = [f"{len(result[kind])} {kind}" for kind in ("active", "mixed", "passive")]
        print(f"{workdir}, step {result['step']}: latents {', '.join(told)}")
    if any(columns.values()):
        print(table(columns))
    if names and "udr" in names and len(scored) > 1:
        for correlation, found in compare(scored, **options).items():
            told = ", ".join(f"{pathlib.Path(d).name} {u:.3f}" for d, u in zip(scored, found["udr"]))  # noqa: B905
            print(f"udr, {correlation}: {told}")
    for workdir, error in failed.items():
        line = " ".join(str(error).split())
        print(f"deft_jax.evaluate: {line if workdir in line else f'{workdir}: {line}'}", file=sys.stderr)
    if failed:
        bad = all(isinstance(error, ValueError) for error in failed.values())
        sys.exit(commands.BAD_INPUT if bad else commands.FAILED)


if __name__ == "__main__":
    main()
