"""What the tests of whole runs read from a workdir."""

import dataclasses
import functools

import jax
import numpy as np
import tiny

import deft_jax
from deft_jax.training.checkpoint import Checkpoints
from deft_jax.training.metrics_log import read_records
from deft_jax.training.step import state_shapes

TOTAL = tiny.config()["total_steps"]
STOP = 7  # where the run of the fixture `stopped` was interrupted: it has checkpoints of steps 4, 6 and 7
SEEDS = {"num_seeds": 2, "seed": 3}
TIMING = ("steps_per_second", "images_per_second")


def records(workdir):
    """The records of metrics.jsonl without the fields that depend on the machine."""
    lines = read_records(workdir / "metrics.jsonl")
    return [{name: value for name, value in line.items() if name not in TIMING} for line in lines]


def saved_steps(workdir):
    return Checkpoints(workdir / "checkpoints", 3).steps


@functools.cache
def _shapes():
    return state_shapes(tiny.experiment())


def restored(workdir, step=None):
    """The state of a checkpoint. Default: the newest."""
    return Checkpoints(workdir / "checkpoints", 3).restore(_shapes(), step)


def state_of(workdir, step=None):
    """The bytes of a checkpoint's state. Default: the newest."""
    return tiny.fingerprint(restored(workdir, step))


def names(workdir):
    return {path.name for path in workdir.iterdir()}


def times(workdir):
    return {path: path.stat().st_mtime_ns for path in [workdir, *workdir.rglob("*")]}


def set_to_nan(params):
    return jax.tree.map(lambda leaf: leaf * float("nan"), params)


# ---- runs on an archive of images ----

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 255, (40, 16, 16, 3), dtype=np.uint8)
ONE_STAGE = {"rule": "steps", "betas": (8.0,), "steps": 4}


def random_images(count, channels=1):
    return RNG.integers(0, 255, (count, 16, 16, channels), dtype=np.uint8)


def archive(path, images=IMAGES, **factors):
    """Writes an archive; returns its path as text."""
    np.savez(path, images=images, **factors)
    return str(path)


def archive_config(path, **changes):
    """The configuration of a run of four steps on an archive."""
    return tiny.config(data={"name": "archive", "path": path}, total_steps=4, stages=ONE_STAGE, **changes)


def parameters(workdir):
    """The bytes of the parameters that `load` returns."""
    return tiny.fingerprint(deft_jax.load(workdir).params)


def squares_with_remarks():
    """A data set with a remark."""
    return dataclasses.replace(tiny.squares(), remarks=("2 files left out",))
