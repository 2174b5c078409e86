"""The launchers call what they should, word for word: run against stand-ins for gcloud, sbatch, docker and the like.

The stand-ins write each call down as a line of JSON. Those for gcloud keep a TPU VM of two workers, each with a home of
its own, and a bucket, and run on each worker what is sent there, so that a job goes through for real but for the TPU.
"""

import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tarfile
import time

import pytest

LAUNCH = pathlib.Path(__file__).parents[1] / "launch"
SCRIPTS = ("tpu_vm.sh", "tpu_worker.sh", "slurm.sh", "slurm_job.sh", "local.sh", "container.sh")
# What a shell would take apart, expand or run, were it not quoted at every level.
HARD = ["--config.stages.betas=(70., 30.)", "--config.name=it's $HOME; `id` \"*\" \\ a & b", "--config.empty="]
TRAINING = ["--config", "configs/x y.py", *HARD]
BUCKET = "gs://bucket/runs/x"
VM = ["deft-0", "--zone", "us-central2-b"]
HANG = 1800  # seconds that a stand-in works for unless it is told to end
SOON = 600  # seconds within which all else ends, on a slow machine too

STAND_IN = r'''
import json, os, pathlib, re, shutil, signal, subprocess, sys, time

root = pathlib.Path(os.environ["STAND_INS"])
name, words = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
kept = ("DEFT_JAX_", "JAX_LOCAL", "CUDA_VISIBLE")
call = {"program": name, "arguments": words, "environment": {k: v for k, v in os.environ.items() if k.startswith(kept)}}
if "WORKER" in os.environ:
    call["worker"] = os.environ["WORKER"]
with open(root / "calls.jsonl", "a") as file:
    file.write(json.dumps(call) + "\n")
line = " ".join([name, *words])
vm = root / "vm"  # holds the state of the VM, where there is one
bucket = root / "bucket"


def answer(status=0, text="", state=None):
    if state:
        vm.write_text(state)
    print(text, end="", file=sys.stderr if status else sys.stdout)
    sys.exit(status)


def place(url):
    path = bucket / url.removeprefix("gs://")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def train():
    workdir = pathlib.Path(words[words.index("--workdir") + 1])
    if workdir.is_relative_to(root):
        steps = workdir / "checkpoints"
        done = len(list(steps.glob("*00")))
        (steps / str(100 * (done + 1))).mkdir(parents=True)
        (steps / "half.orbax-checkpoint-tmp-1").mkdir()
    if os.environ.get("WAITS"):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit((workdir / "saved").touch() or 143))
        (root / f"training_{os.environ['WORKER']}").touch()
        time.sleep(HANG)


def gcloud():
    if "describe" in words:
        answer(0, vm.read_text() + "\n") if vm.exists() else answer(1, "ERROR: NOT_FOUND: no such VM\n")
    if "create" in words:
        for worker in "01":
            shutil.rmtree(root / f"worker_{worker}", ignore_errors=True)
            (root / f"worker_{worker}" / ".local/bin").mkdir(parents=True)
        answer(state="ACTIVE" if "queued-resources" in words else "READY")
    if "delete" in words:
        vm.unlink(missing_ok=True)
    if "scp" in words and os.environ.get("CARRY_OUT"):
        for worker in "01":
            shutil.copy(words[4], root / f"worker_{worker}" / words[5].split(":")[1])
    if "ssh" in words and os.environ.get("CARRY_OUT"):
        command = ["bash", "-c", words[words.index("--command") + 1]]
        homes = {worker: root / f"worker_{worker}" for worker in "01"}
        shells = [
            subprocess.Popen(command, env=os.environ | {"WORKER": worker, "HOME": str(home)}, cwd=home)
            for worker, home in homes.items()
        ]
        statuses = [shell.wait() for shell in shells]
        sys.exit(next((status for status in statuses if status), 0))
    if words[:2] == ["storage", "ls"] and not place(words[2]).exists():
        answer(1, "ERROR: (gcloud.storage.ls) One or more URLs matched no objects.\n")
    if words[:2] == ["storage", "cp"]:
        source, target = (place(word) if word.startswith("gs://") else word for word in words[2:4])
        shutil.copy(source, f"{target}.{os.getpid()}")
        os.replace(f"{target}.{os.getpid()}", target)  # whole or not at all, as in a bucket


rules = json.loads((root / "rules.json").read_text())
for number, (pattern, answers) in enumerate(rules):
    if re.search(pattern, line):
        for turn, told in enumerate(answers):
            try:
                (root / f"used_{number}_{turn}").touch(exist_ok=False)
            except FileExistsError:  # taken by an earlier call, or by the other worker
                continue
            if name == "python":
                train()
            answer(*told)
if name == "gcloud":
    gcloud()
elif name == "python" and "--workdir" in words:
    train()
elif name == "git":
    print("launch/tpu_worker.sh\0launch/dry_run.sh", end="")
elif name == "uv" and words[0] == "venv":
    pathlib.Path(".venv/bin").mkdir(parents=True, exist_ok=True)
    shutil.copy(root / "bin" / "python", ".venv/bin/python")
elif name == "sh":
    local = pathlib.Path(os.environ["HOME"]) / ".local/bin"
    local.mkdir(parents=True, exist_ok=True)
    shutil.copy(root / "bin" / "uv", local)
elif name == "curl" and words[-1].endswith("agent-worker-number"):
    print(os.environ["WORKER"], end="")
elif name == "curl" and words[-1].endswith("worker-network-endpoints"):
    print("a:b:10.0.0.1,a:c:10.0.0.2", end="")
elif name == "scontrol" and words[0] == "show":
    print("JobId=7 JobName=deft\n   JobState=RUNNING Reason=None")
elif name == "srun" and os.environ.get("CARRY_OUT"):
    sys.exit(subprocess.run(words[9:]).returncode)  # what follows the flags
'''


