"""What more devices, processes, seeds and workers change: numbers, time and messages.

    python -m benchmarks.scaling devices hosts seeds workers tpu [--steps 200] [--out scaling.csv]

devices: 1, 2, 4 and 8 devices share a batch of the quickstart, on a machine of one CPU as well (XLA's forced host
devices), so their time says nothing; each of so many steps is taken from the state of one device by all, and the
parameters after it are compared.
hosts: one and two processes train the quickstart together; records and steps per second.
seeds: 1, 2, 5 and 10 seeds of the quickstart in one program, every core a device of JAX; steps per second of all
models together.
workers: a study of four short runs with one and two at a time; seconds in all.
tpu: configs/beta_vae.py in batches of 256, compiled for 1, 4 and 8 chips of a TPU v5e that need not be there (extra
`tpu`); operations, bytes and messages of a step on a chip, and the time that its peak rates allow.

Parts that are measured replace their rows in the file; the others stay.
"""

import argparse
import csv
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np

from deft_jax.runtime import parallel

ROOT = pathlib.Path(__file__).parents[1]
FIELDS = ("part", "case", "quantity", "value", "unit")
STUDY = """
from deft_jax.studies import presets, study_presets

def get_config():
    runs = {"beta_vae": presets.baseline("beta_vae", beta=4.0)}
    return study_presets.study(runs, study_presets.SCALES)
"""


def _forced(count):
    """The environment of a process with so many devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}".strip()
    return {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


def devices(steps):
    """Parameters after each of some steps on several devices, against those of one; in a process with eight of them."""
    if len(jax.devices()) < 8:
        command = [sys.executable, "-m", "benchmarks.scaling", "devices", f"--steps={steps}", "--rows"]
        done = subprocess.run(command, env=_forced(8), cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        return [tuple(row) for row in json.loads(done.stdout.splitlines()[-1])]
    from benchmarks.training import step
    from deft_jax.training.build import build
    from deft_jax.training.runner import Runner
    from deft_jax.training.step import init_state

    experiment = build(step.load("quickstart"))
    runners = {count: Runner(experiment, jax.devices()[:count]) for count in (1, 2, 4, 8)}
    state = jax.tree.map(np.array, init_state(experiment))
    apart, losses = {count: [] for count in runners}, {count: [] for count in runners}
    for _ in range(steps):
        ends = {}
        for count, runner in runners.items():
            end, metrics = runner.run(0, runner.put(state), 1)
            ends[count] = jax.tree.map(np.asarray, runner.unreplicate(end))
            losses[count].append(float(metrics["loss"]))
        for count, end in ends.items():
            pairs = zip(jax.tree.leaves(ends[1].params), jax.tree.leaves(end.params), strict=True)
            apart[count].append(max(float(np.abs(one - other).max()) for one, other in pairs))
        state = ends[1]
    rows = []
    for count, differences in apart.items():
        median = statistics.median(differences)
        rows.append(("devices", str(count), "largest difference of a parameter, median", median, ""))
        rows.append(("devices", str(count), "of all steps", max(differences), ""))
        rows.append(("devices", str(count), "mean loss", statistics.mean(losses[count]), "nats"))
    return rows


def _train(arguments, environment):
    command = [sys.executable, "-m", "deft_jax.train", "--config", "configs/quickstart.py", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def hosts(steps):
    """Losses and speed of one training in one and in two processes."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for count in (1, 2):
            with socket.socket() as free:
                free.bind(("localhost", 0))
                port = free.getsockname()[1]
            workdir = pathlib.Path(folder) / str(count)
            total = f"--config.total_steps={12 * steps}"
            fields = [f"--config.log_every={2 * steps}", f"--config.evaluation.every={12 * steps}", total,
                      f"--config.checkpoints.every={12 * steps}", f"--workdir={workdir}"]  # fmt: skip
            processes = []
            for index in range(count):
                environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
                if count > 1:
                    environment |= {
                        "DEFT_JAX_COORDINATOR": f"localhost:{port}",
                        "DEFT_JAX_NUM_PROCESSES": str(count),
                        "DEFT_JAX_PROCESS_ID": str(index),
                    }
                processes.append(_train(fields, environment))
            for process in processes:
                error = process.communicate()[1]
                if process.returncode:
                    raise RuntimeError(error.decode()[-2000:])
            records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
            records = [record for record in records if record["kind"] == "train"]
            speed = statistics.median(record["steps_per_second"] for record in records[1:])
            rows.append(("hosts", str(count), "mean loss of the first records", records[0]["loss"], "nats"))
            rows.append(("hosts", str(count), "steps", speed, "1/s"))
    return rows


