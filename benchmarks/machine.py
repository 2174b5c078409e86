"""The machine a benchmark ran on, in one line."""

import importlib.metadata
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


def num_cores():
    """How many cores this process may use, which is how many XLA takes and PyTorch is given."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def describe():
    """Device, host cores, processor and the versions of jax and torch."""
    device = jax.devices()[0]
    return (
        f"{device.platform} ({device.device_kind}), {num_cores()} of {os.cpu_count()} host cores ({_processor()}), "
        f"jax {jax.__version__}, torch {_version('torch')}"
    )