class Stage:
    """A copy of launch/ in a folder, with stand-ins on the PATH."""

    def __init__(self, folder):
        self.folder = folder
        self.checkout = folder / "a checkout"
        shutil.copytree(LAUNCH, self.checkout / "launch")
        (folder / "bin").mkdir()
        (folder / "home").mkdir()
        for name in ("gcloud", "git", "curl", "sh", "uv", "sbatch", "srun", "scontrol", "docker", "podman", "python"):
            path = folder / "bin" / name
            path.write_text(f"#!{sys.executable} -IS\nHANG = {HANG}\n{STAND_IN}")
            path.chmod(0o755)
        self.rules()
        self.environment = {
            "PATH": f"{folder / 'bin'}:/usr/bin:/bin",
            "HOME": str(folder / "home"),
            "STAND_INS": str(folder),
        }

    def rules(self, *rules):
        """(pattern, answers): what calls that match answer in turn, each (status, text, new state of the VM)."""
        (self.folder / "rules.json").write_text(json.dumps(rules))

    def run(self, script, *words, **environment):
        """Runs a launcher; returns what subprocess.run does."""
        return self._run(["bash", str(self.checkout / "launch" / script), *map(str, words)], environment)

    def shell(self, text, **environment):
        return self._run(["bash", "-c", text], environment)

    def _run(self, words, environment):
        environment = self.environment | environment
        return subprocess.run(words, env=environment, cwd=self.checkout, capture_output=True, text=True, timeout=SOON)

    def calls(self, *programs):
        """The calls since the last time, of some programs or all."""
        path = self.folder / "calls.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        found = [json.loads(line) for line in lines]
        return [call for call in found if not programs or call["program"] in programs]

    def arguments(self, *programs):
        return [call["arguments"] for call in self.calls(*programs)]


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


def remote(words):
    """The words of a command that gcloud is to run on every worker, as the shell there reads them."""
    assert words[:4] == ["compute", "tpus", "tpu-vm", "ssh"]
    assert "--worker=all" in words
    command = words[words.index("--command") + 1]
    split = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, text=True, check=True)
    return split.stdout.split("\0")[:-1]


# ---- all of them ----


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_the_head_of_the_script(stage, script):
    told = stage.run(script, "--help")
    assert told.returncode == 0
    assert f"launch/{script}" in told.stdout
    assert "--dry-run" in told.stdout
    assert "set -e" not in told.stdout
    assert not stage.calls()


