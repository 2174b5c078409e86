"""On a Dask cluster, every run of a study is done once and as in one process, whoever is killed meanwhile."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import tiny
from distributed import LocalCluster

import deft_jax
from deft_jax.runtime.signals import Signals
from deft_jax.studies import worker
from deft_jax.studies.config import parse_study
from deft_jax.studies.run_record import is_finished

pytestmark = pytest.mark.slow

CONFIG = """
import tiny
from ml_collections import ConfigDict

def get_config():
    run = tiny.config(data={"name": "tiny:squares"}, total_steps=STEPS, checkpoints={"every": 100},
                      evaluation={"every": STEPS}, stages={"rule": "steps", "betas": (4.0,), "steps": STEPS})
    return ConfigDict({"runs": {"run": run}, "seeds": (0, 1), "metrics": ("mig",), "num_samples": 64,
                       "pack": 1})
"""
NAMES = ("run/seed_0", "run/seed_1")


class Sweep:
    """A command that runs a study, and what it leaves in the workdir."""

    def __init__(self, folder):
        self.workdir, self._config, self._processes = folder / "study", folder / "config.py", []
        self.write_config(steps=1_600)

    def write_config(self, steps):
        """Writes a study of one run with two seeds."""
        self._config.write_text(CONFIG.replace("STEPS", str(steps)))

    def start(self, *flags):
        """Starts the command."""
        command = [sys.executable, "-m", "deft_jax.sweep", f"--config={self._config}", f"--workdir={self.workdir}"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen([*command, *flags], env=tiny.ENVIRONMENT, **pipes)
        self._processes.append(process)
        return process

    def do_serially(self):
        """Does the study in this process."""
        names = {}
        exec(self._config.read_text(), names)
        study = parse_study(names["get_config"]())
        with Signals() as signals:
            for name in study.expand_runs():
                worker.work(study, self.workdir, [name], signals)

    def kill(self):
        """Kills what still runs."""
        for process in self._processes:
            process.kill()
            process.communicate()

    def wait_for_steps(self, process, *names):
        """Waits until runs have gone on, and beyond their checkpoints."""
        begin = {name: self._step(name) for name in names}
        while not all(self._step(name) > max(begin[name], self.checkpoint(name)) for name in names):
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)

    def _step(self, name):
        records = self.workdir / name / "run/metrics.jsonl"
        lines = records.read_text().splitlines()[:-1] if records.exists() else []  # the last may not be complete
        return json.loads(lines[-1])["step"] if lines else 0

    def stop(self, process, *others):
        """Sends SIGTERM to processes of the command, at which every run saves its state."""
        for each in (process, *others):
            each.send_signal(signal.SIGTERM)
        _, err = process.communicate()
        assert process.returncode == 143, err
        assert err.splitlines()[-1].endswith("the same command goes on"), err
        assert all(self.checkpoint(name) for name in NAMES)

    def checkpoint(self, name):
        """The step of the newest checkpoint of a run, 0 without any."""
        return max(0, worker._newest_checkpoint(self.workdir / name))

    def training_process(self, name):
        """The process that trains a run."""
        return psutil.Process(json.loads((self.workdir / name / ".lock").read_text())["process"])

    def times_resumed(self, name):
        """How often a run has gone on from a checkpoint."""
        return (self.workdir / name / "log.txt").read_text().count("resuming at step")


@pytest.fixture
def sweep(tmp_path):
    sweep = Sweep(tmp_path)
    yield sweep
    sweep.kill()


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    """What the runs are when they are done one after the other without any cluster."""
    folder = tmp_path_factory.mktemp("serial")
    sweep = Sweep(folder)
    sweep.do_serially()
    return results(sweep)


def results(sweep):
    """Parameters, scores and records of every run."""
    found = {}
    for name in NAMES:
        directory = sweep.workdir / name
        lines = map(json.loads, (directory / "run/metrics.jsonl").read_text().splitlines())
        records = [{key: value for key, value in line.items() if "per_second" not in key} for line in lines]
        record = json.loads((directory / "run.json").read_text())
        found[name] = (tiny.fingerprint(deft_jax.load(directory / "run").params), record["scores"], records)
    return found


def ends_well(process, sweep, serial):
    """Whether a command ends with every run done once, to the same results as the serial ones."""
    out, err = process.communicate()
    assert process.returncode == 0, err
    ended = [line.split()[2].rstrip(":") for line in out.splitlines() if line.startswith("run ")]
    assert sorted(ended) == sorted(NAMES), out
    assert results(sweep) == serial
    assert "±" in (sweep.workdir / "table.md").read_text()
    return True


def test_a_study_goes_on_whoever_is_stopped_or_killed(sweep, serial):
    process = sweep.start("--jobs=2")
    sweep.wait_for_steps(process, *NAMES)
    sweep.stop(process, *psutil.Process(process.pid).children(recursive=True))  # as SLURM does
    process = sweep.start("--jobs=2")
    sweep.wait_for_steps(process, *NAMES)
    trainers = [sweep.training_process(name) for name in NAMES]
    process.kill()
    for trainer in trainers:
        trainer.wait()  # the workers stop runs that nobody wants any more
    process = sweep.start("--jobs=2")
    sweep.wait_for_steps(process, *NAMES)
    os.kill(sweep.training_process(NAMES[0]).ppid(), signal.SIGKILL)  # a worker
    assert ends_well(process, sweep, serial)
    assert [sweep.times_resumed(name) for name in NAMES] == [3, 2]


def test_workers_of_a_cluster_come_and_go(sweep, serial):
    with LocalCluster(n_workers=0, processes=True, threads_per_worker=1, dashboard_address=":0") as cluster:
        process = sweep.start(f"--scheduler={cluster.scheduler_address}")
        first = start_worker(cluster)
        sweep.wait_for_steps(process, NAMES[0])
        trainer = sweep.training_process(NAMES[0])
        process.kill()
        trainer.wait()  # the worker stops a run that nobody wants any more
        process = sweep.start(f"--scheduler={cluster.scheduler_address}")
        sweep.wait_for_steps(process, NAMES[0])
        second = start_worker(cluster)
        first.terminate()
        try:
            assert ends_well(process, sweep, serial)
        finally:
            for started in (first, second):
                started.kill()
                started.wait()
    assert sweep.times_resumed(NAMES[0]) == 2


def start_worker(cluster):
    command = [sys.executable, "-m", "dask", "worker", cluster.scheduler_address, "--nthreads=1", "--no-dashboard"]
    return subprocess.Popen(command, env=tiny.ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_run_that_always_fails_is_reported_and_stops_no_other(sweep):
    sweep.write_config(steps=4)
    sweep.do_serially()
    for name in NAMES:
        (sweep.workdir / name / "run.json").unlink()
    config = sweep.workdir / NAMES[0] / "run/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"total_steps": 8}))
    process = sweep.start("--jobs=1", "--config.pack=2")
    out, err = process.communicate()
    assert process.returncode == 1, err
    reported = [line for line in out.splitlines() if line.startswith(f"{NAMES[0]}: ")]
    assert len(reported) == 1
    assert "total_steps is 8 there and 4 here" in reported[0]
    assert [is_finished(sweep.workdir / name, ["mig"]) for name in NAMES] == [False, True]
