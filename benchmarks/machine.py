"""The machine a benchmark ran on, in one line."""

import os
import platform

import jax


def _processor():
    """The host processor's name where the system tells it, its architecture elsewhere."""
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def describe():
    """Device, host cores, processor and the version of jax."""
    device = jax.devices()[0]
    return (
        f"{device.platform} ({device.device_kind}), {os.cpu_count()} host cores ({_processor()}), jax {jax.__version__}"
    )
