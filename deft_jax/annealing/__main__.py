"""python -m deft_jax.annealing --config configs/ifp_dsprites.py --workdir DIR [--config.field=value ...]

The annealing test: at which beta does the information of each factor freeze? See deft_jax/annealing/measure.py.
"""

from collections.abc import Callable
from typing import Any

from deft_jax.runtime import cli


def _load() -> Callable[..., dict[str, Any]]:
    from deft_jax.annealing import run

    return run


if __name__ == "__main__":
    cli.run_command("deft_jax.annealing", _load)
