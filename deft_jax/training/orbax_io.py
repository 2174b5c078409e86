"""Reading and writing with orbax: which processes take part, and errors that are raised instead of printed."""

import contextlib
import functools
import logging
import pathlib
from typing import TypeVar

import jax
import orbax.checkpoint as ocp
import tensorstore

Tree = TypeVar("Tree")


def this_process_only() -> ocp.options.MultiprocessingOptions:
    """Options with which this process reads and writes without the others that train with it."""
    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    index = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process_{index}"
    )


def read(folder: pathlib.Path, template: Tree) -> Tree:
    """The pytree in a folder that orbax has written, with the structure, shapes and types of `template`.

    Raises:
      Exception: of any type, if the folder is damaged.
    """
    mute_log()
    _check_arrays(folder)
    options = this_process_only()
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=options)
    with contextlib.closing(ocp.Checkpointer(handler, multiprocessing_options=options)) as checkpointer:
        return checkpointer.restore(folder, args=ocp.args.StandardRestore(template))


def _check_arrays(folder: pathlib.Path) -> None:
    """Raises an exception if an array of the folder cannot be read.

    At the first such array orbax closes its event loop, and each read that is still under way prints a traceback from a
    thread. Arrays are therefore read once before, without an event loop.
    """
    store = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{folder.resolve()}/"}}
    keys = tensorstore.KvStore.open(store).result().list().result()
    names = [key.decode().removesuffix(".zarray") for key in keys if key.endswith(b"/.zarray")]
    arrays = [tensorstore.open({"driver": "zarr", "kvstore": store | {"path": name}}) for name in names]
    for content in [array.result().read() for array in arrays]:
        content.result()


@functools.cache
def mute_log() -> None:
    """Drops orbax's log records from now on: it logs every error that it also raises."""
    package = str(pathlib.Path(ocp.__file__).parent)
    logging.getLogger("absl").addFilter(lambda record: not record.pathname.startswith(package))
