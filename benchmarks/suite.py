"""The frame of the benchmarks: what is timed and in which order, the table, the command line.

A row has up to three columns that do the same work: ours, what it is compared with, and that compiled. All columns of
all rows of a group are timed in turn, `repeats` times over, so that a busy machine disturbs them alike.
A timing is one call that does the work as many times over as takes about `seconds` (at least once); medians are shown.
"""

import argparse
import dataclasses
import importlib
import json
import math
import os
import pathlib
import signal
import statistics
import sys
import time
from collections.abc import Callable

GROUPS = {
    "training.step": "the training step of DEFT in every stage and of its baselines, beside PyTorch",
    "annealing.trials": "trials of the annealing test in one program, beside PyTorch one after another",
    "metrics.scores": "MIG, FactorVAE score and DCI, beside how older libraries compute them",
    "data.rendering": "a batch drawn in the step, beside a look-up in an array",
    "training.cores": "a batch shared by the cores as devices, beside one device; with forced devices only",
    "training.seeds": "several seeds in one program, beside one run after another",
    "training.precision": "the training step in bfloat16, beside float32",
    "models.convolutions": "convolutions as matrix products, beside lax convolutions",
}
COLUMNS = ("ours", "beside", "compiled")
_SIDE = 2048  # of the matrices whose product tells the machine's peak


@dataclasses.dataclass(frozen=True)
class Options:
    """repeats: timings of everything. seconds: length of one. quick: fewer and smaller cases. slow: all of them.

    compile_limit: seconds that one torch.compile may take; 0: not tried.
    """

    repeats: int = 5
    seconds: float = 0.5
    quick: bool = False
    slow: bool = False
    compile_limit: int = 180


class Timed:
    """Something timed. `run(n)` does it n times over and returns when it is done.

    weight: of its seconds in its column, the sum over whose parts is what the row shows. once: so slow that its first
    call is its only timing.
    """

    def __init__(self, run: Callable[[int], object], weight: float = 1.0, once: bool = False):
        self.run, self.weight, self.once = run, weight, once
        self.count, self.seconds = 0, []

    def time(self, count: int) -> float:
        """Seconds of one time, of `count` times over."""
        start = time.perf_counter()
        self.run(count)
        return (time.perf_counter() - start) / count

    def prepare(self, seconds: float) -> None:
        """Chooses how many times over a timing of about `seconds` goes; the first call pays for fresh memory."""
        first = self.time(1)
        if self.once:
            self.seconds = [first]
            return
        if first < seconds:
            first = self.time(max(1, round(seconds / 4 / first)))
        self.count = max(1, round(seconds / first))

    def repeat(self) -> None:
        """One more timing."""
        if not self.once:
            self.seconds.append(self.time(self.count))


@dataclasses.dataclass
class Row:
    """One line of the table: columns that do the same work.

    unit: what the milliseconds are of. against: what `beside` is. A column is a Timed, a tuple of them to be summed, ""
    where there is nothing to show, or the reason why there is nothing.
    flops: floating-point operations of a unit that no method can do without, None where the floor tells nothing.
    """

    name: str
    unit: str
    against: str
    ours: Timed | tuple | str
    beside: Timed | tuple | str = ""
    compiled: Timed | tuple | str = ""
    flops: float | None = None

    def parts(self, column: str) -> tuple[Timed, ...]:
        """What a column is the weighted sum of."""
        value = getattr(self, column)
        return () if isinstance(value, str) else value if isinstance(value, tuple) else (value,)

    def seconds(self, column: str) -> float | None:
        """Median seconds of a unit; None where the column is empty."""
        parts = self.parts(column)
        return sum(part.weight * statistics.median(part.seconds) for part in parts) if parts else None


_BEGIN = time.perf_counter()


def report(text: str) -> None:
    """Tells on the terminal how far things are; not part of the table."""
    print(f"[{time.perf_counter() - _BEGIN:4.0f} s] {text}", file=sys.stderr, flush=True)


def torch_or_reason():
    """(the torch module with as many threads as there are cores, None), or (None, why there is none)."""
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # else a compilation given up lives on in workers
    try:
        import torch
    except ImportError:
        return None, "PyTorch is not installed"
    from benchmarks import machine

    torch.set_num_threads(machine.num_cores())
    limits = torch._dynamo.config
    name = "recompile_limit" if hasattr(limits, "recompile_limit") else "cache_size_limit"  # as older versions call it
    setattr(limits, name, 1000)  # all cases share one function, which is compiled for each
    return torch, None


