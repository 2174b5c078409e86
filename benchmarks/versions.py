"""This checkout beside another one: the compile time and the training step of every stage of some configs.

    git worktree add ../earlier COMMIT
    python -m benchmarks.versions ../earlier --out versions.csv

Each measurement is a process of its own, without JAX's compilation cache; the two checkouts take turns. Medians of
all rounds; a ratio below 1 means that this checkout takes less.
"""

import argparse
import collections
import csv
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parents[1]
CASES = (("quickstart", 16), ("dsprites_deft", 64), ("dsprites_deft", 256), ("beta_vae", 64), ("beta_vae", 256))
QUANTITIES = ("compiling, s", "compiling, CPU s", "step, ms")


def measure(name, batch_size, seconds):
    """A list of {quantity: value}, one per stage, of the checkout that this process imports."""
    from benchmarks.training import step
    from deft_jax.training.build import build
    from deft_jax.training.runner import Runner

    experiment = build(step.load(name, batch_size=batch_size))
    runner, state = Runner(experiment), step.start(experiment)
    stages = []
    for stage in range(len(experiment.stages)):
        wall, cpu = time.perf_counter(), _cpu_seconds()
        timed = step.ours(runner, stage, state)
        wall, cpu = time.perf_counter() - wall, _cpu_seconds() - cpu
        timed.run(1)
        once = _seconds(timed, 2)
        times = [_seconds(timed, max(2, int(seconds / once))) for _ in range(3)]
        stages.append(dict(zip(QUANTITIES, (wall, cpu, 1e3 * statistics.median(times)), strict=True)))
    return stages


def _seconds(timed, count):
    start = time.perf_counter()
    timed.run(count)
    return (time.perf_counter() - start) / count


def _cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _process(root, case, seconds):
    """`measure` in a process that imports the checkout `root`."""
    paths = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, "JAX_ENABLE_COMPILATION_CACHE": "0"}
    command = [sys.executable, "-P", __file__, "--case", *map(str, case), "--seconds", str(seconds)]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{root}, {case[0]}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(earlier, repeats, seconds):
    """Rows (case, stage, quantity, earlier, this, ratio)."""
    found = collections.defaultdict(list)
    for repeat in range(repeats):
        for case in CASES:
            for version, root in (("earlier", earlier), ("this", HERE)):
                for stage, quantities in enumerate(_process(root, case, seconds)):
                    for quantity, value in quantities.items():
                        found[*case, stage, quantity, version].append(value)
            print(f"round {repeat + 1} of {repeats}: {case[0]}", file=sys.stderr, flush=True)
    rows = []
    for name, batch_size, stage, quantity, version in found:
        if version == "this":
            before, now = (
                statistics.median(found[name, batch_size, stage, quantity, each]) for each in ("earlier", "this")
            )
            numbers = (f"{number:.3g}" for number in (before, now, now / before))
            rows.append((f"{name}, batch {batch_size}", stage, quantity, *numbers))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("earlier", nargs="?", type=pathlib.Path, help="a checkout of another version")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a timing of the step")
    parser.add_argument("--out", type=pathlib.Path, help="a CSV file")
    parser.add_argument("--case", nargs=2, metavar=("CONFIG", "BATCH_SIZE"), help="measure this version alone")
    args = parser.parse_args()
    if args.case:
        print(json.dumps(measure(args.case[0], int(args.case[1]), args.seconds)))
        return
    if args.earlier is None or not (args.earlier / "deft_jax").is_dir():
        parser.error(f"name a folder with a checkout of another version, got {args.earlier}")
    rows = compare(args.earlier.resolve(), args.repeats, args.seconds)
    out = sys.stdout if args.out is None else args.out.open("w", newline="")
    csv.writer(out, lineterminator="\n").writerows([("case", "stage", "quantity", "earlier", "this", "ratio"), *rows])


if __name__ == "__main__":
    main()
