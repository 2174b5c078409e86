"""dSprites drawn in the compiled step, beside indexing an array and torch.from_numpy, as older libraries load a batch.

    python -m benchmarks.data.rendering [--repeats 5] [--seconds 0.5]

Ours is timed inside a jitted fori_loop that draws its factors from a key, as a training loop does. 'Neither' is that
loop with blank images: what a row takes beyond it is the storage itself. The array beside it holds one shape alone, a
third of the set (1.0 GB of uint8), from which random rows are taken, turned to float32 and handed to PyTorch.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import suite
from deft_jax.data import sprites

_CHUNK = 4096


def _blank(arrays, factors_NxF, key):
    del arrays, key
    return jnp.broadcast_to(factors_NxF[:, :1, None, None].astype(jnp.float32), (len(factors_NxF), 64, 64, 1))


def _loop(render, arrays, batch):
    """Timed of drawing a batch as often as asked, in one dispatch."""

    @jax.jit
    def program(arrays, seed, count):
        key = jax.random.key(seed)

        def step(i, total):
            drawn = jax.random.randint(jax.random.fold_in(key, i), (batch, 5), 0, np.asarray(sprites.SIZES))
            # The barrier makes the whole batch exist, as it must for a model: without it XLA could draw the
            # one pixel that is summed.
            images = jax.lax.optimization_barrier(render(arrays, drawn, key))
            return total + images[i % batch, 32, 32, 0]

        return jax.lax.fori_loop(0, count, step, 0.0)

    def run(count):
        jax.block_until_ready(program(arrays, 0, count))

    run(0)  # compiles
    return suite.Timed(run)


def part_of_the_set(num_images):
    """The first images of the set, as the published file orders them: uint8 [num_images, 64, 64], values 0 and 1."""
    source = sprites.dsprites("rendered")
    render = jax.jit(lambda arrays, drawn: source.render(arrays, drawn, None)[..., 0].astype(jnp.uint8))
    images = np.zeros((num_images, 64, 64), np.uint8)
    for start in range(0, num_images, _CHUNK):
        index = np.arange(start, start + _CHUNK) % source.num_images
        drawn = np.stack(np.unravel_index(index, sprites.SIZES), axis=1)
        found = np.asarray(render(source.arrays, drawn))
        images[start : start + _CHUNK] = found[: num_images - start]
    return images


def _looked_up(torch, images, batch):
    """Timed of a batch from an array, as a float32 tensor [B, 1, 64, 64]."""
    rng = np.random.default_rng(0)

    def run(count):
        for _ in range(count):
            rows = rng.integers(len(images), size=batch)
            torch.from_numpy(images[rows]).float().unsqueeze(1)

    return suite.Timed(run)


def _build_seconds(storage):
    start = time.perf_counter()
    jax.block_until_ready(sprites.dsprites(storage).arrays)
    return time.perf_counter() - start


def rows(options, notes):
    """Rows of each storage, in batches of 64 and 256."""
    storages = ("rendered", "packed")
    sources = {name: sprites.dsprites(name) for name in storages}
    # Built a second time for the clock, so that compiling is not counted; the first must be over by then.
    jax.block_until_ready([source.arrays for source in sources.values()])
    notes.append("seconds to build: " + ", ".join(f"{name} {_build_seconds(name):.2f}" for name in storages))
    torch, reason = suite.torch_or_reason()
    if torch is not None:
        share = 36 if options.quick else 3
        images = part_of_the_set(737_280 // share)
        megabytes = images.nbytes / 1e6
        notes.append(f"the array beside holds {len(images):,} images, {megabytes:,.0f} MB, in place of 737,280")
    found = []
    for batch in (64, 256):
        beside = reason if torch is None else _looked_up(torch, images, batch)
        cases = {f"dSprites, {name}": (source.render, source.arrays) for name, source in sources.items()}
        cases["the loop alone"] = _blank, None
        for name, case in cases.items():
            compared = ("array and from_numpy", beside) if case[1] is not None else ("",)
            found.append(suite.Row(f"{name}, batch {batch}", "batch", compared[0], _loop(*case, batch), *compared[1:]))
    return found


if __name__ == "__main__":
    suite.main("data.rendering", rows)
