"""Time of one training step with the convolutions as matrix products and as lax convolutions, on this machine.

    python benchmarks/convolutions.py [--repeats 5]

Two steps, each with Adam inside lax.fori_loop, on 64x64 images and batch 64:
  beta-VAE   one encoder of width 32 with 10 latents,
  DEFT-like  four encoders of width 8 with 2 latents each, before one decoder of width 32.
`matmul` and `lax` are the two methods of deft_jax.convolutions; `lax NHWC` is the same network as flax's Conv and
ConvTranspose run it. The variants take turns, so that other load on the machine meets all of them alike.
"""

import argparse
import os
import platform
import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import lax

from deft_jax import convolutions

BATCH, SIZE = 64, 64
VARIANTS = ("matmul", "lax", "lax NHWC")
# name: (encoders, their width, units of their dense layer, latents of each)
STEPS = {"beta-VAE": (1, 32, 256, 10), "DEFT-like": (4, 8, 64, 2)}


def init(key, encoders, width, units, latents, channels=1):
    """Encoders stacked on a leading axis, and one decoder; every layer is (kernel, bias)."""
    keys = iter(jax.random.split(key, 16))

    def layer(*shape, out, lead=()):
        fan_in = max(1, int(jnp.prod(jnp.array(shape[:-1]))))
        return jax.random.normal(next(keys), lead + shape) / fan_in**0.5, jnp.zeros((*lead, out))

    w = width
    widths = [channels, w, w, 2 * w, 2 * w]
    lead = (encoders,)
    encoder = [layer(4, 4, i, o, out=o, lead=lead) for i, o in zip(widths, widths[1:], strict=False)]
    encoder += [
        layer(2 * w * 16, units, out=units, lead=lead),
        layer(units, 2 * latents, out=2 * latents, lead=lead),
    ]
    decoder = [layer(encoders * latents, 256, out=256), layer(256, 1024, out=1024)]
    widths = [64, 64, 32, 32, channels]
    decoder += [layer(4, 4, o, i, out=o) for i, o in zip(widths, widths[1:], strict=False)]
    return encoder, decoder


def nhwc_down(x, kernel, bias):
    y = lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jax.nn.relu(y + bias)


def nhwc_up(x, kernel, bias, relu):
    y = lax.conv_transpose(x, kernel, (2, 2), "SAME", transpose_kernel=True) + bias
    return jax.nn.relu(y) if relu else y


def encode_nhwc(layers, x):
    *convs, (k5, b5), (k6, b6) = layers
    for kernel, bias in convs:
        x = nhwc_down(x, kernel, bias)
    h = jax.nn.relu(x.reshape(x.shape[0], -1) @ k5 + b5)
    return (h @ k6 + b6).T


def decode_nhwc(layers, z):
    (k1, b1), (k2, b2), *ups, (k, b) = layers
    h = jax.nn.relu(jax.nn.relu(z.T @ k1 + b1) @ k2 + b2).reshape(-1, 4, 4, 64)
    for kernel, bias in ups:
        h = nhwc_up(h, kernel, bias, True)
    return nhwc_up(h, k, b, False)


def encode(method, layers, x):
    *convs, (k5, b5), (k6, b6) = layers
    for kernel, bias in convs:
        x = convolutions.conv_down(x, kernel, bias, relu=True, method=method)
    h = convolutions.dense(x.reshape(-1, x.shape[-1]), k5, b5, relu=True)
    return convolutions.dense(h, k6, b6, relu=False)


def decode(method, layers, z):
    (k1, b1), (k2, b2), *ups, (k, b) = layers
    h = convolutions.dense(convolutions.dense(z, k1, b1, relu=True), k2, b2, relu=True)
    h = h.reshape(64, 4, 4, -1)
    for kernel, bias in ups:
        h = convolutions.conv_up(h, kernel, bias, relu=True, method=method)
    return convolutions.conv_up(h, k, b, relu=False, method=method)


def loss(params, x, key, variant):
    """Negative evidence lower bound with Bernoulli pixels, summed over pixels and latents, averaged over the batch."""
    encoder, decoder = params
    nhwc = variant == "lax NHWC"
    run_encoder = encode_nhwc if nhwc else partial(encode, variant)
    run_decoder = decode_nhwc if nhwc else partial(decode, variant)
    groups = encoder[0][0].shape[0]
    posteriors = [run_encoder(jax.tree.map(lambda a, g=g: a[g], encoder), x) for g in range(groups)]
    mean, logvar = (jnp.concatenate(p) for p in zip(*[jnp.split(p, 2) for p in posteriors], strict=True))
    z = mean + jnp.exp(logvar / 2) * jax.random.normal(key, mean.shape)
    kl = (jnp.exp(logvar) + mean**2 - 1 - logvar).sum() / 2
    return (optax.sigmoid_binary_cross_entropy(run_decoder(decoder, z), x).sum() + 4 * kl) / BATCH


def make_steps(variant, images_NxHxWxC, optimiser):
    """A jitted function (params, moments, number of steps) -> (params, moments)."""

    def step(i, carry):
        params, moments = carry
        key = jax.random.fold_in(jax.random.key(0), i)
        start = jax.random.randint(key, (), 0, images_NxHxWxC.shape[0] - BATCH)
        x = lax.dynamic_slice_in_dim(images_NxHxWxC, start, BATCH)
        if variant != "lax NHWC":
            x = x.transpose(3, 1, 2, 0)
        grads = jax.grad(loss)(params, x, key, variant)
        updates, moments = optimiser.update(grads, moments, params)
        return optax.apply_updates(params, updates), moments

    return jax.jit(lambda params, moments, n: lax.fori_loop(0, n, step, (params, moments)))


def measure(sizes, repeats, seconds, variants=VARIANTS):
    """Median milliseconds a step of each variant; each timing runs for about `seconds`."""
    params = init(jax.random.key(0), *sizes)
    images = (jax.random.uniform(jax.random.key(1), (512, SIZE, SIZE, 1)) < 0.1).astype(jnp.float32)
    optimiser = optax.adam(1e-4)
    moments = optimiser.init(params)
    runs, counts, times = {}, {}, {v: [] for v in variants}
    for v in variants:
        runs[v] = make_steps(v, images, optimiser)
        jax.block_until_ready(runs[v](params, moments, 1))
        start = time.perf_counter()
        jax.block_until_ready(runs[v](params, moments, 2))
        counts[v] = max(2, round(seconds * 2 / (time.perf_counter() - start)))
    for _ in range(repeats):
        for v in variants:
            start = time.perf_counter()
            jax.block_until_ready(runs[v](params, moments, counts[v]))
            times[v].append((time.perf_counter() - start) / counts[v] * 1e3)
    return {v: statistics.median(t) for v, t in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one timing")
    args = parser.parse_args()
    device = jax.devices()[0]
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, jax {jax.__version__}, {device.device_kind}\n")
    print(f"| step | {' | '.join(f'{v}, ms' for v in VARIANTS)} | lax / matmul | lax NHWC / matmul |")
    print("|---|" + "---:|" * (len(VARIANTS) + 2))
    for name, sizes in STEPS.items():
        t = measure(sizes, args.repeats, args.seconds)
        cells = [f"{t[v]:.1f}" for v in VARIANTS] + [f"{t[v] / t['matmul']:.2f}" for v in VARIANTS[1:]]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
