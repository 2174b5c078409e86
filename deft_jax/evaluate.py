"""Scores of trained models, or of codes from anywhere.

    python -m deft_jax.evaluate --workdir DIR [DIR ...] [--metrics mig,dci] [--step N] [--num_samples 10000] [--seed 0]
                                [--jobs 2]
    python -m deft_jax.evaluate --codes FILE.npz [--metrics mig,dci]

A workdir is that of a training, finished or interrupted; the folder of several seeds or of a study stands for all of
its runs. DIR may also be the name of a model that comes with the package, such as quickstart, where there is no folder
of that name. Every metric is computed of the posterior means and of sampled codes, of all latents and of the active
ones only (metrics/latents.py); mig_posterior and foreign, of the posteriors themselves, are the same for both. Several
workdirs have their columns in one table, --jobs of them are scored at a time, and udr compares them. An archive holds
`codes` [N, D] and `factors` [N, F], and may hold `logvar` [N, D], where the codes are means of posteriors; nothing else
in it is read.

Results go into the workdir's results.json under 'evaluation', beside the archive into FILE.results.json, or of a model
of the package into NAME.results.json in the current folder, after each metric: 'scores', variant -> metric -> its
dict, and 'refused', variant -> metric -> why it could not be computed. The command ends with status 0 where each run
has at least one score. A factor that is constant in the sample is left out.

An evaluation of the same sample (step, num_samples, seed, and options of the metrics they share) adds its metrics to
the earlier ones. One of another sample replaces the entry 'evaluation', and the earlier one moves to the list
'earlier_evaluations'. All other entries of the file are left as they are.
"""