@pytest.mark.parametrize(
    ("script", "words", "fault"),
    [
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
        ("tpu_vm.sh", ["run", *VM, "--bucket", BUCKET, "--every", "0", "--", "--config", "c"], "at least 1, got '0'"),
        ("tpu_vm.sh", ["job", *VM, "--bucket", BUCKET, "--", "--config", "c.py"], "needs --type"),
        ("tpu_vm.sh", ["fetch", "--bucket", BUCKET], "needs --to"),
        ("tpu_worker.sh", ["run", "train"], "needs a command and a bucket"),
        ("tpu_worker.sh", [], "what to do?"),
        ("slurm.sh", [], "what to submit?"),
        ("slurm.sh", ["train", "c.py"], "needs a config and a workdir"),
        ("slurm.sh", ["--nodes", "two", "train", "c.py", "w"], "--nodes must be a whole number"),
        ("slurm.sh", ["--seeds", "4-0", "grid", "c.py", "w"], "backwards"),
        ("slurm.sh", ["--seeds", "a", "grid", "c.py", "w"], "--seeds must look like"),
        ("slurm.sh", ["--frobnicate", "train", "c.py", "w"], "unknown option '--frobnicate'"),
        ("slurm_job.sh", ["train"], "needs a config and a workdir"),
        ("slurm_job.sh", ["grid", "c.py", "w"], "SLURM_ARRAY_TASK_ID"),
        ("local.sh", [], "how many processes?"),
        ("local.sh", ["0", "--config", "c.py"], "N must be a whole number of at least 1"),
        ("local.sh", ["2"], "nothing to train"),
        ("container.sh", ["train", "configs/c.py"], "needs a config and a workdir"),
        ("container.sh", ["--jax", "cuda11", "build"], "known: cpu, cuda12, cuda13, tpu"),
        ("container.sh", ["train", "elsewhere/c.py", "w"], "must lie in configs/"),
    ],
)
def test_faults_are_one_line_and_status_2(stage, script, words, fault):
    told = stage.run(script, *words)
    assert told.returncode == 2
    assert told.stdout == ""
    assert told.stderr.count("\n") == 1
    assert told.stderr.startswith(script)
    assert fault in told.stderr
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
    "slurm sweep": ("slurm.sh", ["--tasks", 3, "--gpus", 0, "sweep", "s.py", "w", "--jobs", "2"], {}),
    "slurm job": ("slurm_job.sh", ["train", "c.py", "a b", *HARD], {"SLURM_JOB_NUM_NODES": "2"}),
    "local": ("local.sh", ["--port", 23456, "--gpus-each", 2, 2, *TRAINING, "--workdir", "a b"], {}),
    "container build": ("container.sh", ["--jax", "cuda13", "build"], {}),
    "container train": ("container.sh", ["train", "configs/c.py", "a b", *HARD], {}),
}


@pytest.mark.parametrize("case", DRY)
def test_a_dry_run_prints_the_very_calls_and_makes_none(stage, case):
    script, words, environment = DRY[case]
    told = stage.run(script, "--dry-run", *words, **environment)
    assert told.returncode == 0, told.stderr
    assert not stage.calls()

    real = stage.run(script, *words, **environment)
    assert real.returncode == 0, real.stderr
    called = stage.calls()
    (stage.folder / "vm").unlink(missing_ok=True)
    # The first look of a job finds no VM and says so with a status; the printed commands go on.
    stage.shell(told.stdout, **environment)
    again = stage.calls()
    order = (lambda calls: sorted(calls, key=str)) if script == "local.sh" else list
    assert called
    assert order(again) == order(called)


def test_shellcheck_finds_nothing():
    shellcheck = shutil.which("shellcheck") or shutil.which("shellcheck", path=pathlib.Path(sys.executable).parent)
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    scripts = sorted(str(path.relative_to(LAUNCH.parent)) for path in LAUNCH.glob("*.sh"))
    told = subprocess.run([shellcheck, "-x", *scripts], cwd=LAUNCH.parent, capture_output=True, text=True, timeout=SOON)
    assert told.returncode == 0, told.stdout


