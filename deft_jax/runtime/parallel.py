"""Cores of this process, and functions that run in separate processes."""

import concurrent.futures
import contextlib
import functools
import multiprocessing
import os
import pathlib
import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from deft_jax.runtime import paths

Item = TypeVar("Item")
Result = TypeVar("Result")

SPAWN = multiprocessing.get_context("spawn")
"""How processes are started: a fork would inherit JAX's threads."""


def cores() -> list[int]:
    """The numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def default_jobs() -> int:
    """How many processes to run at a time: one per core; one on an accelerator, whose memory they would compete for."""
    import jax

    return len(cores()) if jax.default_backend() == "cpu" else 1


def share_cores(jobs: int) -> list[list[int]]:
    """The cores of each of `jobs` processes; a core is in several shares only if there are fewer cores than jobs."""
    available = cores()
    return [available[job::jobs] or [available[job % len(available)]] for job in range(jobs)]


def use_cores(share: Sequence[int]) -> None:
    """Restricts this process to some cores. Libraries that are loaded later start as many threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, share)


def make_cores_devices() -> None:
    """Has JAX take each core for a CPU device, unless XLA_FLAGS says how many or a device has been used already.

    Replicas that share nothing then run on all cores; a step of a small model leaves most of a second core idle.
    """
    import jax

    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    with contextlib.suppress(RuntimeError):  # the devices are made at their first use
        jax.config.update("jax_num_cpu_devices", len(cores()))


def map_in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], jobs: int
) -> Iterator[Result | ChildProcessError]:
    """function(item) of each item, in their order, each in a separate process.

    Args:
      function: a function that can be pickled.
      items: its arguments, which can be pickled too.
      jobs: how many processes run at a time; they share the cores.

    Yields:
      What the function returned, or a ChildProcessError if the process died; the others are not affected.
    """
    shares: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
    for share in share_cores(jobs):
        shares.put(share)
    with concurrent.futures.ThreadPoolExecutor(jobs) as threads:
        yield from threads.map(functools.partial(_run_in_process, function, shares), items)


def _run_in_process(
    function: Callable[[Item], Result], shares: "queue.SimpleQueue[list[int]]", item: Item
) -> Result | ChildProcessError:
    share = shares.get()
    try:
        start = share, paths.registered_copies()
        with concurrent.futures.ProcessPoolExecutor(1, SPAWN, initializer=_start_process, initargs=start) as process:
            return process.submit(function, item).result()
    except concurrent.futures.process.BrokenProcessPool:
        return ChildProcessError("the process died; if memory ran out, run fewer at a time")
    finally:
        shares.put(share)


def _start_process(share: Sequence[int], copies: Mapping[str, str]) -> None:
    """Prepares a process: its cores, and the names under which its messages show copies."""
    use_cores(share)
    for folder, address in copies.items():
        paths.register_copy(pathlib.Path(folder), address)
