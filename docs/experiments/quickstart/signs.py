"""Prints a table of signs.csv: whether the latent of size has one sign everywhere, early in the second stage.

python docs/experiments/quickstart/signs.py 6 --config.stages.thresholds="(35.0,)"
python docs/experiments/quickstart/signs.py 6 --config=configs/dsprites_sized.py --steps=9900

The first argument is the number of seeds; --config.FIELD=VALUE changes the configuration. The coherence of a model is
|mean of d| / mean of |d|, where d is the difference of the third latent's mean between the largest and the smallest
size, at 8 x 8 positions: 1 where it has the same sign everywhere, near 0 where half of the plane has the other one.
"""

import argparse
import ast
import csv
import dataclasses
import itertools
import pathlib
import runpy
import sys

import jax
import numpy as np

from deft_jax.evaluation.encoder import Encoder
from deft_jax.runtime.jax_settings import pinned
from deft_jax.training import build
from deft_jax.training.config import parse_training
from deft_jax.training.runner import Runner
from deft_jax.training.step import init_state

CONFIG = pathlib.Path(__file__).parents[3] / "configs" / "quickstart.py"
SIZE = 2  # the latent of the second group


def main(num_seeds, config_file, steps, overrides):
    config = runpy.run_path(str(config_file))["get_config"]()
    for override in overrides:
        field, _, value = override.removeprefix("--config.").partition("=")
        config.update_from_flattened_dict({field: ast.literal_eval(value)})
    config = parse_training(config)
    experiment = build.build(config, build.load_source(config))
    runner = Runner(experiment, jax.devices()[:1])
    encode = Encoder(experiment.source, experiment.encode)
    places = range(2, 32, 4)
    # The last axis is size, so that codes can be reshaped to [position, position, shape and orientation, size].
    factors = np.array(
        [
            (shape, size, orientation, x, y)
            for x, y, shape, orientation, size in itertools.product(places, places, range(3), range(0, 40, 10), (0, 5))
        ],
        np.int32,
    )
    writer = csv.writer(sys.stdout, lineterminator="\n")
    for seed in range(num_seeds):
        params, stage = train(runner, dataclasses.replace(experiment, seed=seed), steps)
        size = np.asarray(encode(params, factors, stage).mean)[:, SIZE].reshape(8, 8, 12, 2)
        difference = (size[..., 1] - size[..., 0]).mean(axis=2)
        coherence = abs(difference.mean()) / abs(difference).mean()
        writer.writerow([f"`{'`, `'.join(overrides)}`" if overrides else "-", seed, round(float(coherence), 2)])
        sys.stdout.flush()


def train(runner, experiment, steps):
    """The parameters after so many steps, and their stage."""
    stages, step, state = experiment.stages, 0, runner.put(init_state(experiment))
    while step < steps:
        stage = stages.at(step)
        stop = min(stages.next_rotation(step), stages.end(stage), steps)
        state, _ = runner.run(stage, state, stop - step)
        step = stop
        if stages.rotates_at(step) and experiment.model.sizes[stage] > 1:
            state, _ = runner.rotate(stage, state)
    return runner.split(state)[0].params, stage


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("num_seeds", type=int)
    parser.add_argument("--config", type=pathlib.Path, default=CONFIG)
    parser.add_argument("--steps", type=int, default=11_000)
    options, changes = parser.parse_known_args()
    with pinned():
        main(options.num_seeds, options.config, options.steps, changes)