# ---- TPU VMs ----


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
    told = stage.run("tpu_vm.sh", "create", *VM, "--type", "v4-32", "--queued", "--poll", 0)
    assert told.returncode == 1
    assert "FAILED" in told.stderr


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
    told = stage.run("tpu_vm.sh", "job", *VM, *words, CARRY_OUT="1")
    assert told.returncode == 0, told.stderr
    calls = stage.calls("gcloud", "python")
    here = [call["arguments"] for call in calls if "worker" not in call]
    verbs = [words[3] for words in here if words[2] == "tpu-vm"]
    once = ["create", "scp", "ssh", "ssh"]
    assert verbs == ["describe", *once, "describe", "describe", "delete", *once, "delete"]
    assert all("--spot" in words for words in here if "create" in words)

    trainings = [call for call in calls if call["program"] == "python"]
    assert [sorted(call["worker"] for call in two) for two in (trainings[:2], trainings[2:])] == [["0", "1"]] * 2
    for call in trainings:
        workdir = str(stage.folder / f"worker_{call['worker']}" / "runs/bucket/runs/x")
        assert call["arguments"] == ["-m", "deft_jax.train", "--workdir", workdir, *TRAINING]
        assert call["environment"] == {"DEFT_JAX_DISTRIBUTED": "auto"}
    copies = [call for call in calls if call["arguments"][:2] == ["storage", "cp"]]
    uploads = [call["worker"] for call in copies if call["arguments"][-1] == BUCKET + "/run.tar"]
    assert uploads == ["0", "0"]
    assert sorted(path.name for path in (to / "checkpoints").iterdir()) == ["100", "200"]


def test_a_job_whose_training_is_at_fault_ends_with_its_status_and_deletes_the_vm(stage):
    stage.rules(["tpu_worker.sh run", [[3]]])
    told = stage.run("tpu_vm.sh", "job", *VM, "--type", "v4-8", "--poll", 0, "--bucket", BUCKET, "--", *TRAINING)
    assert told.returncode == 3
    verbs = [words[3] for words in stage.arguments("gcloud")]
    assert verbs.count("create") == 1
    assert verbs[-1] == "delete"
    assert not (stage.folder / "vm").exists()


def test_a_job_restarts_no_more_often_than_told(stage):
    stage.rules(["tpu_worker.sh run", [[255]] * 9])
    words = ["--restarts", 2, "--keep", "--poll", 0, "--bucket", BUCKET, "--", *TRAINING]
    assert stage.run("tpu_vm.sh", "job", *VM, "--type", "v4-8", *words).returncode == 255
    calls = stage.arguments("gcloud")
    assert sum("tpu_worker.sh run" in words[-1] for words in calls) == 3
    assert sum("create" in words for words in calls) == 1  # the connection was lost, not the VM
    assert (stage.folder / "vm").exists()


@pytest.fixture
def worker(stage):
    """One worker with deft_jax installed, a long training, and a run in the bucket."""
    python = stage.checkout / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    shutil.copy(stage.folder / "bin/python", python)
    path = stage.folder / "bucket/bucket/runs/x/run.tar"
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("config.json"))
    stage.environment |= {"WORKER": "0", "WAITS": "1"}
    script = str(stage.checkout / "launch/tpu_worker.sh")
    stage.words = ["bash", script, "run", "--every", "1", "train", BUCKET, *TRAINING]
    stage.kept = path
    return stage


def kept(stage):
    with tarfile.open(stage.kept) as archive:
        return {name.removeprefix("./") for name in archive.getnames()} - {"."}


def test_a_worker_copies_to_the_bucket_and_ends_when_told(worker):
    first = subprocess.Popen(worker.words, env=worker.environment, stdout=subprocess.DEVNULL)
    wait_for(worker.folder / "training_0")
    while "checkpoints/100" not in kept(worker):  # an earlier copy may be of a run that has none yet
        time.sleep(0.1)
        assert first.poll() is None
    assert kept(worker) == {"config.json", "checkpoints", "checkpoints/100"}  # and nothing half written
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


def test_a_dry_run_of_a_worker_prints_the_very_calls(worker):
    del worker.environment["WAITS"]
    worker.words[worker.words.index("--every") + 1] = str(HANG)  # no copy while it trains, however long that takes
    told = worker.run("tpu_worker.sh", "--dry-run", *worker.words[2:])
    assert told.returncode == 0, told.stderr
    assert not worker.calls()
    subprocess.run(worker.words, env=worker.environment, check=True, timeout=SOON)
    called = worker.calls("gcloud", "python")
    worker.shell(told.stdout)
    assert [call["arguments"] for call in called] == worker.arguments()
    assert len(called) == 4


