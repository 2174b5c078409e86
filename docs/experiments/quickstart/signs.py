"""Prints a table of signs.csv: whether the latent of size has one sign everywhere, early in the second stage.

python docs/experiments/quickstart/signs.py 6 --config.stages.thresholds="(35.0,)"

The first argument is the number of seeds; the others are fields of configs/quickstart.py. The coherence of a model is
|mean of d| / mean of |d|, where d is the difference of the last latent's mean between the largest and the smallest
size, at 8 x 8 positions: 1 where it has the same sign everywhere, near 0 where half of the plane has the other one.
"""

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

STEPS = 11_000
CONFIG = pathlib.Path(__file__).parents[3] / "configs" / "quickstart.py"


def main(num_seeds, overrides):
    config = runpy.run_path(str(CONFIG))["get_config"]()
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
        params, stage = train(runner, dataclasses.replace(experiment, seed=seed))
        size = np.asarray(encode(params, factors, stage).mean)[:, -1].reshape(8, 8, 12, 2)
        difference = (size[..., 1] - size[..., 0]).mean(axis=2)
        coherence = abs(difference.mean()) / abs(difference).mean()
        writer.writerow([f"`{'`, `'.join(overrides)}`" if overrides else "-", seed, round(float(coherence), 2)])
        sys.stdout.flush()


def train(runner, experiment):
    """The parameters after STEPS steps, and their stage."""
    stages, step, state = experiment.stages, 0, runner.put(init_state(experiment))
    while step < STEPS:
        stage = stages.at(step)
        stop = min(stages.next_rotation(step), stages.end(stage), STEPS)
        state, _ = runner.run(stage, state, stop - step)
        step = stop
        if stages.rotates_at(step) and experiment.model.sizes[stage] > 1:
            state, _ = runner.rotate(stage, state)
    return runner.split(state)[0].params, stage


if __name__ == "__main__":
    with pinned():
        main(int(sys.argv[1]), sys.argv[2:])
