"""Cores of this process, and functions that run in processes with a share of them."""

import concurrent.futures
import multiprocessing
import os
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import SpawnContext
from typing import TypeVar

T, V = TypeVar("T"), TypeVar("V")

SPAWN: SpawnContext = multiprocessing.get_context("spawn")
"""How processes are started: a fork would take over the threads of JAX."""


def cores() -> list[int]:
    """The numbers of the cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def default_jobs() -> int:
    """How many processes share the work: one per core, or one on an accelerator, whose memory they would compete for."""
    import jax

    return len(cores()) if jax.default_backend() == "cpu" else 1


def core_shares(jobs: int) -> list[list[int]]:
    """The cores of each of so many processes, as evenly as possible.

    With more processes than cores, several processes have the same core.
    """
    available = cores()
    return [available[job::jobs] or [available[job % len(available)]] for job in range(jobs)]


def keep_to_cores(share: Sequence[int]) -> None:
    """Restricts this process to some cores. Libraries that it loads later start as many threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, share)


def map_in_processes(
    function: Callable[[V], T], values: Sequence[V], jobs: int
) -> Iterator[T | ChildProcessError]:
    """Calls a function on each value in a process of its own, several at a time on a share of the cores each.

    Args:
      function: can be pickled, like the values and what it returns.
      values: arguments of the function, one per call.
      jobs: processes at a time.

    Yields:
      What the calls return, in the order of the values; a ChildProcessError for a process that died.
    """
    shares: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
    for share in core_shares(jobs):
        shares.put(share)

    def call(value: V) -> T | ChildProcessError:
        share = shares.get()
        try:
            with concurrent.futures.ProcessPoolExecutor(1, SPAWN, keep_to_cores, (share,)) as pool:
                return pool.submit(function, value).result()
        except BrokenProcessPool:
            return ChildProcessError("the process died; if memory ran out, use fewer --jobs")
        finally:
            shares.put(share)

    with concurrent.futures.ThreadPoolExecutor(jobs) as threads:
        yield from threads.map(call, values)