def compiled_or_reason(compile_now: Callable[[], object], limit: int) -> str | None:
    """Runs a function that makes PyTorch compile; why it failed in one line, None where it did not."""
    if not limit:
        return "torch.compile was not tried"

    def late(signum, frame):
        raise TimeoutError(f"not done within {limit} s")

    can_stop = hasattr(signal, "SIGALRM")
    before = signal.signal(signal.SIGALRM, late) if can_stop else None
    try:
        if can_stop:
            signal.alarm(limit)
        compile_now()
        return None
    except Exception as error:  # whatever the compiler behind it raises: the other columns stand without it
        lines = str(error).strip().splitlines() or [""]
        return f"torch.compile failed: {type(error).__name__}: {lines[0]}"
    finally:
        if can_stop:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)


def _peaks():
    """Name -> Timed of one product of two float32 matrices of _SIDE x _SIDE, which is 2 * _SIDE^3 operations."""
    import jax
    import jax.numpy as jnp

    matrix = jnp.ones((_SIDE, _SIDE), jnp.float32)
    product = jax.jit(jnp.matmul)

    def in_jax(count):
        for _ in range(count):
            jax.block_until_ready(product(matrix, matrix))

    peaks = {"jax": Timed(in_jax)}
    torch, _ = torch_or_reason()
    if torch is not None and jax.default_backend() == "cpu":
        ones = torch.ones(_SIDE, _SIDE)

        def in_torch(count):
            for _ in range(count):
                torch.mm(ones, ones)

        peaks["torch"] = Timed(in_torch)
    return peaks


def measure(rows: list[Row], options: Options) -> dict[str, float]:
    """Times all columns of all rows in turn; each library's peak in operations a second, {} if no row has flops."""
    peaks = _peaks() if any(row.flops for row in rows) else {}
    shares = {}  # Timed -> seconds of a timing; one that stands in several rows is timed once
    for row in rows:
        for column in COLUMNS:
            parts = row.parts(column)
            shares |= {part: options.seconds / len(parts) for part in parts}
    shares |= dict.fromkeys(peaks.values(), options.seconds)
    for timed, seconds in shares.items():
        timed.prepare(seconds)
    for repeat in range(options.repeats):
        report(f"timings {repeat + 1} of {options.repeats}")
        for timed in shares:
            timed.repeat()
    return {name: 2 * _SIDE**3 / statistics.median(timed.seconds) for name, timed in peaks.items()}


HEADER = (
    "| group | case | unit | ours, ms | beside it | ms | its ratio | compiled, ms | its ratio | floor, ms | "
    "ours / floor |\n|---|---|---|---:|---|---:|---:|---:|---:|---:|---:|"
)


def number(value: float | None) -> str:
    """Three digits, more only before the point."""
    if value is None:
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"


def line(group: str, row: Row, peak: float | None, footnotes: list[str]) -> str:
    """A row of the table. Reasons why a column is empty are added to `footnotes`."""
    columns = {}
    for column in COLUMNS:
        value, seconds = getattr(row, column), row.seconds(column)
        columns[column] = number(None if seconds is None else 1e3 * seconds)
        if isinstance(value, str) and value:
            if value not in footnotes:
                footnotes.append(value)
            columns[column] = f"— [{1 + footnotes.index(value)}]"
    ours, floor = row.seconds("ours"), row.flops / peak if row.flops and peak else None

    def ratio(above, below):
        return "" if above is None or below is None else number(above / below)

    values = [
        group, row.name, row.unit, columns["ours"], row.against,
        columns["beside"], ratio(row.seconds("beside"), ours),
        columns["compiled"], ratio(row.seconds("compiled"), ours),
        number(None if floor is None else 1e3 * floor), ratio(ours, floor),
    ]  # fmt: skip
    return f"| {' | '.join(values)} |"


def record(group: str, row: Row, peak: float | None) -> dict:
    """A row with all of its timings, for JSON: seconds throughout."""
    columns = {}
    for column in COLUMNS:
        parts = row.parts(column)
        if parts:
            timings = [{"weight": part.weight, "times": part.count or 1, "seconds": part.seconds} for part in parts]
            columns[column] = {"median": row.seconds(column), "parts": timings}
        elif getattr(row, column):
            columns[column] = {"reason": getattr(row, column)}
    floor = row.flops / peak if row.flops and peak else None
    fields = {"group": group, "case": row.name, "unit": row.unit, "against": row.against, "flops": row.flops}
    return fields | {"floor": floor, **columns}


