"""The Dask cluster that does the runs of a study: one of processes on this machine, or one that is already there."""

import contextlib
import importlib.util
import itertools
import json
import logging
import operator
import pathlib
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any

import dask
from distributed import Client, Event, Future, KilledWorker, LocalCluster, Security, wait

import deft_jax
from deft_jax.runtime import package, parallel
from deft_jax.runtime.progress import warn
from deft_jax.runtime.signals import Signals
from deft_jax.studies import task

ATTEMPTS = 3
"""Failures after which a run is given up."""

_ADDRESS = re.compile(r"(?:tcp|tls|wss?)://[^/]+:\d+|inproc://.+")
_POLL = 0.2  # seconds between two looks at a scheduler file
_WRITTEN = 10.0  # seconds that the writing of a scheduler file may take


@contextlib.contextmanager
def local_client(jobs: int) -> Iterator[Client]:
    """A client of a cluster of `jobs` processes on this machine, which ends with the block."""
    with (
        _quiet(),
        dask.config.set({"distributed.scheduler.worker-saturation": 1.0}),  # no run waits behind another
        LocalCluster(
            n_workers=jobs,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,  # a run has a process of its own
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,  # of the workers
            preload="deft_jax.studies.worker_signals",
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
        client.as_current(),
    ):
        if importlib.util.find_spec("bokeh"):
            print(f"dashboard: {cluster.dashboard_link}", flush=True)
        yield client


def check_scheduler(scheduler: str) -> None:
    """Raises ValueError if this is neither the address of a scheduler nor the path that a scheduler file can have."""
    fits = _ADDRESS.fullmatch(scheduler) if "://" in scheduler else scheduler and not pathlib.Path(scheduler).is_dir()
    if not fits:
        raise ValueError(f"--scheduler must be tcp://HOST:PORT or the path of a scheduler file, got {scheduler!r}")


@contextlib.contextmanager
def joined_client(scheduler: str, workdir: str, resources: Mapping[str, float] | None = None) -> Iterator[Client]:
    """A client of a cluster that is already there.

    Args:
      scheduler: its address, tcp://HOST:PORT, or the path of the scheduler file, which may be yet to come.
      workdir: of the study, which all workers must see.
      resources: that the tasks will need of their workers. Default: None.

    Raises:
      UnfitWorker: one of its workers does not see the workdir, or has another version of the package.
      ValueError: it is no such address or file, or one of the workers lacks this package.
      OSError: there is no scheduler at the address.
    """
    check_scheduler(scheduler)
    is_address = "://" in scheduler or re.fullmatch(r"[^/]+:\d+", scheduler)
    address = scheduler if is_address else _address_in(pathlib.Path(scheduler))
    security = Security()
    if address.startswith(("tls:", "wss:")) and not security.get_connection_args("client").get("ssl_context"):
        raise ValueError(f"--scheduler {scheduler} needs certificates: distributed.comm.tls in Dask's configuration")
    with _quiet(), Client(address, security=security, set_as_default=False) as client, client.as_current():
        _check_workers(client, scheduler, workdir)
        _describe(client, scheduler, resources or {})
        yield client


def _check_workers(client: Client, scheduler: str, workdir: str) -> None:
    """Raises UnfitWorker or ValueError where a worker could not do the runs; warns of one that has other files."""
    try:
        # By what every version of the package has: functions of this one may be missing in others.
        versions = client.run(operator.attrgetter("__version__"), deft_jax)
        task.check_version(deft_jax.__version__, versions)
        client.run(task.check_workdir, workdir)
    except ImportError as error:
        raise ValueError(f"a worker of {scheduler} cannot load deft_jax: {error}") from None
    here = package.source_digest()
    there = client.run(package.source_digest, on_error="return")
    if others := [worker for worker, digest in there.items() if digest != here]:
        warn(
            f"{', '.join(others)}: the files of deft_jax are others than here, of the same version; runs of different "
            "code may have different numbers"
        )


def _address_in(file: pathlib.Path) -> str:
    """The address in a scheduler file; waits until it is there. Raises ValueError if it is no such file."""
    if not file.exists():
        print(f"waiting for the scheduler file {file}; an address would be tcp://HOST:PORT", flush=True)
    while not file.exists():
        time.sleep(_POLL)
    deadline = time.monotonic() + _WRITTEN
    while True:
        try:
            return str(json.loads(file.read_text())["address"])
        except (OSError, ValueError, KeyError, TypeError):
            if time.monotonic() > deadline:
                raise ValueError(f"--scheduler {file} is no scheduler file: it holds no address") from None
        time.sleep(_POLL)


def _describe(client: Client, scheduler: str, resources: Mapping[str, float]) -> None:
    """Prints what there is, and warns of what is missing."""
    threads = client.nthreads()  # of each worker
    print(f"{len(threads)} workers at {scheduler}" + ("" if threads else ": waiting for the first"), flush=True)
    info = client.scheduler_info()
    if "dashboard" in info["services"]:
        print(f"dashboard: {client.dashboard_link}", flush=True)
    for address, number in threads.items():
        if number > 1:
            warn(f"the worker {address} does {number} runs at a time on the same cores; start it with --nthreads 1")
    offers = [worker["resources"] for worker in info["workers"].values()]
    if offers and not any(all(offer.get(name, 0) >= resources[name] for name in resources) for offer in offers):
        needed = ",".join(f"{name}={amount:g}" for name, amount in resources.items())
        warn(f"no worker offers {needed} yet; the runs wait for one that is started with --resources {needed}")


def run_packs(
    client: Client,
    order: tuple[Mapping[str, Any], str],
    packs: Sequence[Sequence[str]],
    signals: Signals,
    report: Callable[[str, str | None], None],
    *,
    shares: Mapping[str, Sequence[int]] | None = None,
    resources: Mapping[str, float] | None = None,
) -> None:
    """Does runs of a study, each pack as a task of Dask, until all are finished, given up or stopped.

    A run that fails is tried again by itself, so that it stops no other of its pack; therefore failures are counted
    here and not by Dask. The death of a worker is no failure of the runs: Dask gives them to another worker.

    Args:
      client: of the cluster.
      order: the study as a mapping, and its workdir.
      packs: names of the runs that share a program.
      signals: what this process has received; at a signal the runs under way save their state, and no other begins.
      report: called with the name of a run that has ended, and with the reason if it is given up.
      shares: name of a worker -> cores of its runs. Default: None, all cores of the worker.
      resources: that each task needs of its worker, as of `dask worker --resources`. Default: None.

    Raises:
      UnfitWorker: as of `joined_client`, of a worker that came later; the other runs have saved their state.
      ConnectionError: the scheduler is gone.
    """
    stop = Event(f"stop-{uuid.uuid4().hex}", client)
    futures: dict[Future, Sequence[str]] = {}
    failures: dict[str, int] = {}
    priorities = itertools.count(0, -1)  # the runs begin in the order of the study
    refused: task.UnfitWorker | None = None

    def submit(names: Sequence[str]) -> None:
        key = f"train_pack-{uuid.uuid4().hex}"  # tasks of one prefix wait at the scheduler for the first free worker
        arguments = (*order, names, shares, stop.name, deft_jax.__version__)
        options = {"key": key, "pure": False, "priority": next(priorities), "resources": resources}
        futures[client.submit(task.train_pack, *arguments, **options)] = names

    def fail(name: str, reason: str) -> None:
        failures[name] = failures.get(name, 0) + 1
        if failures[name] >= ATTEMPTS:
            report(name, reason)
        else:
            submit([name])

    for names in packs:
        submit(names)
    is_stopping = False
    while futures:
        if not is_stopping and (refused is not None or signals.received is not None):
            is_stopping = True
            stop.set()
        try:
            ended = _ended(futures)
            if is_stopping:
                _drop_waiting(client, futures)
        except (CancelledError, OSError):
            if signals.received is not None:  # the scheduler has received it too
                return
            raise ConnectionError("the connection to the scheduler is lost; the same command goes on") from None
        for future in ended:
            names = futures.pop(future)
            error = future.exception()
            if isinstance(error, task.UnfitWorker):
                refused = error
            elif isinstance(error, KilledWorker) or (error is None and not future.result()):
                if not is_stopping:  # its workers were killed or stopped, time and again
                    submit(names)
            elif error is not None:
                for name in names:
                    fail(name, " ".join(str(error).split()) or type(error).__name__)
            else:
                for name in names:
                    report(name, None)
    if refused is not None:
        raise refused


def _ended(futures: Mapping[Future, object]) -> list[Future]:
    """The futures that have ended; waits a moment for the first."""
    with contextlib.suppress(TimeoutError):
        return list(wait(list(futures), timeout=1.0, return_when="FIRST_COMPLETED").done)
    return []


def _drop_waiting(client: Client, futures: dict[Future, Sequence[str]]) -> None:
    """Cancels the futures that no worker has begun: without a worker that fits, they would never end."""
    keys = {key for keys in client.processing().values() for key in keys}
    waiting = [future for future in futures if future.status == "pending" and future.key not in keys]
    if waiting:
        client.cancel(waiting)
    for future in waiting:
        del futures[future]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Within it, Dask logs nothing: what concerns the user is printed here."""
    loggers = {logging.getLogger(name): logging.getLogger(name).level for name in ("distributed", "distributed.client")}
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in loggers.items():
            logger.setLevel(level)


def share_cores(jobs: int) -> dict[str, list[int]]:
    """Name of each worker of a local cluster -> its cores."""
    return {str(name): share for name, share in enumerate(parallel.share_cores(jobs))}
