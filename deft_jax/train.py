"""python -m deft_jax.train --config configs/X.py --workdir DIR [--config.field=value ...]

A value @FILE is read from a JSON file: --config.stages.betas=@runs/ifp/betas.json.
"""

from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from deft_jax.runtime import cli, parallel


def _load() -> Callable[[ConfigDict, str], dict[str, Any]]:
    from deft_jax.training import distributed, session

    def train(config: ConfigDict, workdir: str) -> dict[str, Any]:
        if config.get("num_seeds"):
            parallel.make_cores_devices()
        distributed.initialize()
        return session.run(config, workdir)

    return train


if __name__ == "__main__":
    cli.run_command("deft_jax.train", _load)
