"""The smallest run there is, shared by the tests: a data set of squares, a configuration, an experiment.

Images have 16x16 pixels, the model two groups of two latents, the run two stages of four steps. Importing this file
makes the data sets known as 'squares' and 'listed_squares' and sees to it that compiling, most of what tests do, takes
less time: JAX's compilation cache is on, in a folder that lives as long as the tests, and XLA leaves out what is slow
to compile and pays only in long runs. A process started with ENVIRONMENT, or `devices`, finds this file and does the
same; one started with PLAIN compiles as a user's does.
"""

import atexit
import copy
import functools
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

from deft_jax import data
from deft_jax.data.factors import from_index
from deft_jax.data.source import Source
from deft_jax.evaluation import figures, pictures
from deft_jax.training import build as training_build

_cache = os.environ.get("JAX_COMPILATION_CACHE_DIR")
if not _cache:
    _cache = tempfile.mkdtemp(prefix="deft_jax_tests_")
    atexit.register(shutil.rmtree, _cache, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache  # which the processes that share the tests inherit
    jax.config.update("jax_compilation_cache_dir", _cache)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)

_TESTS = pathlib.Path(__file__).parent
_KEEP_FLAGS = "DEFT_JAX_TESTS_KEEP_FLAGS"  # says to a process that imports this file to leave XLA's flags as they are
PLAIN = os.environ | {
    "PYTHONPATH": os.pathsep.join(
        map(str, (_TESTS.parent, _TESTS, *sorted(p for p in _TESTS.iterdir() if p.is_dir())))
    ),
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": _cache,
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    "PYTHONUNBUFFERED": "1",
    _KEEP_FLAGS: "1",
}
# A training step compiles in a third of the time and takes four times as long, which in a few steps goes unnoticed.
_QUICKLY = "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0"


def _compiles(flags: str) -> bool:
    """Whether this version of XLA knows the flags; with one that it does not, it ends the process."""
    command = [sys.executable, "-c", "import jax; jax.jit(lambda x: x + 1)(1)"]
    return not subprocess.run(command, env=PLAIN | {"XLA_FLAGS": flags}, capture_output=True).returncode


_flags = os.environ.get("XLA_FLAGS", "")
if _QUICKLY in _flags:  # the parent process has checked it
    PLAIN["XLA_FLAGS"] = _flags.replace(_QUICKLY, "").strip()
elif _KEEP_FLAGS not in os.environ and _compiles(f"{_flags} {_QUICKLY}"):
    _flags = os.environ["XLA_FLAGS"] = f"{_flags} {_QUICKLY}".strip()  # before anything is compiled in this one
ENVIRONMENT = PLAIN | {"XLA_FLAGS": _flags}


def devices(count: int) -> dict[str, str]:
    """ENVIRONMENT with so many devices, forced upon the CPU."""
    return ENVIRONMENT | {"XLA_FLAGS": f"{_flags} --xla_force_host_platform_device_count={count}".strip()}


