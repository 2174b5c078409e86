"""What a training survives: kills at random moments, damaged checkpoints, a full disk, a second start, NaN.

    python -m benchmarks.training.survival --kills 50 [--seed 0] [--workdir DIR]

A short run of configs/quickstart.py, of three stages, is trained once in one go, and then again and again as a command
that is killed by SIGKILL or SIGTERM: while it starts, compiles, steps, saves, and where a stage ends. It is restarted
until it ends, and must end where the other did: the last checkpoint bit for bit, the records all but their timings.
Then every fault is tried on a run that was stopped half way. Ends with status 1 if anything is lost.
"""

import argparse
import collections
import contextlib
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np

from benchmarks import machine
from deft_jax.runtime.files import read_object
from deft_jax.training import build
from deft_jax.training.checkpoint import Checkpoints
from deft_jax.training.metrics_log import read_records
from deft_jax.training.step import state_shapes

ROOT = pathlib.Path(__file__).parents[2]
TOTAL = 300
CONFIG = f"""
import importlib.util

def get_config():
    spec = importlib.util.spec_from_file_location("quickstart", {str(ROOT / "configs" / "quickstart.py")!r})
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    config.total_steps, config.batch_size = {TOTAL}, 4
    config.model.groups = (1, 1, 1)
    config.stages = {{"rule": "steps", "betas": (80.0, 20.0, 4.0), "steps": {TOTAL // 3}}}
    config.log_every = 10
    config.evaluation = {{"every": 100, "num_samples": 500, "seed": 0}}
    config.checkpoints = {{"every": 10, "keep": 3}}
    return config
"""
PLANS = ("at any time", "while starting", "while saving", "at the end of a stage")
TIMINGS = ("steps_per_second", "images_per_second")


class Command:
    """python -m deft_jax.train, its stderr in a file."""

    def __init__(self, folder: pathlib.Path, workdir: pathlib.Path, *overrides: str, limit: int | None = None):
        self.workdir, self.err = workdir, folder / "stderr.txt"
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
        }
        command = [sys.executable, "-m", "deft_jax.train", "--config", str(folder / "config.py")]
        command += ["--workdir", str(workdir), *overrides]
        self.begin = time.monotonic()

        with self.err.open("w") as err:
            self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=err)
        if limit is not None:
            resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (limit, limit))

    def said(self) -> str:
        """What it has said on stderr so far."""
        return self.err.read_text(errors="replace")

    def where(self) -> str:
        """What it is doing."""
        if list(self.workdir.glob("checkpoints/*orbax-checkpoint-tmp*")):
            return "saving"
        if "compiled in" in self.said():
            records = read_records(self.workdir / "metrics.jsonl")
            ends = records and records[-1]["step"] % (TOTAL // 3) == 0
            return "at the end of a stage" if ends else "stepping"
        with contextlib.suppress(OSError, ValueError):
            held = read_object(self.workdir / ".lock")  # one that was killed leaves it behind
            return "compiling" if held and held.get("process") == self.process.pid else "starting"
        return "starting"

    def end(self, timeout: float = 1800) -> int:
        """Waits for its end, and returns its status."""
        return self.process.wait(timeout)


def trained(folder, workdir, *overrides, **kwargs) -> tuple[int, str]:
    """Status and stderr of a command that is left alone."""
    command = Command(folder, workdir, *overrides, **kwargs)
    return command.end(), command.said()


class Outcome:
    """What a run has reached: the bytes of its last checkpoint, and its records without timings."""

    def __init__(self, workdir: pathlib.Path):
        built = build.build(read_object(workdir / "config.json"))
        checkpoints = Checkpoints(workdir / "checkpoints", 1)
        self.state = checkpoints.restore(state_shapes(built), TOTAL)
        self.records = [
            {name: value for name, value in record.items() if name not in TIMINGS}
            for record in read_records(workdir / "metrics.jsonl")
        ]
        self.results = read_object(workdir / "results.json")

    def __eq__(self, other):
        leaves = zip(jax.tree.leaves(self.state), jax.tree.leaves(other.state), strict=True)
        same = all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in leaves)
        return same and self.records == other.records and self.results == other.results