def test_a_job_that_is_told_to_end_saves_and_deletes_the_vm(stage):
    words = ["--type", "v4-16", "--poll", "0", "--bucket", BUCKET, "--", *TRAINING]
    process = subprocess.Popen(
        ["bash", str(stage.checkout / "launch/tpu_vm.sh"), "job", *VM, *words],
        env=stage.environment | {"CARRY_OUT": "1", "WAITS": "1"},
        stdout=subprocess.DEVNULL,
    )
    wait_for(stage.folder / "training_0", stage.folder / "training_1")
    process.terminate()
    assert process.wait(SOON) == 143
    with tarfile.open(stage.folder / "bucket/bucket/runs/x/run.tar") as archive:
        assert "./saved" in archive.getnames()
    assert not (stage.folder / "vm").exists()


def test_a_worker_does_not_begin_anew_where_the_bucket_cannot_be_read(stage):
    stage.rules(["storage ls", [[1, "ERROR: 403 forbidden\n"]]])
    told = stage.run("tpu_worker.sh", "run", "train", BUCKET, *TRAINING, WORKER="0")
    assert told.returncode != 0
    assert "403" in told.stderr
    assert not stage.calls("python")


# ---- SLURM ----


def test_submission(stage):
    stage.run("slurm.sh", "--nodes", 4, "--gpus", 8, "--time", "1-00", "train", "configs/c.py", "runs/a b", *HARD)
    (words,) = stage.arguments("sbatch")
    script = str(stage.checkout / "launch/slurm_job.sh")
    asked = {"--nodes": "4", "--gpus-per-node": "8", "--time": "1-00"}
    assert asked.items() <= dict(itertools.pairwise(words)).items()
    assert words[words.index(script) + 1 :] == ["--python", "python", "train", "configs/c.py", "runs/a b", *HARD]
    stage.run("slurm.sh", "--seeds", "0,3-4", "--at-most", 2, "grid", "a.py,b.py", "w")
    stage.run("slurm.sh", "--tasks", 3, "sweep", "s.py", "w")
    arrays = [words[words.index("--array") + 1] for words in stage.arguments("sbatch")]
    assert arrays == ["0-5%2", "0-2"]


def test_a_run_on_several_nodes_has_one_process_a_node_with_all_its_gpus(stage):
    several = {"SLURM_JOB_NUM_NODES": "2", "SLURM_GPUS_ON_NODE": "4", "SLURM_CPUS_PER_TASK": "16", "CARRY_OUT": "1"}
    assert stage.run("slurm_job.sh", "train", "c.py", "a b", *HARD, **several).returncode == 0
    srun, python = stage.calls()
    flags = dict(itertools.pairwise(srun["arguments"]))
    assert {"--nodes": "2", "--ntasks-per-node": "1", "--cpus-per-task": "16"}.items() <= flags.items()
    assert python["arguments"] == ["-m", "deft_jax.train", "--config", "c.py", "--workdir", "a b", *HARD]
    assert python["environment"] == {"DEFT_JAX_DISTRIBUTED": "auto", "JAX_LOCAL_DEVICE_IDS": "0,1,2,3"}

    stage.run("slurm_job.sh", "sweep", "c.py", "w", **several)
    stage.run("slurm_job.sh", "train", "c.py", "w", CARRY_OUT="1")
    sweep, alone = stage.calls("python")  # the workers of a sweep meet in its folder
    assert sweep["environment"] == alone["environment"] == {}


def test_the_tasks_of_a_grid_are_all_configs_with_all_seeds(stage):
    seen = []
    for task in range(6):
        words = ["--seeds", "0,3-4", "grid", "configs/a.py,configs/b.py", "w", *HARD]
        stage.run("slurm_job.sh", *words, SLURM_ARRAY_TASK_ID=str(task))
        (called,) = stage.arguments("srun")
        assert called[-len(HARD) :] == HARD
        config, workdir = (called[called.index(flag) + 1] for flag in ("--config", "--workdir"))
        seen.append((config, workdir, called[-len(HARD) - 1]))
    assert seen == [
        (f"configs/{name}.py", f"w/{name}/seed_{seed}", f"--config.seed={seed}") for name in "ab" for seed in (0, 3, 4)
    ]
    assert stage.run("slurm_job.sh", *words, SLURM_ARRAY_TASK_ID="6").returncode == 2


