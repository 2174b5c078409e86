"""A SLURM of two nodes on this machine, in a folder of its own: munged, slurmctld and two slurmd on free ports.

Nodes have eight cores and two GPUs each, whatever the machine has: nothing is bound to them. A requeued job waits a few
seconds instead of two minutes. Jobs of the partition `urgent` send those of `normal` back into the queue.
"""

import contextlib
import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import psutil
import tiny

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"
NODES = ("node2", "localhost")  # JAX's processes meet at the first by name, which needs an address
SOON = 600  # seconds within which anything awaited happens, on a slow machine too

CONFIG = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool_%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd_%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd_%n.log
FirstJobId={first_job}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
MailProg=/bin/true
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=bf_interval=1,sched_interval=2
NodeName={nodes[0]} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=8 RealMemory=64000 Gres=gpu:2
NodeName={nodes[1]} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=8 RealMemory=64000 Gres=gpu:2
PartitionName=normal Nodes=ALL Default=YES PriorityTier=1
PartitionName=urgent Nodes=ALL PriorityTier=10
"""


def why_not():
    """Why there can be no cluster here; None if there can be one."""
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch", "setpriv") if not _which(name)]
    if missing:
        return f"not installed: {', '.join(missing)} (of the packages slurm-wlm and munge)"
    return "a cluster needs root" if os.getuid() else None


def _which(name):
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


class Cluster:
    """The daemons, which end with the process that starts them, and the commands of a user."""

    def __init__(self):
        """Starts the daemons; returns when the nodes take jobs."""
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="slurm_"))  # a short path: sockets lie in it
        self._conf = self.folder / "slurm.conf"
        self.environment = tiny.ENVIRONMENT | {"SLURM_CONF": str(self._conf)}
        self._daemons = []
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self):
        folder, host = self.folder, socket.gethostname().split(".")[0]
        (folder / "munge.key").touch(mode=0o600)
        (folder / "munge.key").write_bytes(secrets.token_bytes(1024))
        (folder / "state").mkdir()
        # JAX derives a port from the number of the job: two clusters at once must not count alike.
        names = {"ports": free_ports(3), "first_job": 1 + secrets.randbelow(60_000), "nodes": NODES}
        self._conf.write_text(CONFIG.format(folder=folder, host=host, **names))
        (folder / "gres.conf").write_text("Name=gpu Count=2 File=/dev/null,/dev/zero\n")
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        flags = [f"--{flag}={folder}/munge.{end}" for flag, end in files.items()]
        self._daemon("munged", "--foreground", "--force", *flags)
        self.wait_for((folder / "munge.socket").exists)
        self._daemon("slurmctld", "-D", "-f", self._conf)
        for node in NODES:
            self._daemon("slurmd", "-D", "-f", self._conf, "-N", node)
        self.wait_for(lambda: self._states() == {"idle"})

    def _daemon(self, name, *arguments):
        with open(self.folder / f"{name}_{len(self._daemons)}.out", "w") as out:
            command = ["setpriv", "--pdeathsig", "TERM", _which(name), *map(str, arguments)]
            self._daemons.append(subprocess.Popen(command, env=self.environment, stdout=out, stderr=out))

    def _states(self):
        command = ["sinfo", "--noheader", "--format=%T"]
        return set(subprocess.run(command, env=self.environment, capture_output=True, text=True).stdout.split())

    def close(self):
        """Ends all jobs and daemons, and deletes the folder."""
        with contextlib.suppress(subprocess.SubprocessError):
            subprocess.run(["scancel", "--user=root"], env=self.environment, capture_output=True, timeout=30)
        for daemon in reversed(self._daemons):  # one after the other: slurmctld cannot end without munged
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(20)
        # What jobs have started, and those that watch over them, have the path of slurm.conf in their environment.
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("SLURM_CONF") == str(self._conf):
                    process.kill()
        for daemon in self._daemons:
            daemon.kill()
            daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def wait_for(self, condition, *jobs):
        """Waits until a condition holds.

        Args:
          condition: called until its value is true.
          *jobs: numbers of jobs, of which none may fail meanwhile.
        """
        deadline = time.monotonic() + SOON
        while not condition():
            for daemon in self._daemons:
                assert daemon.poll() is None, f"{daemon.args} ended\n{self._said()}"
            states = {job: self.show(job)["JobState"] for job in jobs}
            assert "FAILED" not in states.values(), f"{states}\n{self.output(*jobs)[-3000:]}"
            assert time.monotonic() < deadline, f"not in time; {states}\n{self.output(*jobs)[-3000:]}"
            time.sleep(0.2)

    def run(self, *words, **changes):
        """Output of a command of SLURM."""
        environment = self.environment | changes
        done = subprocess.run([*map(str, words)], env=environment, capture_output=True, text=True, timeout=SOON)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def _said(self):
        return "\n".join(f"{path.name}:\n{path.read_text()[-3000:]}" for path in sorted(self.folder.glob("*.out")))

    def submit(self, *words, output="%j", **changes):
        """Submits by launch/slurm.sh, with jobs of two cores; returns the number of the job."""
        flags = ["--cpus", 2, "--python", sys.executable]
        flags += ["--sbatch", f"--output={self.folder}/{output}.txt"]
        said = self.run("bash", LAUNCH / "slurm.sh", *flags, *words, **changes)
        return said.split()[-1]

    def show(self, job):
        """What SLURM says of a job, or of a task as in '7_1'."""
        text = self.run("scontrol", "--oneliner", "show", "job", job).splitlines()[0]
        return dict(word.split("=", 1) for word in text.split() if "=" in word)

    def output(self, *jobs):
        """What jobs have printed."""
        return "\n".join(path.read_text() for job in jobs for path in sorted(self.folder.glob(f"{job}*.txt")))

    def wait_for_end(self, job, state="COMPLETED"):
        """Waits until a job has ended in a state; returns what SLURM says of it."""
        others = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED"} - {state}

        def ended():
            found = self.show(job)["JobState"]
            assert found not in others, f"{found}\n{self.output(job)[-3000:]}"
            return found == state

        self.wait_for(ended)
        return self.show(job)


def free_ports(count):
    """So many ports at which nobody listens."""
    with contextlib.ExitStack() as stack:
        listening = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in listening:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in listening]
