"""The launch scripts call the right programs with the right arguments: all of them, several processes, containers."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest
from launch_stand_ins import BUCKET, HANG, HARD, LAUNCH, SCRIPTS, SOON, TRAINING, VM, wait_for

# ---- all of them ----


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_the_head_of_the_script(stage, script):
    done = stage.run(script, "--help")
    assert done.returncode == 0
    assert f"launch/{script}" in done.stdout
    assert "--dry-run" in done.stdout
    assert "set -e" not in done.stdout
    assert not stage.calls()


@pytest.mark.parametrize(("script", "words", "fault"), [
    ("tpu_vm.sh", [], "what to do? create,"),
    ("tpu_vm.sh", ["destroy"], "unknown verb 'destroy'"),
    ("tpu_vm.sh", ["create", "--zone", "z", "--type", "v4-8"], "needs the name"),
    ("tpu_vm.sh", ["create", "n", "--type", "v4-8"], "needs --zone"),
    ("tpu_vm.sh", ["create", "n", "--zone", "z"], "needs --type"),
    ("tpu_vm.sh", ["create", "n", "--zone"], "--zone needs a value"),
    ("tpu_vm.sh", ["run", *VM, "--", "--config", "c.py"], "needs --bucket"),
    ("tpu_vm.sh", ["run", *VM, "--bucket", "b/x", "--", "--config", "c.py"], "got 'b/x'"),
    ("tpu_vm.sh", ["run", *VM, "--bucket", BUCKET], "needs -- --config FILE"),
    ("tpu_vm.sh", ["run", *VM, "--bucket", BUCKET, "--config", "c.py"], "follows --"),
    ("tpu_vm.sh", ["run", *VM, "--bucket", BUCKET, "--", "--config", "c.py", "--workdir=w"], "no --workdir"),
    ("tpu_vm.sh", ["create", *VM, "--type", "v4-8", "--hours", "0"], "at least 1, got '0'"),
    ("tpu_vm.sh", ["job", *VM, "--bucket", BUCKET, "--", "--config", "c.py"], "needs --type"),
    ("tpu_vm.sh", ["fetch", "--bucket", BUCKET], "needs --to"),
    ("tpu_worker.sh", ["run", "train"], "needs a command and a bucket"),
    ("tpu_worker.sh", [], "what to do?"),
    ("slurm.sh", [], "what to submit?"),
    ("slurm.sh", ["train", "c.py"], "needs a config and a workdir"),
    ("slurm.sh", ["--nodes", "two", "train", "c.py", "w"], "--nodes must be a whole number"),
    ("slurm.sh", ["--seeds", "4-0", "grid", "c.py", "w"], "backwards"),
    ("slurm.sh", ["--seeds", "a", "grid", "c.py", "w"], "--seeds must look like"),
    ("slurm.sh", ["--nodes", "2", "sweep", "c.py", "gs://b/w"], "needs a folder that all see"),
    ("slurm.sh", ["--frobnicate", "train", "c.py", "w"], "unknown option '--frobnicate'"),
    ("slurm.sh", ["train", "none.py", "w"], "there is no config 'none.py'"),
    ("slurm.sh", ["train", "", "w"], "there is no config ''"),
    ("slurm.sh", ["grid", "c.py,configs/c.py", "w"], "two configs of a grid are called 'c'"),
    ("slurm.sh", ["train", "c.py", ""], "the workdir is empty"),
    ("slurm.sh", ["train", "c.py", "s.py"], "s.py is no folder"),
    ("slurm_job.sh", ["train"], "needs a config and a workdir"),
    ("slurm_job.sh", ["grid", "c.py", "w"], "SLURM_ARRAY_TASK_ID"),
    ("local.sh", [], "how many processes?"),
    ("local.sh", ["0", "--config", "c.py"], "N must be a whole number of at least 1"),
    ("local.sh", ["2"], "nothing to train"),
    ("container.sh", ["train", "configs/c.py"], "needs a config and a workdir"),
    ("container.sh", ["--jax", "cuda11", "build"], "known: cpu, cuda12, cuda13, tpu"),
    ("container.sh", ["train", "elsewhere/c.py", "w"], "must lie in configs/"),
])
def test_faults_are_one_line_and_status_2(stage, script, words, fault):
    done = stage.run(script, *words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(script)
    assert fault in done.stderr
    assert not stage.calls()


DRY = {
    "create": ("tpu_vm.sh", ["create", *VM, "--type", "v4-32"], {}),
    "create spot": ("tpu_vm.sh", ["create", *VM, "--type", "v6e-8", "--spot", "--create-flag", "--labels=a=b c"], {}),
    "create queued": ("tpu_vm.sh", ["create", *VM, "--type", "v4-32", "--spot", "--queued"], {}),
    "install": ("tpu_vm.sh", ["install", *VM], {}),
    "run": ("tpu_vm.sh", ["run", *VM, "--bucket", BUCKET, "--", *TRAINING], {}),
    "stop": ("tpu_vm.sh", ["stop", *VM], {}),
    "worker install": ("tpu_worker.sh", ["install"], {}),
    "delete": ("tpu_vm.sh", ["delete", *VM], {}),
    "delete queued": ("tpu_vm.sh", ["delete", *VM, "--queued"], {}),
    "job": ("tpu_vm.sh", ["job", *VM, "--type", "v4-32", "--spot", "--bucket", BUCKET, "--", *TRAINING], {}),
    "job queued": ("tpu_vm.sh", ["job", *VM, "--type", "v4-8", "--queued", "--bucket", BUCKET, "--", *TRAINING], {}),
    "slurm train": ("slurm.sh", ["--nodes", 2, "--sbatch", "--comment=a b", "train", "c.py", "runs/a b", *HARD], {}),
    "slurm grid": ("slurm.sh", ["--seeds", "0,3-4", "--at-most", 2, "grid", "a.py,b.py", "w", *HARD], {}),
    "slurm sweep": ("slurm.sh", ["--nodes", 3, "--gpus", 0, "sweep", "s.py", "w", "--jobs", "2"], {}),
    "slurm job": ("slurm_job.sh", ["train", "c.py", "a b", *HARD], {"SLURM_JOB_NUM_NODES": "2"}),
    "local": ("local.sh", ["--port", 23456, "--gpus-each", 2, 2, *TRAINING, "--workdir", "a b"], {}),
    "container build": ("container.sh", ["--jax", "cuda13", "build"], {}),
    "container train": ("container.sh", ["train", "configs/c.py", "a b", *HARD], {}),
}


@pytest.mark.parametrize("case", DRY)
def test_a_dry_run_prints_the_calls_and_makes_none(stage, case):
    script, words, environment = DRY[case]
    done = stage.run(script, "--dry-run", *words, **environment)
    assert done.returncode == 0, done.stderr
    assert not stage.calls()

    real = stage.run(script, *words, **environment)
    assert real.returncode == 0, real.stderr
    called = stage.calls()
    (stage.folder / "vm").unlink(missing_ok=True)
    # The first look of a job finds no VM and ends with a status; the printed commands go on.
    stage.shell(done.stdout, **environment)
    again = stage.calls()
    order = (lambda calls: sorted(calls, key=str)) if script == "local.sh" else list
    assert called
    assert order(again) == order(called)


def test_shellcheck_finds_nothing():
    shellcheck = shutil.which("shellcheck") or shutil.which("shellcheck", path=pathlib.Path(sys.executable).parent)
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    scripts = sorted(str(path.relative_to(LAUNCH.parent)) for path in LAUNCH.glob("*.sh"))
    done = subprocess.run([shellcheck, "-x", *scripts], cwd=LAUNCH.parent, capture_output=True, text=True, timeout=SOON)
    assert done.returncode == 0, done.stdout


# ---- several processes on one host ----

PROCESS = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(os.environ["STAND_INS"])
number = os.environ["DEFT_JAX_PROCESS_ID"]
def stop(*_):
    if "STUBBORN" not in os.environ:
        (folder / f"saved_{number}").touch()
        sys.exit(143)
signal.signal(signal.SIGTERM, stop)
(folder / f"ready_{number}").touch()
print("here is", number, os.environ["DEFT_JAX_COORDINATOR"], os.environ["DEFT_JAX_NUM_PROCESSES"], flush=True)
if os.environ.get("FAILS") == number:
    while len(list(folder.glob("ready_*"))) < 3:
        time.sleep(0.01)
    sys.exit(7)
if "FAILS" in os.environ or "WAITS" in os.environ:
    time.sleep(HANG)
"""