def test_only_a_saved_job_that_nobody_cancelled_is_requeued(stage):
    job = {"SLURM_JOB_ID": "7"}
    task = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "8", "SLURM_ARRAY_TASK_ID": "1"}
    for status, environment, cancelled, expected, requeued in [
        (143, job, False, 0, ["requeue", "7"]),
        (143, task, False, 0, ["requeue", "8_1"]),
        (143, job, True, 143, None),
        (1, job, False, 1, None),
        (0, job, False, 0, None),
    ]:
        for used in stage.folder.glob("used_*"):
            used.unlink()
        rules = [["^srun", [[status]]]]
        stage.rules(*rules, *([["scontrol show", [[0, "JobState=CANCELLED"]]]] if cancelled else []))
        told = stage.run("slurm_job.sh", "train", "c.py", "w", **environment)
        assert told.returncode == expected
        made = [words for words in stage.arguments("scontrol") if words[0] == "requeue"]
        assert made == ([requeued] if requeued else [])


def test_a_signal_to_the_batch_script_alone_reaches_the_step(stage):
    path = stage.folder / "bin" / "srun"
    path.write_text("#!/bin/bash\ntrap 'exit 143' TERM\ntouch \"$STAND_INS/ready\"\nwhile :; do sleep 0.05; done\n")
    words = ["bash", str(stage.checkout / "launch/slurm_job.sh"), "train", "c.py", "w"]
    process = subprocess.Popen(words, env=stage.environment | {"SLURM_JOB_ID": "7"}, cwd=stage.checkout)
    wait_for(stage.folder / "ready")
    process.terminate()
    assert process.wait(SOON) == 0
    assert stage.arguments("scontrol")[-1] == ["requeue", "7"]


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


def wait_for(*paths, seconds=SOON):
    deadline = time.monotonic() + seconds
    while not all(path.exists() for path in paths):
        assert time.monotonic() < deadline, f"{paths} did not come"
        time.sleep(0.02)


def test_local_processes_know_their_place(local):
    told = local.run("local.sh", 3, *TRAINING)
    assert told.returncode == 0, told.stderr
    lines = sorted(told.stdout.splitlines())
    assert [line.split()[:4] for line in lines[:2]] == [["[1]", "here", "is", "1"], ["[2]", "here", "is", "2"]]
    assert lines[2].startswith("here is 0 127.0.0.1:")
    assert len({line.split(" ")[-2] for line in lines}) == 1
    assert {line.split(" ")[-1] for line in lines} == {"3"}


def test_local_ends_all_when_one_dies(local):
    begun = time.monotonic()
    told = local.run("local.sh", 3, *TRAINING, FAILS="1")
    assert told.returncode == 7
    assert time.monotonic() - begun < HANG
    assert sorted(path.name for path in local.folder.glob("saved_*")) == ["saved_0", "saved_2"]


def test_local_kills_what_does_not_end(local):
    begun = time.monotonic()
    told = local.run("local.sh", "--grace", 1, 3, *TRAINING, FAILS="2", STUBBORN="1")
    assert told.returncode == 7
    assert 1 <= time.monotonic() - begun < HANG
    assert "killing" in told.stderr


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
        told = stage.run("container.sh", *words, "train", "configs/c.py", "a b", *HARD)
        assert told.returncode == 0, told.stderr
        (call,) = stage.calls()
        assert call["program"] == ("podman" if "podman" in words else "docker")
        called = call["arguments"]
        at = called.index(expected[0])
        assert called[at : at + len(expected)] == expected
        assert f"{stage.checkout / 'a b'}:/runs" in called
        image = called.index(f"deft_jax:{words[1]}")
        training = ["-m", "deft_jax.train", "--config", "configs/c.py", "--workdir", "/runs", *HARD]
        assert called[image + 1 :] == training
    assert (stage.checkout / "a b").is_dir()  # not made by the engine, as root


def test_containerfile_knows_the_same_extras_and_runs_as_no_root():
    text = (LAUNCH / "Containerfile").read_text()
    assert "FROM docker.io/library/python:3." in text
    assert ":latest" not in text
    assert text.index("\nUSER deft_jax") < text.index("\nENTRYPOINT")
    for extra in ("cpu", "cuda12", "cuda13", "tpu"):
        assert extra in text
    left_in = {line[1:] for line in (LAUNCH / "Containerfile.dockerignore").read_text().split() if line[0] == "!"}
    for line in text.splitlines():
        if line.startswith("COPY"):
            assert set(line.split()[1:-1]) <= left_in
