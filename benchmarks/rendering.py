"""Speed of the two dSprites storages: drawing in the compiled step against looking up in a packed table.

    python benchmarks/rendering.py [--repeats 9] [--steps 200]

A batch is timed inside a jitted fori_loop that draws its factors from a key, as a training loop does; the
row 'neither' is that loop with blank images: what a row takes beyond it is the storage itself. Repeats of
all rows are interleaved, so that a busy machine disturbs them alike; medians are printed, and ratios of
medians.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import machine
import numpy as np

from deft_jax.data import sprites


def _blank(arrays, factors_NxF, key):
    del arrays, key
    return jnp.broadcast_to(factors_NxF[:, :1, None, None].astype(jnp.float32), (len(factors_NxF), 64, 64, 1))


def _loop(render, batch, steps):
    """Compiled (arrays, seed) -> a number that depends on every step's batch."""

    @jax.jit
    def run(arrays, seed):
        key = jax.random.key(seed)

        def step(i, total):
            drawn = jax.random.randint(jax.random.fold_in(key, i), (batch, 5), 0, np.asarray(sprites.SIZES))
            # The barrier makes the whole batch exist, as it must for a model: without it XLA could draw the
            # one pixel that is summed.
            images = jax.lax.optimization_barrier(render(arrays, drawn, key))
            return total + images[i % batch, 32, 32, 0]

        return jax.lax.fori_loop(0, steps, step, 0.0)

    return run


def _seconds(function, *args):
    start = time.perf_counter()
    jax.block_until_ready(function(*args))
    return time.perf_counter() - start


def measure(repeats, steps):
    """Seconds: (build of each storage, {batch: {row: median per step}})."""
    rows = {name: sprites.dsprites(name) for name in ("rendered", "packed")}
    # Built a second time for the clock, so that compiling is not counted; the first must be over by then.
    jax.block_until_ready([source.arrays for source in rows.values()])
    build = {name: _seconds(lambda name=name: sprites.dsprites(name).arrays) for name in rows}
    per_step = {}
    for batch in (64, 256):
        runs = {name: (_loop(source.render, batch, steps), source.arrays) for name, source in rows.items()}
        runs["neither"] = _loop(_blank, batch, steps), None
        for function, arrays in runs.values():
            _seconds(function, arrays, 0)
        times = {name: [] for name in runs}
        for seed in range(repeats):
            for name, (function, arrays) in runs.items():
                times[name].append(_seconds(function, arrays, seed) / steps)
        per_step[batch] = {name: statistics.median(values) for name, values in times.items()}
    return build, per_step


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    print(machine.describe())
    build, per_step = measure(args.repeats, args.steps)
    rows = per_step.values()
    print(f"{'storage':20} {'build, s':>9}" + "".join(f"{f'batch {batch}, ms':>16}" for batch in per_step))
    for name in ("rendered", "packed", "neither"):
        built = f"{build[name]:.2f}" if name in build else ""
        print(f"{name:20} {built:>9}" + "".join(f"{1e3 * row[name]:16.3f}" for row in rows))
    print(f"{'rendered / packed':30}" + "".join(f"{row['rendered'] / row['packed']:16.2f}" for row in rows))
    for batch, row in per_step.items():
        gain = row["rendered"] - row["packed"]
        if gain > 0:
            even = (build["packed"] - build["rendered"]) / gain
            print(f"batch {batch}: packed saves {1e3 * gain:.3f} ms a step, its build in {even:,.0f} steps")


if __name__ == "__main__":
    main()
