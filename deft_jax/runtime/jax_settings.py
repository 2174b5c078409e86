"""The settings of JAX and NumPy that numbers depend on are those of this package, whatever the caller has set.

A session or an environment may ask JAX for 64-bit floats, another random generator or programs that are not compiled.
A checkpoint does not say so: trained under one setting and read under another, it looks damaged, or gives other images
and scores. `pinned` therefore sets, for as long as one of the public functions runs, everything that changes types,
random numbers, promotion or what is compiled. It holds in the calling thread alone: a function that hands work to
threads pins it in each of them. What the caller had set is in force again afterwards.
"""

import contextlib
import os
from collections.abc import Iterator

# Values that every run is computed with: JAX's own defaults, by the name of the context manager in `jax`.
PINNED = {
    "enable_x64": False,
    "default_prng_impl": "threefry2x32",
    "threefry_partitionable": True,
    "legacy_prng_key": "allow",
    "debug_key_reuse": False,
    "default_matmul_precision": None,
    "numpy_dtype_promotion": "standard",
    "numpy_rank_promotion": "allow",
    "disable_jit": False,
    "debug_nans": False,
    "debug_infs": False,
    "transfer_guard": "allow",
    "no_tracing": False,
    "no_execution": False,
}
# Options without a context manager: with another value than this, nothing is computed.
REQUIRED = {"jax_random_seed_offset": 0}


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """Computes what runs within it with the settings of this package; also a decorator, `@pinned()`.

    Raises:
      ValueError: JAX has no device of the platform that JAX_PLATFORMS names, or an option that cannot be pinned has
        another value than its default.
    """
    import jax
    import numpy as np

    for option, value in REQUIRED.items():
        given = getattr(jax.config, option, value)
        if given != value:
            raise ValueError(f"{option.upper()} must be {value}, its default, for a seed to fix a run; got {given}")
    with contextlib.ExitStack() as stack:
        for name, value in PINNED.items():
            stack.enter_context(getattr(jax, name)(value))
        # 'raise' would end a metric of codes that do not vary, or be taken for a training that diverged.
        stack.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        try:
            jax.default_backend()
        except RuntimeError as error:
            platforms = os.environ.get("JAX_PLATFORMS") or jax.config.jax_platforms
            raise ValueError(
                f"JAX_PLATFORMS = {platforms!r} names no platform that JAX can use here: {' '.join(str(error).split())}"
            ) from None
        yield