def seeds(steps):
    """Steps per second of all models of one program."""
    from benchmarks.training import step
    from deft_jax.training.build import build
    from deft_jax.training.runner import Runner

    experiment = build(step.load("quickstart"))
    state = step.start(experiment)
    timed = {}
    for count in (1, 2, 5, 10):
        states = [state.replace(key=state.key + np.uint32(seed)) for seed in range(count)]
        timed[count] = step.ours(Runner(experiment, replicas=count), 0, states)
        timed[count].run(2)
    seconds = {count: [] for count in timed}
    for _ in range(5):  # in turns
        for count, case in timed.items():
            seconds[count].append(case.time(max(steps // count, 10)) / count)
    return [("seeds", str(count), "steps of all models", 1 / statistics.median(all_), "1/s")
            for count, all_ in seconds.items()]  # fmt: skip


def workers(steps):
    """Seconds of a study with one and with two runs at a time."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder) / "study.py"
        config.write_text(STUDY)
        for jobs in (1, 2):
            fields = (f"'total_steps={10 * steps}'", f"'evaluation.every={10 * steps}'", f"'log_every={steps}'",
                      f"'checkpoints.every={10 * steps}'", "'batch_size=16'")  # fmt: skip
            command = [sys.executable, "-m", "deft_jax.sweep", f"--config={config}", f"--jobs={jobs}",
                       f"--workdir={folder}/{jobs}", "--config.scale=small", "--config.seeds=(0, 1, 2, 3)",
                       "--config.metrics=('mig',)", f"--config.set=({', '.join(fields)})"]  # fmt: skip
            begin = time.perf_counter()
            subprocess.run(
                command, cwd=ROOT, check=True, capture_output=True, env={**os.environ, "JAX_PLATFORMS": "cpu"}
            )
            rows.append(("workers", str(jobs), "four runs", time.perf_counter() - begin, "s"))
    return rows


def tpu(steps):
    """Costs of the program of beta-VAE on slices of TPU v5e, per chip."""
    del steps
    from benchmarks.training import step
    from deft_jax.training import ahead, build, chips
    from deft_jax.training.config import parse_training

    rows = []
    for topology in ("v5e:1x1", "v5e:2x2", "v5e:2x4"):
        chosen = chips.topology_devices(topology)
        platform = chosen[0].platform
        config = build.for_platform(parse_training(step.load("beta_vae", batch_size=256)), platform)
        cost = ahead.compile_stage(build.build(config, platform=platform), 0, chosen)
        case = str(len(chosen))
        rows += [
            ("tpu", case, "compilation", cost.seconds, "s"),
            ("tpu", case, "memory", cost.memory, "B"),
            ("tpu", case, "operations", cost.flops, "FLOP"),
            ("tpu", case, "bytes", cost.bytes_accessed, "B"),
            ("tpu", case, "messages", sum(number for number, _ in cost.collectives.values()), ""),
            ("tpu", case, "bytes of messages", cost.collective_bytes, "B"),
            *(("tpu", case, f"step at the peak of the {name}", seconds, "s") for name, seconds in cost.bounds.items()),
        ]
    return rows


PARTS = {"devices": devices, "hosts": hosts, "seeds": seeds, "workers": workers, "tpu": tpu}


def main():
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--steps", type=int, default=200, help="length of the comparisons")
    parser.add_argument("--out", type=pathlib.Path, help="a CSV file; parts that are not measured stay")
    parser.add_argument("--rows", action="store_true", help="print the rows as JSON only")
    options = parser.parse_args()
    parallel.make_cores_devices()  # as in a training of several seeds; the other parts choose their own
    rows = []
    for part in options.parts:
        begin = time.perf_counter()
        rows += [(*row[:3], f"{row[3]:.4g}", row[4]) for row in PARTS[part](options.steps)]
        if not options.rows:
            print(f"{part}: {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
    if options.rows:
        print(json.dumps([(*row[:3], float(row[3]), row[4]) for row in rows]))
        return
    print("\n".join(" | ".join(row) for row in rows))
    if options.out:
        kept = []
        if options.out.exists():
            with options.out.open(newline="") as file:
                kept = [tuple(row.values()) for row in csv.DictReader(file) if row["part"] not in options.parts]
        with options.out.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(FIELDS)
            writer.writerows(sorted(kept + rows, key=lambda row: list(PARTS).index(row[0])))


if __name__ == "__main__":
    main()