@pytest.fixture
def local(stage):
    path = stage.folder / "bin" / "python"
    path.write_text(f"#!{sys.executable} -IS\nHANG = {HANG}\n{PROCESS}")
    return stage


def test_local_processes_know_their_place(local):
    done = local.run("local.sh", 3, *TRAINING)
    assert done.returncode == 0, done.stderr
    lines = sorted(done.stdout.splitlines())
    assert [line.split()[:4] for line in lines[:2]] == [["[1]", "here", "is", "1"], ["[2]", "here", "is", "2"]]
    assert lines[2].startswith("here is 0 127.0.0.1:")
    assert len({line.split(" ")[-2] for line in lines}) == 1
    assert {line.split(" ")[-1] for line in lines} == {"3"}


def test_local_ends_all_when_one_dies(local):
    begun = time.monotonic()
    done = local.run("local.sh", 3, *TRAINING, FAILS="1")
    assert done.returncode == 7
    assert time.monotonic() - begun < HANG
    assert sorted(path.name for path in local.folder.glob("saved_*")) == ["saved_0", "saved_2"]


def test_local_kills_what_does_not_end(local):
    begun = time.monotonic()
    done = local.run("local.sh", "--grace", 1, 3, *TRAINING, FAILS="2", STUBBORN="1")
    assert done.returncode == 7
    assert 1 <= time.monotonic() - begun < HANG
    assert "killing" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_local_passes_signals_on(local, number):
    words = ["bash", str(local.checkout / "launch/local.sh"), "2", *TRAINING]
    process = subprocess.Popen(
        words,
        env=local.environment | {"WAITS": "1"},
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # under nohup it would come in ignored, and stay so
    )
    wait_for(local.folder / "ready_0", local.folder / "ready_1")
    os.kill(process.pid, number)
    assert process.wait(SOON) == 143
    assert sorted(path.name for path in local.folder.glob("saved_*")) == ["saved_0", "saved_1"]


