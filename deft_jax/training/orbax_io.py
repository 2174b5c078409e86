"""Orbax without its noise: how checkpoints are read, and which processes take part."""

import asyncio
import contextlib
import functools
import logging
import pathlib
from collections.abc import Iterator
from typing import TypeVar

import jax
import orbax.checkpoint as ocp

Tree = TypeVar("Tree")


def this_process_only() -> ocp.options.MultiprocessingOptions:
    """Options of orbax with which this process reads and writes without the others that train with it."""
    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    index = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process_{index}"
    )


def read(folder: pathlib.Path, template: Tree) -> Tree:
    """The pytree in a folder that orbax has written, with the structure, shapes and types of `template`."""
    mute_log()
    options = this_process_only()
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=options)
    checkpointer = ocp.Checkpointer(handler, multiprocessing_options=options)
    with contextlib.closing(checkpointer), _loops_that_wait():
        return checkpointer.restore(folder, args=ocp.args.StandardRestore(template))


@functools.cache
def mute_log() -> None:
    """Drops orbax's log records from now on: it logs every error that it also raises."""
    package = str(pathlib.Path(ocp.__file__).parent)
    logging.getLogger("absl").addFilter(lambda record: not record.pathname.startswith(package))


class _LoopThatWaits(asyncio.SelectorEventLoop):
    """Waits for its tasks before it closes.

    Orbax closes its loop at the first array that cannot be read. The reads still under way would each print a
    traceback from a thread of tensorstore, some of them after the last line of the command.
    """

    def close(self) -> None:
        if not self.is_closed() and not self.is_running():
            pending = asyncio.all_tasks(self)
            if pending:
                self.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        super().close()


class _Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return _LoopThatWaits()


@contextlib.contextmanager
def _loops_that_wait() -> Iterator[None]:
    """Within it, new event loops wait before they close."""
    policy = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(_Policy())
    try:
        yield
    finally:
        asyncio.set_event_loop_policy(policy)