def kill(command: Command, rng: random.Random, startup: float) -> tuple[str, str] | None:
    """Kills a command as one of PLANS has it; -> (signal, what it was doing), None where it ended before."""
    plan = rng.choice(PLANS)
    number = rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
    delay = rng.uniform(0, startup if plan == "while starting" else 1.5 * startup)
    due = command.begin + delay
    saves = rng.randrange(1, 6)  # how many are seen to begin before it is killed
    saving = False
    while command.process.poll() is None:
        if plan == "while saving":
            now = command.where() == "saving"
            saves -= now and not saving
            saving = now
            if saves == 0:
                time.sleep(rng.uniform(0, 0.1))
                break
        elif plan == "at the end of a stage":
            if command.where() == plan:
                break
        elif time.monotonic() >= due:
            break
        time.sleep(0.002)
    if command.process.poll() is not None:
        return None
    with contextlib.suppress(ProcessLookupError):
        command.process.send_signal(signal.SIGSTOP)  # so that it is seen where the signal finds it
        where = command.where()
        command.process.send_signal(number)
        command.process.send_signal(signal.SIGCONT)
        return number.name, where
    return None


def killed(folder, kills: int, seed: int, whole: Outcome, startup: float):
    """(kills by signal and place, restarts, trainings, those that ended as the whole one, faults)."""
    rng = random.Random(seed)
    counts, starts, trainings, same, faults = collections.Counter(), 0, 0, 0, []
    done = 0
    while done < kills:
        workdir = folder / f"killed_{trainings}"
        trainings += 1
        while True:
            command = Command(folder, workdir)
            starts += 1
            hit = kill(command, rng, startup) if done < kills else None
            status = command.end()
            allowed = (0,) if hit is None else {"SIGKILL": (-9, 0), "SIGTERM": (143, -15, 0)}[hit[0]]
            if status not in allowed or "Traceback" in command.said():
                faults.append(f"status {status} after {hit}: {command.said()[-2000:]}")
            if hit is not None and status != 0:
                counts[hit] += 1
                done += 1
                print(f"kill {done}: {hit[0]} while {hit[1]}, status {status}", flush=True)
            elif status != 0:
                return counts, starts, trainings, same, faults
            if status == 0:
                break
        equal = Outcome(workdir) == whole
        same += equal
        how = "like" if equal else "UNLIKE"
        print(f"training {trainings} ended {how} the whole one after {starts} starts", flush=True)
        shutil.rmtree(workdir)
    return counts, starts - trainings, trainings, same, faults


# ---- faults ----


def newest(workdir: pathlib.Path) -> pathlib.Path:
    """The folder of the newest checkpoint."""
    steps = [int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdecimal()]
    return workdir / "checkpoints" / str(max(steps))


