"""Accelerators that programs are compiled for ahead of time, and the peak rates of one chip of each.

Peak rates are those of the vendor's pages for one chip: cloud.google.com/tpu/docs, system architecture of v5e, v5p and
v6e, in 2026. Products of float32 run on a TPU as passes of bfloat16, so the peak of bfloat16 is the one that counts.
"""

import contextlib
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax

from deft_jax.runtime.messages import short_repr


class Chip(NamedTuple):
    """Peak rates and memory of a device.

    Attributes:
      flops: operations per second, bfloat16.
      bandwidth: bytes per second to the device's memory.
      links: bytes per second to other devices in one direction, all links together.
      memory: bytes.
    """

    flops: float
    bandwidth: float
    links: float
    memory: float


CHIPS: Mapping[str, Chip] = {
    "TPU v5 lite": Chip(197e12, 819e9, 200e9, 16 * 2**30),
    "TPU v5": Chip(459e12, 2_765e9, 600e9, 95 * 2**30),
    "TPU v6 lite": Chip(918e12, 1_638e9, 400e9, 32 * 2**30),
}
"""By jax.Device.device_kind."""

_LONGEST_SIDE = {"TPU v5 lite": 16, "TPU v6 lite": 16}
"""Chips along a side of the largest slice, beyond which libtpu ends the process or compiles in vain."""

_TPU_ENVIRONMENT = {
    # What libtpu asks a TPU VM for; the values do not matter where nothing runs.
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # several processes may compile at once
}


@contextlib.contextmanager
def without_variable(name: str) -> Iterator[None]:
    """Within it, the environment lacks a variable."""
    value = os.environ.pop(name, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[name] = value


def topology_devices(name: str) -> list[jax.Device]:
    """The devices of a TPU slice that is not there.

    Args:
      name: the version and the shape of the slice, as 'v5e:2x4'.

    Raises:
      ValueError: libtpu is not installed, or it has no such slice; one line.
    """
    from jax.experimental import topologies

    # libtpu takes no name for a slice of its own choice, and ends the process at a side of 0.
    if not re.fullmatch(r"[A-Za-z0-9_ ]+[=_:][1-9]\d*(x[1-9]\d*)*(_twisted|_untwisted)?", name):
        raise ValueError(f"--topology must be a version and a shape such as v5e:2x4, got {short_repr(name)}")
    for variable, value in _TPU_ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    jax.devices()  # reads XLA_FLAGS, which libtpu must not see (ahead.compile_stage)
    try:
        with without_variable("XLA_FLAGS"):
            devices: list[jax.Device] = list(topologies.get_topology_desc(platform="tpu", topology_name=name).devices)
    except Exception as error:  # libtpu reports everything as a RuntimeError, JAX as its own kinds
        if importlib.util.find_spec("libtpu") is None:
            raise ValueError("--topology needs libtpu, TPU's compiler: pip install 'deft_jax[tpu]'") from None
        reason = " ".join(str(error).split())
        raise ValueError(f"--topology must be a TPU slice such as v5e:2x4, got {short_repr(name)}: {reason}") from None
    largest = _LONGEST_SIDE.get(devices[0].device_kind)
    if largest is not None and max(map(int, re.findall(r"\d+", re.split("[=_:]", name)[1]))) > largest:
        raise ValueError(f"--topology {name} is larger than the largest slice of its kind, {largest}x{largest}")
    return devices
