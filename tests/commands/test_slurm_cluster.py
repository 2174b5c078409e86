"""The launch scripts of SLURM, and a study on jobs of dask-jobqueue, on a SLURM that runs on this machine."""

import json
import pathlib
import re
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
import slurm_cluster
import tiny

import deft_jax
from deft_jax.training import session
from deft_jax.training.checkpoint import Checkpoints
from deft_jax.training.metrics_log import read_records

REASON = slurm_cluster.why_not()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(REASON is not None, reason=str(REASON))]

CHANGES = {
    "data": {"name": "tiny:squares"},
    "total_steps": 600,
    "stages": {"rule": "steps", "betas": (8.0, 2.0), "steps": 300},
    "log_every": 2,
    "evaluation": {"every": 600},
    "checkpoints": {"every": 100, "keep": 2},
}
# Trainings take minutes, long enough to be interrupted, until the file FLAG is there.
SLOWLY = """
import pathlib, time
from deft_jax.training.loop import TrainingLoop

def _log(self, *arguments, _log=TrainingLoop._log):
    _log(self, *arguments)
    if not pathlib.Path(FLAG).exists():
        time.sleep(0.5)

TrainingLoop._log = _log
"""


@pytest.fixture(scope="module")
def cluster():
    cluster = slurm_cluster.Cluster()
    yield cluster
    cluster.close()


class Training:
    """A configuration whose runs are slow until `hurry`."""

    def __init__(self, folder, name="config"):
        self.config, self._flag = folder / f"{name}.py", folder / f"{name}.flag"
        tiny.write_config(self.config, **CHANGES)
        self.config.write_text(self.config.read_text() + SLOWLY.replace("FLAG", repr(str(self._flag))))

    def hurry(self):
        self._flag.touch()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The workdirs of uninterrupted trainings of two seeds, outside SLURM."""
    folder = tmp_path_factory.mktemp("whole")
    for seed in (0, 1):
        session.run(tiny.config(seed=seed, **CHANGES), folder / f"seed_{seed}", jax.devices()[:1])
    return folder


def records(workdir):
    """The records of a run without the fields that depend on the machine."""
    lines = read_records(workdir / "metrics.jsonl")
    return [{name: value for name, value in line.items() if "per_second" not in name} for line in lines]


def last_step(workdir):
    return max([line["step"] for line in records(workdir)], default=0)


def was_saved(workdir):
    """Whether a run was interrupted, and saved where it stood."""
    steps = Checkpoints(workdir / "checkpoints", 2).steps
    return bool(steps) and steps[-1] == last_step(workdir) < CHANGES["total_steps"]


def equal(workdir, whole):
    """Whether two finished runs have the same parameters and the same records, bit for bit."""
    assert tiny.fingerprint(deft_jax.load(workdir).params) == tiny.fingerprint(deft_jax.load(whole).params)
    assert records(workdir) == records(whole)
    return True


def test_a_job_saves_before_its_time_limit_and_resumes_to_the_end(cluster, whole, tmp_path):
    training, workdir = Training(tmp_path), tmp_path / "run"
    job = cluster.submit("--gpus", 0, "--time", "1:00:00", "train", training.config, workdir)
    cluster.wait_for(lambda: last_step(workdir) > 0, job)
    # SLURM counts in whole minutes: what is left now is less than the two minutes before which it sends the signal.
    minutes, seconds = cluster.show(job)["RunTime"].split(":")[1:]
    cluster.run("scontrol", "update", f"JobId={job}", f"TimeLimit={int(minutes) + 2}")
    cluster.wait_for(lambda: cluster.show(job)["Restarts"] == "1", job)
    assert was_saved(workdir)
    training.hurry()
    cluster.wait_for_end(job)
    assert "resuming at step" in cluster.output(job)
    assert equal(workdir, whole / "seed_0")
