"""Several processes that train together: each drives its own devices, process 0 writes.

Who takes part stands in the environment, as launch/ sets it:

    DEFT_JAX_DISTRIBUTED=auto          on TPU slices and under SLURM, where jax finds the others by itself
    DEFT_JAX_COORDINATOR=HOST:PORT     elsewhere: where process 0 listens,
    DEFT_JAX_NUM_PROCESSES=N           how many there are,
    DEFT_JAX_PROCESS_ID=I              and which this one is, 0 to N - 1
"""

import os

# Seconds without a sign of life, or without an end after the first has ended, after which a process counts as dead and
# the others end.
_HEARTBEAT = 60
_NAMES = ("DEFT_JAX_COORDINATOR", "DEFT_JAX_NUM_PROCESSES", "DEFT_JAX_PROCESS_ID")


def initialize() -> None:
    """Meets the other processes, if there are to be any; before anything of JAX is used.

    Raises ValueError in one line where the environment is not as above, or the others are not met.
    """
    arguments = _arguments(os.environ)
    if arguments is None:
        return
    import jax

    try:
        jax.distributed.initialize(
            **arguments, heartbeat_timeout_seconds=_HEARTBEAT, shutdown_timeout_seconds=_HEARTBEAT
        )
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"cannot meet the other processes: {' '.join(str(error).split())}") from None


def _arguments(environment) -> dict | None:
    """What jax.distributed.initialize is called with; None for a process that trains alone."""
    asked = environment.get("DEFT_JAX_DISTRIBUTED")
    if asked not in (None, "", "auto"):
        raise ValueError(f"DEFT_JAX_DISTRIBUTED must be auto or not set, got {asked!r}")
    if asked:
        return {}
    given = {name: environment[name] for name in _NAMES if environment.get(name)}
    if not given:
        return None
    missing = [name for name in _NAMES if name not in given]
    if missing:
        raise ValueError(f"{', '.join(given)} without {', '.join(missing)}: all three are needed")
    count, own = given["DEFT_JAX_NUM_PROCESSES"], given["DEFT_JAX_PROCESS_ID"]
    if not (count.isdigit() and own.isdigit() and int(own) < int(count)):
        raise ValueError(f"DEFT_JAX_PROCESS_ID must be from 0 to DEFT_JAX_NUM_PROCESSES - 1, got {own!r} of {count!r}")
    if int(count) == 1:
        return None
    return {
        "coordinator_address": given["DEFT_JAX_COORDINATOR"],
        "num_processes": int(count),
        "process_id": int(own),
    }


def is_first_process() -> bool:
    """Whether this process is the one that writes."""
    import jax

    return jax.process_index() == 0


def any_process(flag: bool) -> bool:
    """Whether `flag` is set in any process. All processes must ask at the same point."""
    import jax

    if jax.process_count() == 1:
        return flag
    import numpy as np
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))


def broadcast_from_first(tree):
    """The pytree of arrays that process 0 has. All processes must ask at the same point, with the same shapes."""
    import jax

    if jax.process_count() == 1:
        return tree
    from jax.experimental import multihost_utils

    return multihost_utils.broadcast_one_to_all(tree)
