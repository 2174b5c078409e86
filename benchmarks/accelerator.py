"""What an accelerator makes of the package, in two commands of about ten minutes each.

    python -m benchmarks.accelerator measure --out accelerator.json
    python -m benchmarks.accelerator study --workdir runs/full_dsprites --seeds 3

`measure` times the training step of every stage, one and ten seeds in one program, bfloat16, both storages of dSprites,
both methods of the convolutions, and the trials of the annealing test, beside PyTorch where it is installed. The groups
that matter most come first, and none is begun after `--minutes`.

`study` trains and scores runs of configs/studies/dsprites.py at full scale. After `--minutes` it stops as at a
preemption; the same command continues. Further flags, as --config.metrics="('mig',)", go to deft_jax.sweep.

Without an accelerator both say so and stop, unless `--small` asks for a short form on the CPU.
"""

import argparse
import pathlib
import signal
import subprocess
import sys
import time
import unittest.mock

import numpy as np

from benchmarks import suite
from benchmarks.annealing import trials
from benchmarks.training import step
from deft_jax.models import convolutions
from deft_jax.training import build
from deft_jax.training.runner import Runner

STUDY = pathlib.Path(__file__).parents[1] / "configs" / "studies" / "dsprites.py"
RUNS = ("deft_annealed_rotated", "dynamic_vae")
SMALL = {"batch_size": 16, "model__width": 2, "model__hidden": 16, "model__decoder_width": 4}


class Bench:
    """Builds rows; `small` narrows every model."""

    def __init__(self, small: bool):
        self.small = small

    def built(self, name, **changes):
        """(configuration, experiment) of a file in configs/."""
        config = step.load(name, **(changes | SMALL if self.small else changes))
        return config, build.build(config)

    def timed(self, notes, title, built, stage, seeds=None):
        """A step of the experiment as it is, compiled now; the seconds of that go into a note."""
        state = step.start(built)
        states = state if seeds is None else [state.replace(key=state.key + np.uint32(seed)) for seed in range(seeds)]
        begin = time.perf_counter()
        column = step.ours(Runner(built, replicas=seeds), stage, states)
        notes.append(f"{title}: compiled in {time.perf_counter() - begin:.1f} s")
        suite.report(notes[-1])
        return column

    def case(self, options, notes, name, stage, torch=True, **changes):
        """The row of one stage beside PyTorch; stage: -1 is the last."""
        config, built = self.built(name, **changes)
        stage %= len(built.stages)
        title = f"{name}, stage {stage}, batch {built.batch_size}"
        column = self.timed(notes, title, built, stage)
        beside = step.torch_columns(options, config, built, stage, step.start(built).params) if torch else ("", "")
        operations = step.operations(config, built, stage)
        return suite.Row(title, "step", "PyTorch" if torch else "", column, *beside, operations)

    def quickstart(self, options, notes):
        """Both stages of the quickstart."""
        return [self.case(options, notes, "quickstart", stage) for stage in (0, -1)]

    def deft(self, options, notes):
        """The stages of the paper's settings in batches of 256."""
        ends = (0, 3)
        return [
            self.case(options, notes, "dsprites_deft", stage, torch=stage in ends, batch_size=256) for stage in range(4)
        ]

    def seeds(self, options, notes):
        """Ten seeds in one program beside a single run."""
        rows = []
        for name, changes in (("quickstart", {}), ("dsprites_deft", {"batch_size": 256})):
            _, built = self.built(name, **changes)
            stage = len(built.stages) - 1
            title = f"{name}, last stage, batch {built.batch_size}"
            single = self.timed(notes, title, built, stage)
            together = self.timed(notes, f"{title}, 10 seeds", built, stage, seeds=10)
            rows.append(suite.Row(f"{title}, 10 seeds", "model-step", "one run after another", together, single))
        return rows

    def rivals(self, options, notes):
        """Baselines in batches of 256."""
        return [self.case(options, notes, name, 0, batch_size=256) for name in ("beta_vae", "factor_vae")]

    def variants(self, options, notes):
        """bfloat16, the other storage of dSprites and the other method of the convolutions, beside the defaults."""
        rows = []
        _, built = self.built("dsprites_deft", batch_size=256)
        stage, title = len(built.stages) - 1, f"dsprites_deft, last stage, batch {built.batch_size}"
        default = self.timed(notes, title, built, stage)
        changes = {"bfloat16": {"model__dtype": "bfloat16"}}
        changes |= {f"storage {name}": {"data__storage": name} for name in ("rendered", "packed")}
        for name, change in changes.items():
            _, variant = self.built("dsprites_deft", batch_size=256, **change)
            column = self.timed(notes, f"{title}, {name}", variant, stage)
            rows.append(suite.Row(f"{title}, {name}", "step", "the defaults", column, default))
        for method in convolutions.METHODS:
            with unittest.mock.patch.object(convolutions, "_choose", lambda _, method=method: method):
                column = self.timed(notes, f"{title}, {method}", built, stage)
            rows.append(suite.Row(f"{title}, convolutions by {method}", "step", "the defaults", column, default))
        return rows

    def small_batches(self, options, notes):
        """The stages of the paper's settings in batches of 64."""
        return [
            self.case(options, notes, "dsprites_deft", stage, torch=False, batch_size=64) for stage in (0, 3)
        ]

    def groups(self):
        """The groups of `measure` in their order."""
        return {
            "quickstart": self.quickstart,
            "DEFT": self.deft,
            "seeds": self.seeds,
            "variants": self.variants,
            "trials": trials.rows,
            "baselines": self.rivals,
            "batches of 64": self.small_batches,
        }


