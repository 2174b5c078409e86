"""Seconds of each metric at the sizes of the field: dSprites' factors, 10 latents, 10,000 samples.

    python benchmarks/metrics.py [--repeats 3] [--slow]

Codes are a fixed mixture of the factors with noise, so that every metric has something to do. A metric that draws its
own images is given codes that are looked up. Below, once, the FactorVAE score with the quickstart's encoder, compiling
included, as `python -m deft_jax.evaluate` computes it, and how many images it encodes. --slow adds DCI with boosted
trees.
"""

import argparse
import importlib.util
import pathlib
import statistics
import time

import machine
import numpy as np

from deft_jax import evaluate, evaluation, experiment, factors, loop, metrics
from deft_jax.steps import init_state

SIZES, LATENTS, SAMPLES = (3, 6, 40, 32, 32), 10, 10_000


def mixture():
    """Factors [N, F] -> codes [N, D]: half of the latents follow a factor, the others mix them."""
    rng = np.random.default_rng(0)
    weights = np.concatenate([np.eye(5), rng.normal(size=(5, LATENTS - 5))], axis=1)

    def encode(factors_NxF):
        scaled = np.asarray(factors_NxF) / (np.array(SIZES) - 1)
        noise = np.sin(scaled @ rng.permuted(np.full((5, LATENTS), 1e3)))
        return (scaled @ weights + 0.1 * noise).astype(np.float32)

    return encode


def factor_vae_of_a_model():
    """The FactorVAE score with the quickstart's encoder: (images encoded, seconds)."""
    path = pathlib.Path(__file__).parent.parent / "configs" / "quickstart.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    built: experiment.Experiment = loop.build(module.get_config())
    params = init_state(built).params
    begin = time.perf_counter()
    table = evaluation.Table(built, params, len(built.model.sizes) - 1)
    # An untrained encoder's latents vary less than a collapsed one's: none may be left out, or there are no votes.
    metrics.get("factor_vae")(
        lambda drawn: table(drawn).mean, built.source.factor_sizes, variance_threshold=0, chunk=evaluate.AT_ONCE
    )
    return table.num_encoded, time.perf_counter() - begin


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--slow", action="store_true")
    args = parser.parse_args()
    print(machine.describe() + "\n")
    encode, drawn = mixture(), factors.draw(0, SAMPLES, SIZES)
    codes = encode(drawn)
    cases = {
        name: (lambda name=name: metrics.compute(name, codes, drawn))
        for name, kind in metrics.REGISTRY.items()
        if kind in ("samples", "codes") and name != "dci"
    }
    cases["dci, linear"] = lambda: metrics.compute("dci", codes, drawn, model="linear")
    for name in ("factor_vae", "beta_vae"):
        cases[f"{name}, codes looked up"] = lambda name=name: metrics.get(name)(encode, SIZES)
    if args.slow:
        cases["dci, trees"] = lambda: metrics.compute("dci", codes, drawn)
    times = {name: [] for name in cases}
    for _ in range(args.repeats):
        for name, case in cases.items():
            begin = time.perf_counter()
            case()
            times[name].append(time.perf_counter() - begin)
    print("| metric | seconds |\n|---|---:|")
    for name, found in times.items():
        print(f"| {name} | {statistics.median(found):.2f} |")
    images, seconds = factor_vae_of_a_model()
    print(f"| factor_vae of a model, {images:,} images encoded | {seconds:.1f} |")


if __name__ == "__main__":
    main()