def run_python(code: str, *arguments: object, environment: dict[str, str] = ENVIRONMENT, cwd=None) -> str:
    """Standard output of a program of Python in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def draw_nothing() -> None:
    """Trainings in this process write no figures: where no test looks at them, they take a third of the time."""
    figures.figures = lambda **_: {}
    figures.history_figures = lambda *_, **__: {}
    pictures.grids = lambda *_: {}
    pictures.first_images = lambda *_: ()


SIDE = 16


def _render(arrays, factors_NxF, key):
    del key
    pixel = jnp.arange(SIDE)
    side_Nx1 = arrays["sides"][factors_NxF[:, 0, None]]

    def within(place_N):
        return (pixel >= 3 * place_N[:, None]) & (pixel < 3 * place_N[:, None] + side_Nx1)

    rows, columns = within(factors_NxF[:, 2]), within(factors_NxF[:, 1])
    return (rows[:, :, None] & columns[:, None, :])[..., None].astype(jnp.float32)


def squares():
    """A white square of side 3 or 6 at one of 4x4 places."""
    arrays = {"sides": jax.device_put(np.array([3, 6], np.int32))}
    return Source(("size", "posX", "posY"), (2, 4, 4), (SIDE, SIDE, 1), "bernoulli", arrays, _render)


def listed_squares(labelled=True):
    """The first 20 squares as a list of images, with their size and posX as labels or without any."""
    whole = squares()
    factors = np.asarray(from_index(np.arange(20), whole.factor_sizes))
    images = jax.jit(whole.render)(whole.arrays, factors, jax.random.key(0))
    names, labels = (whole.factor_names[:2], factors[:, :2]) if labelled else ((), np.zeros((20, 0), np.int32))

    def render(arrays, factors_NxF, key):
        del key
        return arrays["images"][factors_NxF[:, 0]]

    shape = (SIDE, SIDE, 1)
    return Source(("image",), (20,), shape, "bernoulli", {"images": images}, render, names, labels)


data.SOURCES["squares"] = "tiny:squares"
data.SOURCES["listed_squares"] = "tiny:listed_squares"

_CONFIG = {
    "seed": 0,
    "batch_size": 8,
    "total_steps": 8,
    "data": {"name": "squares"},
    "model": {
        "latents": 4,
        "groups": 2,
        "width": 2,
        "hidden": 8,
        "decoder_width": 2,
        "decoder_hidden": 8,
        "calibrate": False,
    },
    "objective": {"name": "beta_vae"},
    "stages": {"rule": "steps", "betas": (8.0, 2.0), "steps": 4},
    "optimizer": {"learning_rate": 1e-2, "decoder_learning_rate": 1e-2, "decay": "constant", "gamma": 0.1},
    "log_every": 1,
    "evaluation": {"every": 3, "num_samples": 64, "seed": 0},
    "checkpoints": {"every": 3, "keep": 3},
}


def config(**changes):
    """The configuration as a nested dict; a mapping among `changes` replaces single fields of its section.

    'stages' is replaced whole, because its two rules have different fields.
    """
    values = copy.deepcopy(_CONFIG)
    for name, value in changes.items():
        if isinstance(value, dict) and name in values and name != "stages":
            values[name].update(value)
        else:
            values[name] = value
    return values


_ANNEALING = {
    "seed": 0,
    "data": {"name": "squares"},
    "instruments": ("spectrum", "trials", "whole"),
    "spectrum": {"num_modes": 6, "num_samples": 500, "share": 0.4},
    "trials": {
        "factors": (), "num_trials": 6, "steps": 400, "fall": "geometric", "beta_max": None, "beta_min": 1.0,
        "threshold": 0.1, "smooth": 3, "latents": 1, "hidden": 8, "batch_size": 16, "learning_rate": 1e-2,
        "points": 40, "checkpoint_every": 100,
    },
    "whole": {
        "beta_max": None, "beta_min": 1.0, "threshold": 0.1, "smooth": 3, "batch_size": 16, "total_steps": 40,
        "model": {"latents": 3, "width": 2, "hidden": 8, "decoder_width": 2, "decoder_hidden": 8},
        "optimizer": {"learning_rate": 1e-2, "decoder_learning_rate": 1e-2, "decay": "constant"},
        "log_every": 10, "evaluation": {"every": 4, "num_samples": 64, "seed": 0},
        "checkpoints": {"every": 20, "keep": 2},
    },
    "betas": {"source": "trials", "last": 1.0, "separation": 1.1, "max_stages": 2},
}  # fmt: skip


def annealing(**changes):
    """The configuration of an annealing test; a mapping among `changes` replaces single fields of its section."""
    values = copy.deepcopy(_ANNEALING)
    for name, value in changes.items():
        values[name] = values[name] | value if isinstance(value, dict) else value
    return values


def write_config(path, **changes):
    """Writes a file of a configuration, of `config(**changes)` and without figures."""
    changes = {"data": {"name": "tiny:squares"}} | changes
    path.write_text(
        "import tiny\nfrom ml_collections import ConfigDict\n\ndef get_config():\n    tiny.draw_nothing()\n"
        f"    return ConfigDict(tiny.config(**{changes!r}))\n"
    )


_build = training_build.build  # also where tests replace it


@functools.cache
def _experiment():
    return _build(config())


def experiment(**changes):
    """The experiment of `config(**changes)`; without changes always the same object, and with it its programs."""
    return _build(config(**changes)) if changes else _experiment()


def fingerprint(tree):
    """Names and bytes of all leaves: equal if and only if the trees are equal bit for bit."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in leaves}


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, flag):
        self.flag = flag

    def __reduce__(self):
        return pathlib.Path.touch, (self.flag,)
