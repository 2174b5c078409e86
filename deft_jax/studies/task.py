"""One task of a study on a Dask worker: it starts a process that trains and scores runs, and waits for it.

A training has a process of its own instead of a thread of the worker. JAX is then loaded after the cores are chosen,
and gives its memory back at the end; a signal reaches the main thread, where a training saves its state at it; a
training that crashes does not take the worker along; and the worker answers its scheduler whatever the training does.
"""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import dask
from distributed import Event, Status, Worker, get_client, get_worker

import deft_jax
from deft_jax.runtime.signals import TERMINATED

_POLL = 0.5  # seconds between two looks at whether the runs are still wanted


class UnfitWorker(ValueError):
    """A worker does not see the workdir of the study, or has another version of the package."""


def train_pack(
    study: Mapping[str, Any],
    workdir: str,
    names: Sequence[str],
    shares: Mapping[str, Sequence[int]] | None,
    stop: str,
    version: str,
) -> bool:
    """Trains and scores some runs of a study, from their newest checkpoints, in a process of their own.

    The process saves its state and ends when the event is set, when the scheduler no longer wants the task because its
    client has gone, and when the worker closes or dies.

    Args:
      study: as of StudyConfig.to_mapping, without a scale and without `set`.
      workdir: of the study.
      names: 'NAME/seed_S' of the runs. Those at the same step share a program.
      shares: name of a worker -> cores of its processes. None: all cores of the worker.
      stop: name of the event that ends all runs of the study.
      version: of the package where the study was begun.

    Returns:
      Whether the runs are finished; False if they were stopped.

    Raises:
      UnfitWorker: this worker does not see the workdir, or has another version of the package.
      ChildProcessError: the process failed; the message is the reason.
    """
    worker = get_worker()
    check_version(version, {worker.address: deft_jax.__version__})
    check_workdir(workdir, worker)
    event, key = Event(stop, client=get_client()), worker.get_current_task()
    if event.is_set():
        return False
    cores = list(shares[str(worker.name)]) if shares else None
    order = {"study": study, "workdir": workdir, "names": list(names), "cores": cores}
    log = pathlib.Path(workdir) / names[0] / "log.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "deft_jax.studies.run_process"]
    with log.open("a") as output, subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, env=_environment(), text=True,
        start_new_session=True,  # so that Ctrl-C reaches the command alone, which then stops the runs
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it ended at once, for which it has a reason
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL)
                    break
                if not _is_wanted(worker, key) or event.is_set():
                    break
        finally:  # also where the scheduler does not answer
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()  # at which the process saves its state and ends
        reason = " ".join(process.stdout.read().split())
    return _is_finished(process.returncode, reason)


def check_version(version: str, versions: Mapping[str, str]) -> None:
    """Raises UnfitWorker where a worker has another version of the package: its numbers would be others.

    Args:
      version: of the package where the study was begun.
      versions: address of a worker -> version of the package there.
    """
    others = [f"the worker {address} has {found}" for address, found in versions.items() if found != version]
    if others:
        raise UnfitWorker(f"all workers must have deft_jax {version}, as this command has, but {', '.join(others)}")


def check_workdir(workdir: str, dask_worker: Worker) -> None:
    """Raises UnfitWorker if this worker does not see the workdir of the study."""
    if not (pathlib.Path(workdir) / "config.json").is_file():
        raise UnfitWorker(
            f"the worker {dask_worker.address} on {socket.gethostname()} does not see the workdir {workdir}; "
            "choose a folder that all machines see under this path"
        )


def _is_wanted(worker: Worker, key: Any) -> bool:
    """Whether the worker is open and the scheduler still wants the result of a task."""
    task = worker.state.tasks.get(key)
    is_open = worker.status in (Status.running, Status.paused)
    return is_open and task is not None and task.state in ("executing", "long-running")


def _is_finished(status: int, reason: str) -> bool:
    """Whether a process that ended with this exit status has done its runs. Raises ChildProcessError if it failed."""
    if status == 0:
        return True
    if status == TERMINATED:
        return False
    if status < 0:
        reason = f"the process was ended by signal {-status}; if memory ran out, run fewer at a time"
    raise ChildProcessError(reason or f"the process ended with status {status}")


def _environment() -> dict[str, str]:
    """The environment of a training: without the limits on threads that Dask sets for its own workers."""
    limits = dask.config.get("distributed.nanny.pre-spawn-environ")
    return {name: value for name, value in os.environ.items() if str(limits.get(name)) != value}
