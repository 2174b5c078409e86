"""Stand-ins for gcloud, sbatch, docker and the like, against which the launch scripts are run.

Each stand-in writes its calls as lines of JSON. The one for gcloud keeps a TPU VM of two workers, each with a home
folder, and a bucket, and runs on each worker what is sent there, so that a whole job runs without a TPU.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import time

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"
SCRIPTS = ("tpu_vm.sh", "tpu_worker.sh", "slurm.sh", "slurm_job.sh", "local.sh", "container.sh")
# What a shell would take apart, expand or run, were it not quoted at every level.
HARD = ["--config.stages.betas=(70., 30.)", "--config.name=it's $HOME; `id` \"*\" \\ a & b", "--config.empty="]
PROGRAMS = ("gcloud", "git", "curl", "sh", "uv", "sbatch", "srun", "scontrol", "squeue", "docker", "podman", "python")
TRAINING = ["--config", "configs/x y.py", *HARD]
BUCKET = "gs://bucket/runs/x"
VM = ["deft-0", "--zone", "us-central2-b"]
HANG = 1800  # seconds that a stand-in works for unless it is stopped
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
    workdir = words[words.index("--workdir") + 1]
    folder = place(workdir) if workdir.startswith("gs://") else pathlib.Path(workdir)
    writes = folder.is_relative_to(root) and os.environ.get("WORKER", "0") == "0"
    if writes:
        done = len(list((folder / "checkpoints").glob("*00")))
        (folder / "checkpoints" / str(100 * (done + 1))).mkdir(parents=True)
        (folder / ".lock").touch()
    if os.environ.get("WAITS"):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit((writes and (folder / "saved").touch()) or 143))
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
    if words[:3] == ["storage", "rsync", "--recursive"]:
        excluded = re.compile(words[3].removeprefix("--exclude="))
        skip = lambda parent, names: [name for name in names if excluded.match(name)]
        if place(words[4]).exists():
            shutil.copytree(place(words[4]), words[5], dirs_exist_ok=True, ignore=skip)


rules = json.loads((root / "rules.json").read_text())
for number, (pattern, answers) in enumerate(rules):
    if re.search(pattern, line):
        for turn, answered in enumerate(answers):
            try:
                (root / f"used_{number}_{turn}").touch(exist_ok=False)
            except FileExistsError:  # taken by an earlier call, or by the other worker
                continue
            if name == "python" and "--workdir" in words:
                train()
            answer(*answered)
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
'''


class Stage:
    """A copy of launch/ in a folder, with stand-ins on the PATH."""

    def __init__(self, folder):
        self.folder = folder
        self.checkout = folder / "a checkout"
        shutil.copytree(LAUNCH, self.checkout / "launch")
        (folder / "bin").mkdir()
        (folder / "home").mkdir()
        (self.checkout / "configs").mkdir()
        for name in ("a.py", "b.py", "c.py", "s.py", "configs/c.py"):
            (self.checkout / name).touch()
        for name in PROGRAMS:
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
        calls = [json.loads(line) for line in lines]
        return [call for call in calls if not programs or call["program"] in programs]

    def arguments(self, *programs):
        return [call["arguments"] for call in self.calls(*programs)]


def remote(words):
    """The words of a command that gcloud is to run on every worker, as the shell there reads them."""
    assert words[:4] == ["compute", "tpus", "tpu-vm", "ssh"]
    assert "--worker=all" in words
    command = words[words.index("--command") + 1]
    split = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, text=True, check=True)
    return split.stdout.split("\0")[:-1]


def wait_for(*paths, seconds=SOON):
    deadline = time.monotonic() + seconds
    while not all(path.exists() for path in paths):
        assert time.monotonic() < deadline, f"{paths} did not come"
        time.sleep(0.02)