def run(
    groups: dict[str, Callable], options: Options, out: pathlib.Path | None = None, minutes: float = math.inf
) -> None:
    """Prints the table, a row as soon as its group is measured, and writes all timings to `out`.

    groups: name -> (options, notes) -> rows, a function that may add lines to `notes`.
    minutes: since the start of the process, after which no further group is begun.
    """
    from benchmarks import machine

    torch_or_reason()
    results = {"machine": machine.describe(), "options": dataclasses.asdict(options)}
    results |= {"peaks": {}, "rows": [], "notes": []}
    how = f"medians of {options.repeats} timings of about {options.seconds:g} s each"
    print(f"{results['machine']}\n{how}\n\n{HEADER}", flush=True)
    footnotes = []
    for name, rows_of in groups.items():
        if time.perf_counter() - _BEGIN > 60 * minutes:
            results["notes"].append(f"{name}: left out, since the {minutes:g} minutes were over")
            continue
        report(f"{name}: compiling")
        notes = []
        rows = rows_of(options, notes)
        report(f"{name}: timing")
        peaks = measure(rows, options)
        peak = max(peaks.values(), default=None)
        for row in rows:
            print(line(name, row, peak, footnotes), flush=True)
        if peaks:
            each = ", ".join(f"{value / 1e9:.0f} by {library}" for library, value in peaks.items())
            notes.append(
                f"the floor is the operations of the layers (flops.py) at the best measured GFLOP/s of a float32 "
                f"product of {_SIDE} x {_SIDE} matrices: {each}"
            )
        results["peaks"][name] = peaks
        results["rows"] += [record(name, row, peak) for row in rows]
        results["notes"] += [f"{name}: {note}" for note in notes]
        if out is not None:  # after each group, for what is measured to outlive what fails after it
            out.write_text(json.dumps(results, indent=1) + "\n")
    report("done")
    for number, reason in enumerate(footnotes, 1):
        print(f"\n[{number}] {reason}", end="")
    print("\n" + "".join(f"\n- {note}" for note in results["notes"]))


def main(only: str | None = None, rows_of: Callable | None = None) -> None:
    """The command line: of all groups, or of the group `only`, whose rows come from `rows_of`."""
    raw = argparse.RawDescriptionHelpFormatter
    width = max(map(len, GROUPS))
    listed = "\n".join(f"  {name:{width}}  {what}" for name, what in GROUPS.items() if only in (None, name))
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks{'' if only is None else '.' + only}",
        description=f"{__doc__.split(chr(10), 2)[2]}\n{listed}",
        formatter_class=raw,
    )
    if only is None:
        text = "groups; default: all"
        parser.add_argument("--only", default=",".join(GROUPS), metavar="GROUP[,GROUP]", help=text)
    parser.add_argument("--repeats", type=int, help=f"timings of everything ({Options.repeats}; quick: 2)")
    parser.add_argument("--seconds", type=float, help=f"length of a timing ({Options.seconds}; quick: 0.3)")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller cases, in a few minutes")
    parser.add_argument("--slow", action="store_true", help="DCI with boosted trees as well, minutes")
    parser.add_argument(
        "--compile_limit", type=int, default=Options.compile_limit,
        help="seconds that one torch.compile may take; 0: not tried",
    )  # fmt: skip
    parser.add_argument("--out", type=pathlib.Path, help="a JSON file for all timings, in seconds")
    args = parser.parse_args()
    repeats = (2 if args.quick else Options.repeats) if args.repeats is None else args.repeats
    seconds = (0.3 if args.quick else Options.seconds) if args.seconds is None else args.seconds
    if repeats < 1 or not seconds > 0 or args.compile_limit < 0:
        parser.error("--repeats must be at least 1, --seconds above 0, --compile_limit not negative")
    if only is None:
        names = [name for name in args.only.split(",") if name]
        unknown = [name for name in names if name not in GROUPS]
        if unknown or not names:
            parser.error(f"unknown group {', '.join(unknown) or '(none)'}; known: {', '.join(GROUPS)}")
        groups = {name: importlib.import_module(f"benchmarks.{name}").rows for name in names}
    else:
        groups = {only: rows_of}
    run(groups, Options(repeats, seconds, args.quick, args.slow, args.compile_limit), args.out)