def damage(kind: str, rng: random.Random):
    """A function that damages the newest checkpoint of a workdir: its largest file of numbers, or all."""

    def spoil(workdir):
        folder = newest(workdir)
        if kind == "emptied":
            shutil.rmtree(folder)
            folder.mkdir()
            return
        path = max((p for p in folder.rglob("d/*") if p.is_file()), key=lambda p: p.stat().st_size)
        content = bytearray(path.read_bytes())
        if kind == "removed":
            path.unlink()
        elif kind == "cut":
            path.write_bytes(content[: len(content) // 2])
        elif kind == "zeroed":
            path.write_bytes(bytes(len(content)))
        else:
            content[rng.randrange(len(content))] ^= 0xFF
            path.write_bytes(content)

    return spoil


def one_line(said: str) -> bool:
    """Whether what was said ends in the command's own line and holds no traceback."""
    return "Traceback" not in said and said.splitlines()[-1].startswith("deft_jax.train: ")


def after_damage(folder, half, whole, spoil) -> bool:
    """Whether a run goes on from an older checkpoint with a warning, or never needed what was damaged."""
    workdir = shutil.copytree(half, folder / "fault")
    try:
        last = newest(workdir).name
        spoil(workdir)
        status, said = trained(folder, workdir)
        told = f"checkpoints/{last} cannot be read" in said or f"resuming at step {last} " in said
        return status == 0 and told and "Traceback" not in said and Outcome(workdir) == whole
    finally:
        shutil.rmtree(workdir)


def after_full_disk(folder, whole) -> bool | None:
    """Whether a run on a file system that is too small ends in one line, and goes on when it is larger."""
    place = folder / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        return None
    try:
        status, said = trained(folder, place / "run")
        full = status == 1 and one_line(said) and "No space left on device" in said
        print(said.splitlines()[-1], flush=True)
        subprocess.run(["mount", "-o", "remount,size=200m", str(place)], check=True)
        status, said = trained(folder, place / "run")
        return full and status == 0 and Outcome(place / "run") == whole
    finally:
        subprocess.run(["umount", str(place)], check=True)


def after_limit(folder, half, whole) -> bool:
    """The same where no file may be larger than some."""
    workdir = shutil.copytree(half, folder / "fault")
    try:
        status, said = trained(folder, workdir, limit=40_000)
        print(said.splitlines()[-1], flush=True)
        refused = status == 1 and one_line(said) and "File too large" in said
        status, said = trained(folder, workdir)
        return refused and status == 0 and Outcome(workdir) == whole
    finally:
        shutil.rmtree(workdir)


def after_second_start(folder, half, whole) -> bool:
    """Whether a second start is refused and changes nothing, and the first goes on to its end."""
    workdir = shutil.copytree(half, folder / "fault")
    other = folder / "second"
    other.mkdir()
    shutil.copy(folder / "config.py", other)
    try:
        first = Command(folder, workdir)
        while "compiled in" not in first.said():
            time.sleep(0.01)
        first.process.send_signal(signal.SIGSTOP)
        before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
        status, said = trained(other, workdir)
        same = before == {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
        first.process.send_signal(signal.SIGCONT)
        print(said.splitlines()[-1], flush=True)
        refused = status == 2 and one_line(said) and f"process {first.process.pid}" in said
        return refused and same and first.end() == 0 and Outcome(workdir) == whole
    finally:
        shutil.rmtree(workdir)


def after_nan(folder) -> bool:
    """Whether a run whose loss is not finite says so, and says so again."""
    workdir = folder / "nan"
    wild = ("--config.optimizer.learning_rate=1e30", "--config.optimizer.decoder_learning_rate=1e30")
    ends = [trained(folder, workdir, *wild) for _ in range(2)]
    print(ends[0][1].splitlines()[-1], flush=True)
    return all(status == 1 and one_line(said) and "not finite" in said for status, said in ends)


def main():
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workdir", type=pathlib.Path, help="of all runs; a temporary one, deleted, unless told")
    args = parser.parse_args()
    begin = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = args.workdir or pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.py").write_text(CONFIG)
        start = time.monotonic()
        status, said = trained(folder, folder / "whole")
        if status != 0:
            sys.exit(said)
        seconds = time.monotonic() - start
        whole = Outcome(folder / "whole")
        print(f"{machine.describe()}\n\n{TOTAL} steps in one go take {seconds:.0f} s", flush=True)

        half = folder / "half"
        command, startup = Command(folder, half), None
        while "step 150/" not in command.said() and command.process.poll() is None:
            time.sleep(0.01)
            if startup is None and "step " in command.said():
                startup = time.monotonic() - command.begin
        command.process.send_signal(signal.SIGTERM)
        command.end()
        print(f"a start takes {startup:.0f} s", flush=True)
        counts, restarts, trainings, same, faults = killed(folder, args.kills, args.seed, whole, startup)
        rng = random.Random(args.seed)
        tried = {f"newest checkpoint {kind}": after_damage(folder, half, whole, damage(kind, rng))
                 for kind in ("cut", "zeroed", "flipped", "removed", "emptied")}  # fmt: skip
        tried["full disk"] = after_full_disk(folder, whole)
        tried["limit on the size of files"] = after_limit(folder, half, whole)
        tried["second start"] = after_second_start(folder, half, whole)
        tried["loss not finite"] = after_nan(folder)

    places = ("starting", "compiling", "stepping", "saving", "at the end of a stage")
    print(f"\n| signal | {' | '.join(places)} | all |\n|---|{'---:|' * (len(places) + 1)}")
    for name in ("SIGKILL", "SIGTERM"):
        row = [counts[name, place] for place in places]
        print(f"| {name} | {' | '.join(map(str, row))} | {sum(row)} |")
    told = f"{sum(counts.values())} kills, {restarts} restarts, {trainings} trainings"
    print(f"\n{told}, {same} of which ended like the whole one")
    print("\n| fault | survived |\n|---|---|")
    for fault, survived in tried.items():
        print(f"| {fault} | {'not tried: no tmpfs' if survived is None else 'yes' if survived else 'NO'} |")
    print(f"\n{time.monotonic() - begin:.0f} s")
    for fault in faults:
        print(fault)
    if faults or same < trainings or False in tried.values():
        sys.exit(1)


if __name__ == "__main__":
    main()
