"""Scores of trained models, or of codes from anywhere.

    python -m deft_jax.evaluate --workdir DIR [DIR ...] [--metrics mig,dci] [--step N] [--num_samples 10000] [--seed 0]
                                [--jobs 2]
    python -m deft_jax.evaluate --codes FILE.npz [--metrics mig,dci]

A workdir is that of a training, finished or interrupted; the folder of several seeds or of a study stands for all of
its runs. Every metric is computed of the posterior means and of sampled codes, of all latents and of the active ones
alone (metrics/latents.py); mig_posterior, of the posteriors themselves, is the same for both. With several workdirs the
runs stand side by side, as many at a time as --jobs says, and udr compares them. An archive holds `codes` [N, D] and
`factors` [N, F], and may hold `logvar` [N, D], where the codes are means of posteriors; nothing else in it is read.

Results go into the workdir's results.json under 'evaluation', or beside the archive into FILE.results.json, after each
metric: 'scores', variant -> metric -> its dict, and 'refused', variant -> metric -> why it could not be computed. The
command ends with status 0 where each run has at least one score. A factor that is constant in the sample is left out.

Another evaluation of the same sample (step, num_samples, seed, and options of the metrics they share) adds its metrics
to those there. One of another sample takes the place under 'evaluation', and what was there moves to the list
'earlier_evaluations'. All other entries of the file stay as they are.
"""

import concurrent.futures
import functools
import multiprocessing
import os
import pathlib
import queue
import sys
from collections.abc import Mapping, Sequence

from deft_jax.runtime import cli
from deft_jax.runtime.paths import local_path
from deft_jax.studies.scoring import DEFAULT, VARIANTS, check_request, compare, evaluate, evaluate_codes, runs_of


def table(columns: Mapping[str, Mapping[str, float]]) -> str:
    """A text table: columns, name -> {row: value}."""
    rows = list(dict.fromkeys(row for values in columns.values() for row in values))
    width = max([12, *(len(row) for row in rows)]) + 2
    widths = {name: max(10, len(name) + 2) for name in columns}
    lines = [" " * width + "".join(f"{name:>{widths[name]}}" for name in columns)]
    for row in rows:
        cells = (f"{values[row]:.3f}" if row in values else "" for values in columns.values())
        lines.append(f"{row:<{width}}" + "".join(f"{cell:>{widths[name]}}" for cell, name in zip(cells, columns)))  # noqa: B905
    return "\n".join(lines)


def _labels(given: Sequence[pathlib.Path], runs: Sequence[tuple[pathlib.Path, pathlib.Path]]) -> list[str]:
    """A short name for each of (run, the folder that stood for it): all different."""
    names = []
    for run, folder in runs:
        inner = run.relative_to(folder)
        inner = inner.parent if inner.name == "run" else inner
        names.append(str(inner) if len(given) == 1 and run != folder else str(pathlib.Path(folder.name) / inner))
    return [str(run) if names.count(name) > 1 else name for name, (run, _) in zip(names, runs, strict=True)]


def _score(workdirs, jobs, **options):
    """Yields (workdir, the result of `evaluate` or the error it ended in) in the order of the workdirs.

    jobs: how many to score at a time, each in a process of its own on its share of the cores; None for as many as
    there are cores, or one on an accelerator, for whose memory processes would fight.
    """
    import jax

    from deft_jax.runtime import parallel

    cores = parallel.cores()
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
        yield from zip(workdirs, pool.map(functools.partial(run_in_subprocess, call, shares), workdirs), strict=True)


def _result(workdir, **options):
    try:
        return evaluate(workdir, **options)
    except ValueError as error:
        return error


def run_in_subprocess(call, shares, workdir):
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
    parser = cli.Parser("deft_jax.evaluate", __doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--workdir", nargs="+", metavar="DIR", help="workdirs of trainings, folders of seeds or studies")
    where.add_argument("--codes", metavar="FILE.npz", help="an archive with codes and factors")
    parser.add_argument("--metrics", help=f"names between commas ({','.join(DEFAULT)}, or those that the data allow)")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="of the codes (%(default)s)")
    parser.add_argument("--step", type=int, help="of the checkpoint (default: the newest)")
    parser.add_argument("--num_samples", type=int, default=10_000, help="images of the sample (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (%(default)s)")
    parser.add_argument("--jobs", type=int, help="workdirs scored at a time (one a core; one on an accelerator)")
    args = parser.parse_args(argv)
    with cli.cli_errors("deft_jax.evaluate"):
        _run(args)


def _run(args) -> None:
    """What the command does with its arguments."""
    from deft_jax.evaluation.scores import headlines

    names = None if args.metrics is None else [word for word in args.metrics.split(",") if word]
    variants = [word for word in args.variants.split(",") if word]
    if args.codes is not None:
        result = evaluate_codes(args.codes, names)
        print(table({"codes": headlines(result["scores"]["codes"], labelled=True)}))
        _print_gaps(result)
        return
    check_request(DEFAULT if names is None else names, args.num_samples, variants, args.seed)
    if args.jobs is not None and args.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {args.jobs}")
    given = [local_path(workdir, "--workdir") for workdir in args.workdir]
    runs = [(run, folder) for folder in given for run in runs_of(folder)]
    if names and "udr" in names and len(runs) < 2:
        raise ValueError("udr compares several runs: give two workdirs or more")
    label_of = {run: label for (run, _), label in zip(runs, _labels(given, runs), strict=True)}
    options = {"num_samples": args.num_samples, "seed": args.seed}
    fields = options | {"names": names, "step": args.step, "variants": variants}
    columns, scored, failed = {}, {}, {}
    for workdir, result in _score(list(label_of), args.jobs, **fields):
        if isinstance(result, Exception):
            failed[workdir] = result
            continue
        scored[workdir] = result
        prefix = f"{label_of[workdir]} " if len(label_of) > 1 else ""
        columns |= {prefix + variant: headlines(scores, labelled=True) for variant, scores in result["scores"].items()}
        latents = [f"{len(result[kind])} {kind}" for kind in ("active", "mixed", "passive")]
        print(f"{workdir}, step {result['step']}: latents {', '.join(latents)}")
    if any(columns.values()):
        print(table(columns))
    for workdir, result in scored.items():
        _print_gaps(result, f"{label_of[workdir]}: " if len(label_of) > 1 else "")
    if names and "udr" in names and len(scored) > 1:
        for correlation, found in compare(list(scored), **options).items():
            values = ", ".join(f"{label_of[run]} {udr:.3f}" for run, udr in zip(scored, found["udr"], strict=True))
            print(f"udr, {correlation}: {values}")
    for workdir, error in failed.items():
        line = " ".join(str(error).split())
        print(f"deft_jax.evaluate: {line if str(workdir) in line else f'{workdir}: {line}'}", file=sys.stderr)
    if failed:
        bad = all(isinstance(error, ValueError) for error in failed.values())
        sys.exit(cli.BAD_INPUT if bad else cli.FAILED)


def _print_gaps(result: Mapping, prefix: str = "") -> None:
    """Prints what is not in the table: factors that do not vary, and metrics without a score."""
    from deft_jax.studies.score_file import not_scored

    if result["left_out"]:
        print(f"{prefix}left out, constant in the sample: {', '.join(result['left_out'])}")
    for line in not_scored(result["refused"]):
        print(f"{prefix}not scored: {line}")


if __name__ == "__main__":
    main()
