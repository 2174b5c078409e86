"""The launch scripts of TPU VMs, against a stand-in for gcloud with two workers and a bucket."""

import shutil
import subprocess

import pytest
from launch_stand_ins import BUCKET, SOON, TRAINING, VM, remote, wait_for


def test_creation_takes_the_runtime_of_the_type(stage):
    runtimes = {"v4-32": "tpu-ubuntu2204-base", "v5litepod-8": "v2-alpha-tpuv5-lite", "v6e-8": "v2-alpha-tpuv6e"}
    for kind, runtime in runtimes.items():
        stage.run("tpu_vm.sh", "create", *VM, "--type", kind)
        (words,) = stage.arguments()
        assert words[:5] == ["compute", "tpus", "tpu-vm", "create", "deft-0"]
        assert words[words.index("--version") + 1] == runtime
        assert "--spot" not in words


def test_queued_creation_waits_until_there_is_capacity(stage):
    states = [[0, state] for state in ("WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE")]
    stage.rules(["describe", states])
    assert stage.run("tpu_vm.sh", "create", *VM, "--type", "v4-32", "--spot", "--queued", "--poll", 0).returncode == 0
    create, *looks = stage.arguments()
    assert create[2:5] == ["queued-resources", "create", "deft-0"]
    assert {"--spot", "--node-id", "--runtime-version"} <= set(create)
    assert len(looks) == 3

    stage.rules(["describe", []], ["describe", [[0, "FAILED"]]])
    done = stage.run("tpu_vm.sh", "create", *VM, "--type", "v4-32", "--queued", "--poll", 0)
    assert done.returncode == 1
    assert "FAILED" in done.stderr


def test_install_and_run_reach_all_workers_with_the_words_whole(stage):
    stage.run("tpu_vm.sh", "install", *VM)
    scp, ssh = stage.arguments("gcloud")
    assert "--worker=all" in scp
    assert "tpu_worker.sh install" in remote(ssh)[-1]
    stage.run("tpu_vm.sh", "run", *VM, "--bucket", BUCKET + "/", "--", *TRAINING)
    (ssh,) = stage.arguments()
    assert remote(ssh)[-len(TRAINING) - 2 :] == ["train", BUCKET, *TRAINING]


def test_a_job_goes_on_after_a_preemption(stage):
    """Two workers lose their spot VM in the first run; on a new one, the second finds the checkpoint of the first."""
    stage.rules(["deft_jax.train", [[255, "", "PREEMPTED"], [255]]])
    to = stage.folder / "fetched"
    words = ["--type", "v4-16", "--spot", "--poll", 0, "--bucket", BUCKET, "--to", to, "--", *TRAINING]
    done = stage.run("tpu_vm.sh", "job", *VM, *words, CARRY_OUT="1")
    assert done.returncode == 0, done.stderr
    calls = stage.calls("gcloud", "python")
    here = [call["arguments"] for call in calls if "worker" not in call]
    verbs = [words[3] for words in here if words[2] == "tpu-vm"]
    once = ["create", "scp", "ssh", "ssh"]
    assert verbs == ["describe", *once, "describe", "describe", "delete", *once, "delete"]
    assert all("--spot" in words for words in here if "create" in words)

    trainings = [call for call in calls if call["program"] == "python"]
    assert [sorted(call["worker"] for call in two) for two in (trainings[:2], trainings[2:])] == [["0", "1"]] * 2
    for call in trainings:
        assert call["arguments"] == ["-m", "deft_jax.train", "--workdir", BUCKET, *TRAINING]
        assert call["environment"] == {"DEFT_JAX_DISTRIBUTED": "auto"}
    assert [path.name for path in to.iterdir()] == ["checkpoints"]  # and no lock
    assert sorted(path.name for path in (to / "checkpoints").iterdir()) == ["100", "200"]


def test_a_job_whose_training_is_at_fault_ends_with_its_status_and_deletes_the_vm(stage):
    stage.rules(["tpu_worker.sh run", [[3]]])
    done = stage.run("tpu_vm.sh", "job", *VM, "--type", "v4-8", "--poll", 0, "--bucket", BUCKET, "--", *TRAINING)
    assert done.returncode == 3
    verbs = [words[3] for words in stage.arguments("gcloud")]
    assert verbs.count("create") == 1
    assert verbs[-1] == "delete"
    assert not (stage.folder / "vm").exists()


def test_a_job_restarts_at_most_as_often_as_asked(stage):
    stage.rules(["tpu_worker.sh run", [[255]] * 9])
    words = ["--restarts", 2, "--keep", "--poll", 0, "--bucket", BUCKET, "--", *TRAINING]
    assert stage.run("tpu_vm.sh", "job", *VM, "--type", "v4-8", *words).returncode == 255
    calls = stage.arguments("gcloud")
    assert sum("tpu_worker.sh run" in words[-1] for words in calls) == 3
    assert sum("create" in words for words in calls) == 1  # the connection was lost, not the VM
    assert (stage.folder / "vm").exists()


@pytest.fixture
def worker(stage):
    """One worker with deft_jax installed, and a long training."""
    python = stage.checkout / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    shutil.copy(stage.folder / "bin/python", python)
    stage.environment |= {"WORKER": "0", "WAITS": "1"}
    script = str(stage.checkout / "launch/tpu_worker.sh")
    stage.words = ["bash", script, "run", "train", BUCKET, *TRAINING]
    return stage


def kept(stage):
    """Names of the run in the bucket."""
    folder = stage.folder / "bucket/bucket/runs/x"
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_a_worker_ends_at_a_signal_and_a_second_run_ends_the_first(worker):
    first = subprocess.Popen(worker.words, env=worker.environment, stdout=subprocess.DEVNULL)
    wait_for(worker.folder / "training_0")
    assert "running" in worker.run("tpu_worker.sh", "status").stdout

    # As after a lost connection: the first is still at it.
    (worker.folder / "training_0").unlink()
    second = subprocess.Popen(worker.words, env=worker.environment, stdout=subprocess.DEVNULL)
    assert first.wait(SOON) == 143
    wait_for(worker.folder / "training_0")
    assert {"saved", "checkpoints/100"} <= kept(worker)
    assert worker.run("tpu_worker.sh", "stop").returncode == 0
    assert second.wait(SOON) == 143
    assert {"checkpoints/100", "checkpoints/200"} <= kept(worker)
    assert "idle" in worker.run("tpu_worker.sh", "status").stdout


def test_a_dry_run_of_a_worker_prints_its_calls(worker):
    del worker.environment["WAITS"]
    done = worker.run("tpu_worker.sh", "--dry-run", *worker.words[2:])
    assert done.returncode == 0, done.stderr
    assert not worker.calls()
    subprocess.run(worker.words, env=worker.environment, check=True, timeout=SOON)
    called = worker.calls("gcloud", "python")
    worker.shell(done.stdout)
    assert [call["arguments"] for call in called] == worker.arguments()
    assert len(called) == 1


def test_a_job_that_is_stopped_saves_and_deletes_the_vm(stage):
    words = ["--type", "v4-16", "--poll", "0", "--bucket", BUCKET, "--", *TRAINING]
    process = subprocess.Popen(
        ["bash", str(stage.checkout / "launch/tpu_vm.sh"), "job", *VM, *words],
        env=stage.environment | {"CARRY_OUT": "1", "WAITS": "1"},
        stdout=subprocess.DEVNULL,
    )
    wait_for(stage.folder / "training_0", stage.folder / "training_1")
    process.terminate()
    assert process.wait(SOON) == 143
    assert "saved" in kept(stage)
    assert not (stage.folder / "vm").exists()
