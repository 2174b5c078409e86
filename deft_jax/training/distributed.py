"""Several processes that train together: each drives its local devices, process 0 writes.

Environment variables, which the scripts in launch/ set, name the processes:

    DEFT_JAX_DISTRIBUTED=auto          on TPU slices and under SLURM, where jax finds the others by itself
    DEFT_JAX_COORDINATOR=HOST:PORT     elsewhere: the address at which process 0 listens,
    DEFT_JAX_NUM_PROCESSES=N           the number of processes,
    DEFT_JAX_PROCESS_ID=I              and the index of this one, 0 to N - 1
"""

import hashlib
import json
import os
import pathlib
import socket
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

import deft_jax
from deft_jax.runtime import package

Tree = TypeVar("Tree")

# In seconds: a process counts as dead, and the others end, after so long without a heartbeat, or so long after the
# first process has ended.
_HEARTBEAT, _SHUTDOWN = 60, 60
_SEND_BUFFER = 1 << 20  # bytes
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


def connect() -> None:
    """Opens the connections between the processes, and widens their send buffers; all processes must call it.

    Gloo, by which JAX's CPU devices of several processes communicate, gives a connection a send buffer of a few
    kilobytes (seen in jaxlib 0.10). A longer message then waits for the receiver's acknowledgements, which TCP delays
    by 40 ms. Nothing is done for a single process, or on GPUs and TPUs, which do not use it.
    """
    import jax

    if jax.process_count() == 1 or jax.default_backend() != "cpu":
        return
    total = jax.pmap(lambda x: jax.lax.psum(x, "device"), axis_name="device")
    jax.block_until_ready(total(np.zeros((jax.local_device_count(), 1), np.float32)))
    widen_send_buffers()


def widen_send_buffers(folder: pathlib.Path = pathlib.Path("/proc/self/fd")) -> int:
    """Gives every TCP connection of this process a send buffer of at least 1 MiB, as far as the system allows it.

    Args:
      folder: whose entries are this process's descriptors; where there is none, nothing is done.

    Returns:
      How many buffers are larger now.

    Example:
      >>> import pathlib
      >>> widen_send_buffers(pathlib.Path("a system without it"))
      0
    """
    widened = 0
    for descriptor in [int(path.name) for path in folder.iterdir()] if folder.is_dir() else []:
        try:
            connection = socket.socket(fileno=os.dup(descriptor))
        except OSError:  # no socket, or closed since
            continue
        with connection:
            if connection.type != socket.SOCK_STREAM or connection.family not in (socket.AF_INET, socket.AF_INET6):
                continue
            before = connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
            if before < _SEND_BUFFER:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
                widened += connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) > before
    return widened


def is_first_process() -> bool:
    """Whether this process is process 0, which writes."""
    import jax

    return jax.process_index() == 0


def check_alike(config: Mapping[str, Any]) -> None:
    """Compares the code and the configurations of the processes, whose different programs would wait for ever.

    All processes must call it at the same point.

    Args:
      config: field -> its value, as JSON knows it.

    Raises:
      ValueError: they differ; all processes raise it.
    """
    import jax

    if jax.process_count() == 1:
        return
    code = f"deft_jax {deft_jax.__version__} (files {package.source_digest()}) and jax {jax.__version__}"
    if _differing({"code": code}):
        raise ValueError(f"all processes must have the same code of deft_jax and jax; this one has {code}")
    if fields := _differing(config):  # of the same fields, as the code is the same
        raise ValueError(f"the processes have different configurations, in {', '.join(fields)}; give all the same")


def _differing(values: Mapping[str, Any]) -> list[str]:
    """The names whose values are not the same in all processes; all must give the same names."""
    from jax.experimental import multihost_utils

    texts = [json.dumps([name, values[name]], sort_keys=True).encode() for name in values]
    digests_Nx32 = np.array([list(hashlib.sha256(text).digest()) for text in texts], np.uint8)
    digests_PxNx32 = np.asarray(multihost_utils.process_allgather(digests_Nx32))
    is_same_N = (digests_PxNx32 == digests_PxNx32[:1]).all(axis=(0, 2))
    return [name for name, is_same in zip(values, is_same_N, strict=True) if not is_same]


def any_process(flag: bool) -> bool:
    """Whether `flag` is set in any process. All processes must call it at the same point."""
    import jax

    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))


def broadcast_from_first(tree: Tree) -> Tree:
    """The pytree of arrays of process 0. All processes must call it at the same point, with the same shapes."""
    import jax

    if jax.process_count() == 1:
        return tree
    from jax.experimental import multihost_utils

    return multihost_utils.broadcast_one_to_all(tree)