def _backend() -> str:
    """JAX's default backend, asked in a process of its own, since a device's memory belongs to the first that asks."""
    code = "import jax; print(jax.default_backend())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def run_study(workdir: pathlib.Path, runs: tuple[str, ...], args: argparse.Namespace, more: list[str]) -> int:
    """Runs the study until it is done or the minutes are over; returns 0, or 75 where it has to be continued."""
    command = [sys.executable, "-m", "deft_jax.sweep", "--config", str(STUDY), "--workdir", str(workdir)]
    command += [f"--config.only={runs!r}", f"--config.seeds={tuple(range(args.seeds))!r}"]
    short = ["--config.scale=small", "--config.set=('total_steps=40', 'stages.steps=(10,)')"]
    command += short if args.small else ["--config.scale=full"]
    process = subprocess.Popen([*command, *more])
    try:
        return process.wait(60 * args.minutes)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)  # the runs save and stop, as at a preemption
        process.wait()
        print(f"stopped after {args.minutes:g} minutes; the same command continues", flush=True)
        return 75


def main() -> None:
    """The command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accelerator", description=__doc__, formatter_class=raw
    )
    parser.add_argument("what", choices=("measure", "study"))
    parser.add_argument("--minutes", type=float, default=9.0, help="after which nothing new is begun (9)")
    parser.add_argument("--small", action="store_true", help="a short form, which runs on the CPU too")
    parser.add_argument("--repeats", type=int, default=5, help="measure: timings of everything (5)")
    parser.add_argument("--seconds", type=float, default=0.3, help="measure: length of a timing (0.3)")
    parser.add_argument("--compile_limit", type=int, default=0, help="measure: seconds for a torch.compile; 0: none")
    parser.add_argument("--out", type=pathlib.Path, help="measure: a JSON file for all timings")
    parser.add_argument("--workdir", type=pathlib.Path, help="study: its folder")
    parser.add_argument("--runs", default=",".join(RUNS), help=f"study: names of runs ({','.join(RUNS)})")
    parser.add_argument("--seeds", type=int, default=3, help="study: number of seeds, from 0 on (3)")
    args, more = parser.parse_known_args()
    if not args.small and _backend() == "cpu":
        parser.error("no accelerator: JAX has only the CPU here; --small tries the commands on it")
    if args.what == "study":
        if args.workdir is None:
            parser.error("study needs --workdir")
        sys.exit(run_study(args.workdir, tuple(args.runs.split(",")), args, more))
    if more:
        parser.error(f"unknown arguments: {' '.join(more)}")
    repeats, seconds = (1, 0.05) if args.small else (args.repeats, args.seconds)
    options = suite.Options(repeats, seconds, quick=args.small, compile_limit=args.compile_limit)
    suite.run(Bench(args.small).groups(), options, args.out, args.minutes)


if __name__ == "__main__":
    main()
