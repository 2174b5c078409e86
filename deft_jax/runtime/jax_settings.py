"""Settings of JAX and NumPy that results depend on, fixed while a function of this package runs.

The caller may have set JAX to 64-bit floats, another random generator or programs that are not compiled. A checkpoint
does not record these settings: trained under one and read under another, it looks damaged, or gives other images and
scores. `pinned` therefore fixes everything that changes types, random numbers, promotion or compilation, and restores
the caller's settings afterwards. It affects the calling thread only: a function that starts threads pins them too.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

# JAX's own defaults, by the name of the context manager in `jax`.
PINNED: dict[str, Any] = {
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
# Options without a context manager: any other value is refused.
REQUIRED: dict[str, Any] = {"jax_random_seed_offset": 0}


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """Fixes the settings above within a `with` block; also a decorator, `@pinned()`.

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
            platforms = os.environ.get("JAX_PLATFORMS") or getattr(jax.config, "jax_platforms")  # noqa: B009 -- options are attributes only at run time
            raise ValueError(
                f"JAX_PLATFORMS = {platforms!r} names no platform that JAX can use here: {' '.join(str(error).split())}"
            ) from None
        yield
