"""Exclusive access to the workdirs of a training, each of which belongs to one configuration."""

import contextlib
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from deft_jax import data
from deft_jax.data.description import check_unchanged, same_images
from deft_jax.data.source import Source
from deft_jax.runtime import buckets
from deft_jax.runtime.config_file import check_config, save_or_check_config
from deft_jax.runtime.files import read_object
from deft_jax.runtime.locks import WorkdirLock, lock_workdir
from deft_jax.runtime.paths import is_address
from deft_jax.training import distributed, tracking
from deft_jax.training.config import RESUMABLE_CHANGES, DataConfig, TrainingConfig
from deft_jax.training.weights_file import is_exported


@contextlib.contextmanager
def working_copy(workdir: str | pathlib.Path) -> Iterator[pathlib.Path]:
    """The folder in which a training works: the workdir, or the local copy of one in a bucket (runtime/buckets.py).

    Only process 0 has that copy; the others neither read nor write, and receive a name.

    Raises:
      ValueError: the workdir cannot be opened. All processes raise it.
      CannotWrite: at the end of the block, what is left could not be uploaded.
    """
    refused: Exception | None = None
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(workdir)
        try:
            if distributed.is_first_process() or not is_address(workdir):
                folder = stack.enter_context(buckets.working_copy(workdir, "--workdir"))
        except (ValueError, OSError) as error:
            refused = error
        if distributed.any_process(refused is not None):
            raise refused or ValueError("process 0 cannot open the workdir")
        yield folder


@contextlib.contextmanager
def exclusive_workdirs(runs: Mapping[pathlib.Path, TrainingConfig], source: Source) -> Iterator[None]:
    """Within it, only process 0 of this training writes to the workdirs, each of which has its run's configuration.

    Args:
      runs: workdir -> configuration.
      source: the data set of all runs.

    Raises:
      ValueError: a workdir is of another run, is in use, or cannot be written to, or the tracker lacks something. All
        processes raise it, and no config.json has changed.
      CannotWrite: the disk is full.
    """
    refused: Exception | None = None
    locks: list[WorkdirLock] = []
    try:
        if distributed.is_first_process():
            free = {}
            for name in {config.tracking for config in runs.values()}:
                tracking.check(name, list(runs))
            for workdir, config in runs.items():
                if is_exported(workdir):
                    raise ValueError(f"{workdir} holds an exported model, which no training can go on from; choose "
                                     "another workdir")
                check_unchanged(source, workdir)
                read_object(workdir / "results.json")  # damaged results are refused before the first step
                free[workdir] = (*RESUMABLE_CHANGES, *moved_paths(workdir, config.data, source))
                check_config(workdir, config.to_mapping(), free[workdir])
            for workdir in runs:
                locks.append(lock_workdir(workdir))
            for workdir, config in runs.items():
                save_or_check_config(workdir, config.to_mapping(), free[workdir])
    except (ValueError, OSError) as error:
        refused = error
    try:
        if distributed.any_process(refused is not None):
            raise refused or ValueError("process 0 has refused the workdir")
        yield
    finally:
        for lock in reversed(locks):
            lock.release()


def moved_paths(workdir: pathlib.Path, config: DataConfig, source: Source) -> list[str]:
    """Fields 'data.OPTION' in which a configuration may differ from that of its workdir, because files were moved.

    If the digest of the images is the same, these are all paths; otherwise those that name the same file.
    """
    names = data.path_options(config.name)
    if not same_images(source, workdir):
        section = (read_object(workdir / "config.json") or {}).get("data")
        saved: Mapping[str, Any] = {}
        if isinstance(section, Mapping) and section.get("name") == config.name:
            saved = data.with_absolute_paths(config.name, section)
        names = tuple(name for name in names if name in saved and saved[name] == config.options.get(name))
    return [f"data.{name}" for name in names]