# ---- containers ----


def test_container_hands_in_devices_folders_and_words(stage):
    for words, expected in {
        ("--jax", "cuda13", "--engine", "docker"): ["--gpus", "all"],
        ("--jax", "cuda12", "--engine", "podman"): ["--device", "nvidia.com/gpu=all"],
        ("--jax", "tpu"): ["--privileged", "--network", "host"],
    }.items():
        done = stage.run("container.sh", *words, "train", "configs/c.py", "a b", *HARD)
        assert done.returncode == 0, done.stderr
        (call,) = stage.calls()
        assert call["program"] == ("podman" if "podman" in words else "docker")
        called = call["arguments"]
        at = called.index(expected[0])
        assert called[at : at + len(expected)] == expected
        assert f"{stage.checkout / 'a b'}:/runs" in called
        image = called.index(f"deft_jax:{words[1]}")
        training = ["-m", "deft_jax.train", "--config", "configs/c.py", "--workdir", "/runs", *HARD]
        assert called[image + 1 :] == training
    assert (stage.checkout / "a b").is_dir()  # not created by the engine as root


def test_all_that_the_containerfile_copies_is_in_its_context():
    text = (LAUNCH / "Containerfile").read_text()
    left_in = {line[1:] for line in (LAUNCH / "Containerfile.dockerignore").read_text().split() if line[0] == "!"}
    for line in text.splitlines():
        if line.startswith("COPY"):
            assert set(line.split()[1:-1]) <= left_in
