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

GUIDE = pathlib.Path(__file__).parents[2] / "docs/howto/devices_and_clusters.md"

REASON = slurm_cluster.why_not()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(REASON is not None, reason=str(REASON))]

CHANGES = {
    "data": {"name": "tiny:squares"},
    "total_steps": 200,
    "stages": {"rule": "steps", "betas": (8.0, 2.0), "steps": 100},
    "log_every": 2,
    "evaluation": {"every": 200},
    "checkpoints": {"every": 50, "keep": 2},
}
# Trainings take minutes, long enough to be interrupted, until the file FLAG is there.
SLOWLY = """
import pathlib, time
from deft_jax.training.loop import TrainingLoop

def _log(self, *arguments, _log=TrainingLoop._log):
    _log(self, *arguments)
    if not pathlib.Path(FLAG).exists():
        time.sleep(1)

TrainingLoop._log = _log
"""


STUDY = """
import tiny
from ml_collections import ConfigDict

def get_config():
    tiny.draw_nothing()
    run = tiny.config(data={"name": "tiny:squares"})
    return ConfigDict({"runs": {"run": run}, "seeds": (0, 1), "metrics": ("mig",), "num_samples": 64, "pack": 1})
"""


@pytest.fixture(scope="module")
def cluster():
    cluster = slurm_cluster.Cluster()
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def whole(shared_programs, tmp_path_factory):
    """The workdir of an uninterrupted training, outside SLURM."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    session.run(tiny.config(**CHANGES), workdir, jax.devices()[:1])
    return workdir


class Training:
    """A configuration whose runs are slow until `hurry`."""

    def __init__(self, folder):
        self.config, self._flag = folder / "slow.py", folder / "hurry"
        tiny.write_config(self.config, **CHANGES)
        self.config.write_text(self.config.read_text() + SLOWLY.replace("FLAG", repr(str(self._flag))))

    def hurry(self):
        self._flag.touch()


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
    minutes = int(cluster.show(job)["RunTime"].split(":")[1])
    cluster.run("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes + 2}")
    cluster.wait_for(lambda: cluster.show(job)["Restarts"] == "1", job)
    assert was_saved(workdir)
    training.hurry()
    cluster.wait_for_end(job)
    assert "resuming at step" in cluster.output(job)
    assert equal(workdir, whole)


def test_tasks_of_an_array_go_back_into_the_queue_only_if_they_saved_and_nobody_cancelled_them(
    cluster, whole, tmp_path
):
    training, faulty = Training(tmp_path), tmp_path / "faulty.py"
    faulty.write_text("raise ValueError")
    words = ["--gpus", 0, "--seeds", "0-1", "grid", f"{training.config},{faulty}", tmp_path]
    job = cluster.submit(*words, output="%A_%a")
    tasks, workdirs = [f"{job}_{task}" for task in range(4)], [tmp_path / f"slow/seed_{seed}" for seed in (0, 1)]
    cluster.wait_for(lambda: all(last_step(workdir) > 0 for workdir in workdirs), *tasks[:2])
    cluster.run("scancel", "--signal=TERM", tasks[0])  # to the step
    cluster.run("scancel", "--signal=TERM", "--batch", tasks[1])  # to the batch script alone
    cluster.wait_for(lambda: all(cluster.show(task)["Restarts"] == "1" for task in tasks[:2]), *tasks[:2])
    assert all(map(was_saved, workdirs))

    saved = last_step(workdirs[1])
    cluster.wait_for(lambda: last_step(workdirs[1]) > saved, tasks[1])
    cluster.run("scancel", tasks[1])
    training.hurry()
    cancelled = cluster.wait_for_end(tasks[1], "CANCELLED")
    assert was_saved(workdirs[1])
    assert cancelled["Restarts"] == "1"
    assert all(cluster.wait_for_end(task, "FAILED")["Restarts"] == "0" for task in tasks[2:])
    cluster.wait_for_end(tasks[0])
    assert equal(workdirs[0], whole)


def test_a_preempted_run_on_two_nodes_comes_back_and_gets_the_numbers_of_one_process(cluster, whole, tmp_path):
    training, workdir = Training(tmp_path), tmp_path / "run"
    flags = tiny.devices(2)["XLA_FLAGS"]  # in place of the GPUs
    job = cluster.submit("--nodes", 2, "--gpus", 2, "train", training.config, workdir, XLA_FLAGS=flags)
    cluster.wait_for(lambda: last_step(workdir) > 0, job)
    urgent = ["--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap", "sleep 1"]
    cluster.run("sbatch", *urgent)
    cluster.wait_for(lambda: cluster.show(job)["Restarts"] == "1", job)
    cluster.wait_for(lambda: cluster.show(job)["JobState"] == "PENDING", job)
    assert was_saved(workdir)
    training.hurry()
    assert cluster.wait_for_end(job)["Restarts"] == "1"
    assert cluster.output(job).count("resuming at step") == 1  # process 0 alone prints
    assert len(json.loads((workdir / "results.json").read_text())["devices"]) == 4
    for got, want in zip(records(workdir), records(whole), strict=True):
        assert (got["kind"], got["step"]) == (want["kind"], want["step"])
        if "loss" in want:
            np.testing.assert_allclose(got["loss"], want["loss"], rtol=2e-3)


@pytest.fixture
def study(tmp_path):
    """The file of a study of two runs."""
    path = tmp_path / "study.py"
    path.write_text(STUDY)
    return path


def done(workdir):
    """Whether a study is complete."""
    assert all((workdir / f"run/seed_{seed}/run.json").exists() for seed in (0, 1))
    assert "±" in (workdir / "table.md").read_text()
    return True


@pytest.mark.parametrize("num_gpus", [0, 1])
def test_a_study_on_two_nodes(cluster, study, tmp_path, num_gpus):
    job = cluster.submit("--nodes", 2, "--gpus", num_gpus, "sweep", study, tmp_path / "study")
    cluster.wait_for_end(job)
    assert done(tmp_path / "study")


def test_a_study_on_jobs_of_dask_jobqueue(cluster, study, tmp_path):
    pytest.importorskip("dask_jobqueue", reason="the extra cluster has it")
    (script,) = re.findall(r"```python\n(.*?SLURMCluster.*?)```", GUIDE.read_text(), re.DOTALL)
    script = script.replace("jobs=8", "jobs=2").replace("job_cpu=4", "job_cpu=1")
    pipes = {"stdout": subprocess.PIPE, "text": True, "cwd": tmp_path}
    scheduler = subprocess.Popen([sys.executable, "-c", script], env=cluster.environment, **pipes)
    try:
        address = scheduler.stdout.readline().strip()
        command = [sys.executable, "-m", "deft_jax.sweep", "--config", study, "--workdir", tmp_path / "study"]
        cluster.run(*command, "--scheduler", address)
        assert done(tmp_path / "study")
        assert cluster.run("squeue", "--noheader", "--name=dask-worker").count("\n") == 2
        scheduler.send_signal(signal.SIGINT)
        scheduler.wait(slurm_cluster.SOON)
        cluster.wait_for(lambda: not cluster.run("squeue", "--noheader", "--name=dask-worker"))
    finally:
        scheduler.kill()
        scheduler.communicate()