import argparse
import contextlib
import functools
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deft_jax.runtime import cli, pretrained
from deft_jax.runtime.paths import shown, without_repeats
from deft_jax.studies.run_folders import runs_of
from deft_jax.studies.scoring import DEFAULT, VARIANTS, check_request, compare, evaluate, evaluate_codes


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; a bad input ends in status 2 and one line, or one line per run where several are scored.

    Args:
      argv: arguments of the command line. Default: those of this process.
    """
    parser = cli.Parser("deft_jax.evaluate", __doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--workdir", nargs="+", metavar="DIR", help="workdirs of trainings, folders of seeds or studies")
    where.add_argument("--codes", metavar="FILE.npz", help="an archive with codes and factors")
    parser.add_argument("--metrics", help=f"names between commas ({','.join(DEFAULT)}, or those that the data allow)")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="of the codes (%(default)s)")
    parser.add_argument("--step", type=int, help="of the checkpoint (default: the newest)")
    parser.add_argument("--num_samples", type=int, default=10_000, help="images of the sample (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (%(default)s)")
    parser.add_argument("--jobs", type=int, help="workdirs scored at a time (one per core; one on an accelerator)")
    args = parser.parse_args(argv)
    with cli.cli_errors("deft_jax.evaluate"):
        if args.codes is not None:
            _score_archive(args)
        else:
            _score_workdirs(args)


def _metric_names(args: argparse.Namespace) -> list[str] | None:
    return None if args.metrics is None else [name for name in args.metrics.split(",") if name]


def _score_archive(args: argparse.Namespace) -> None:
    from deft_jax.evaluation.scores import headlines

    result = evaluate_codes(args.codes, _metric_names(args))
    _print_table({"codes": headlines(result["scores"]["codes"], labelled=True)})
    _print_gaps(result)


def _score_workdirs(args: argparse.Namespace) -> None:
    """Scores every run and prints the table; exits with a status other than 0 where a run cannot be scored."""
    names, variants = _metric_names(args), [name for name in args.variants.split(",") if name]
    check_request(DEFAULT if names is None else names, args.num_samples, variants, args.seed)
    if args.jobs is not None and args.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {args.jobs}")
    with contextlib.ExitStack() as copies:
        given = without_repeats(args.workdir, "--workdir")
        folders = [copies.enter_context(pretrained.scoring_copy(workdir, "--workdir")) for workdir in given]
        errors = _score_folders(folders, args, names, variants)
    _exit_with_errors(errors)


def _score_folders(
    folders: Sequence[pathlib.Path], args: argparse.Namespace, names: list[str] | None, variants: Sequence[str]
) -> dict[pathlib.Path, Exception]:
    """Scores every run of local folders and prints the table; returns run -> why it could not be scored."""
    from deft_jax.evaluation.scores import headlines

    runs = [(run, folder) for folder in folders for run in runs_of(folder)]
    is_compared = names is not None and "udr" in names
    if is_compared and len(runs) < 2:
        raise ValueError("udr compares several runs: give two workdirs or more")
    labels = {run: label for (run, _), label in zip(runs, _labels(runs, len(folders)), strict=True)}
    sample = {"num_samples": args.num_samples, "seed": args.seed}
    columns: dict[str, Mapping[str, float]] = {}
    results: dict[pathlib.Path, dict[str, Any]] = {}
    errors: dict[pathlib.Path, Exception] = {}
    for run, result in _results(list(labels), args.jobs, names=names, step=args.step, variants=variants, **sample):
        if isinstance(result, Exception):
            errors[run] = result
            continue
        results[run] = result
        prefix = f"{labels[run]} " if len(labels) > 1 else ""
        columns |= {prefix + variant: headlines(scores, labelled=True) for variant, scores in result["scores"].items()}
        latents = [f"{len(result[kind])} {kind}" for kind in ("active", "mixed", "passive")]
        print(f"{shown(run)}, step {result['step']}: latents {', '.join(latents)}")
    if any(columns.values()):
        _print_table(columns)
    for run, result in results.items():
        _print_gaps(result, f"{labels[run]}: " if len(labels) > 1 else "")
    if is_compared and len(results) > 1:
        for correlation, scores in compare(list(results), **sample).items():
            values = ", ".join(f"{labels[run]} {udr:.3f}" for run, udr in zip(results, scores["udr"], strict=True))
            print(f"udr, {correlation}: {values}")
    return errors


def _exit_with_errors(errors: Mapping[pathlib.Path, Exception]) -> None:
    """Prints one line per run that could not be scored and exits, unless there is none."""
    for run, error in errors.items():
        line = " ".join(shown(error).split())
        print(f"deft_jax.evaluate: {line if shown(run) in line else f'{shown(run)}: {line}'}", file=sys.stderr)
    if errors:
        is_bad_input = all(isinstance(error, ValueError) for error in errors.values())
        sys.exit(cli.BAD_INPUT if is_bad_input else cli.FAILED)


def _labels(runs: Sequence[tuple[pathlib.Path, pathlib.Path]], num_folders: int) -> list[str]:
    """A short and distinct name of each run.

    runs: pairs of a run and the folder on the command line that stands for it.
    """
    names = []
    for run, folder in runs:
        inner = run.relative_to(folder)
        inner = inner.parent if inner.name == "run" else inner
        names.append(str(inner) if num_folders == 1 and run != folder else str(pathlib.Path(folder.name) / inner))
    return [str(run) if names.count(name) > 1 else name for name, (run, _) in zip(names, runs, strict=True)]


def _results(
    runs: Sequence[pathlib.Path], jobs: int | None, **options: Any
) -> Iterator[tuple[pathlib.Path, dict[str, Any] | Exception]]:
    """Yields each run with the result of `evaluate`, or with the error it ended in."""
    from deft_jax.runtime import parallel

    jobs = min(parallel.default_jobs() if jobs is None else jobs, len(runs))
    score = functools.partial(_result_or_error, **options)
    results = map(score, runs) if jobs == 1 else parallel.map_in_processes(score, runs, jobs)
    yield from zip(runs, results, strict=True)


def _result_or_error(run: pathlib.Path, **options: Any) -> dict[str, Any] | ValueError:
    try:
        return evaluate(run, **options)
    except ValueError as error:
        return error


def _print_table(columns: Mapping[str, Mapping[str, float]]) -> None:
    from deft_jax.studies.tables import text_table

    print(text_table(columns))


def _print_gaps(result: Mapping[str, Any], prefix: str = "") -> None:
    """Prints what the table lacks: factors that do not vary, and metrics without a score."""
    from deft_jax.studies.score_file import not_scored

    if result["left_out"]:
        print(f"{prefix}left out, constant in the sample: {', '.join(result['left_out'])}")
    for line in not_scored(result["refused"]):
        print(f"{prefix}not scored: {line}")


if __name__ == "__main__":
    main()
