"""Speed of training: steps and images a second of the configs, in every stage.

    python benchmarks/training.py [--repeats 5] [--seconds 2]

A timing is one dispatch of as many steps as take about `seconds`; drawing the batch is part of a step. Timings of all
configs and stages are interleaved, and medians are printed.
"""

import argparse
import importlib.util
import pathlib
import statistics
import time

import jax
import machine

from deft_jax import loop
from deft_jax.steps import Runner, init_state

CONFIGS = ("quickstart", "dsprites_deft", "beta_vae")


def load(name):
    """The experiment of a file in configs/."""
    path = pathlib.Path(__file__).parent.parent / "configs" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return loop.build(module.get_config())


class Case:
    """One stage of one config: its state, and the steps of a timing."""

    def __init__(self, name, experiment, runner, stage, seconds):
        self.name, self.stage, self.batch = name, stage, experiment.batch_size
        self.runner, self.state, self.times = runner, runner.put(init_state(experiment)), []
        self.runner.compile(stage, self.state)
        self.seconds(1)
        self.steps = max(1, round(seconds / self.seconds(3)))

    def seconds(self, steps):
        """Seconds a step, over `steps` steps in one dispatch."""
        start = time.perf_counter()
        self.state, metrics = self.runner.run(self.stage, self.state, steps)
        jax.block_until_ready(metrics)
        return (time.perf_counter() - start) / steps


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    args = parser.parse_args()
    print(machine.describe() + "\n")
    cases = []
    for name in CONFIGS:
        experiment = load(name)
        runner = Runner(experiment)
        cases += [Case(name, experiment, runner, stage, args.seconds) for stage in range(len(experiment.stages))]
    for _ in range(args.repeats):
        for case in cases:
            case.times.append(case.seconds(case.steps))
    print("| config | stage | batch | ms a step | steps a second | images a second |\n|---|---:|---:|---:|---:|---:|")
    for case in cases:
        step = statistics.median(case.times)
        rate = f"{1e3 * step:.1f} | {1 / step:.1f} | {case.batch / step:,.0f}"
        print(f"| {case.name} | {case.stage} | {case.batch} | {rate} |")


if __name__ == "__main__":
    main()
