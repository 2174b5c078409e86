"""python -m deft_jax.train --config configs/X.py --workdir DIR [--config.field=value ...]

A value @FILE is read from a JSON file: --config.stages.betas=@runs/ifp/betas.json.
"""

from deft_jax import commands


def _load():
    from deft_jax import loop, processes

    def train(config, workdir):
        processes.join()
        return loop.run(config, workdir)

    return train


if __name__ == "__main__":
    commands.run("deft_jax.train", _load)
