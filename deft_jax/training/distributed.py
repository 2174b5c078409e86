"""Several processes that train together: each drives its local devices, process 0 writes.

Environment variables, which the scripts in launch/ set, name the processes:

    DEFT_JAX_DISTRIBUTED=auto          on TPU slices and under SLURM, where jax finds the others by itself
    DEFT_JAX_COORDINATOR=HOST:PORT     elsewhere: the address at which process 0 listens,
    DEFT_JAX_NUM_PROCESSES=N           the number of processes,
    DEFT_JAX_PROCESS_ID=I              and the index of this one, 0 to N - 1
"""

import os
from collections.abc import Mapping
from typing import Any, TypeVar

Tree = TypeVar("Tree")

# In seconds: a process counts as dead, and the others end, after so long without a heartbeat, or so long after the
# first process has ended.
_HEARTBEAT, _SHUTDOWN = 60, 60
_NAMES = ("DEFT_JAX_COORDINATOR", "DEFT_JAX_NUM_PROCESSES", "DEFT_JAX_PROCESS_ID")


def initialize() -> None:
    """Connects to the other processes, if there are any; to be called before JAX is used.

    Raises:
      ValueError: the variables are not as above, or the others cannot be reached.
    """
    arguments = _arguments(os.environ)
    if arguments is None:
        return
    import jax

    try:
        jax.distributed.initialize(
            **arguments, heartbeat_timeout_seconds=_HEARTBEAT, shutdown_timeout_seconds=_SHUTDOWN
        )
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"cannot connect to the other processes: {' '.join(str(error).split())}") from None


def _arguments(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """The arguments of jax.distributed.initialize; None for a single process."""
    mode = environment.get("DEFT_JAX_DISTRIBUTED")
    if mode not in (None, "", "auto"):
        raise ValueError(f"DEFT_JAX_DISTRIBUTED must be auto or not set, got {mode!r}")
    if mode:
        return {}
    given = {name: environment[name] for name in _NAMES if environment.get(name)}
    if not given:
        return None
    missing = [name for name in _NAMES if name not in given]
    if missing:
        raise ValueError(f"{', '.join(given)} without {', '.join(missing)}: all three are needed")
    count, index = given["DEFT_JAX_NUM_PROCESSES"], given["DEFT_JAX_PROCESS_ID"]
    if not (count.isdigit() and index.isdigit() and int(index) < int(count)):
        raise ValueError(
            f"DEFT_JAX_PROCESS_ID must be from 0 to DEFT_JAX_NUM_PROCESSES - 1, got {index!r} of {count!r}"
        )
    if int(count) == 1:
        return None
    return {
        "coordinator_address": given["DEFT_JAX_COORDINATOR"],
        "num_processes": int(count),
        "process_id": int(index),
    }


def is_first_process() -> bool:
    """Whether this process is process 0, which writes."""
    import jax

    return jax.process_index() == 0


def any_process(flag: bool) -> bool:
    """Whether `flag` is set in any process. All processes must call it at the same point."""
    import jax

    if jax.process_count() == 1:
        return flag
    import numpy as np
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))


def broadcast_from_first(tree: Tree) -> Tree:
    """The pytree of arrays of process 0. All processes must call it at the same point, with the same shapes."""
    import jax

    if jax.process_count() == 1:
        return tree
    from jax.experimental import multihost_utils

    return multihost_utils.broadcast_one_to_all(tree)
