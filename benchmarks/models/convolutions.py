"""Time of one training step with convolutions as matrix products and as lax convolutions, on this machine.

    python -m benchmarks.models.convolutions [--repeats 5] [--seconds 0.5]

Two steps, each with Adam inside lax.fori_loop, on 64x64 images and batch 64:
  beta-VAE   one encoder of width 32 with 10 latents,
  DEFT-like  four encoders of width 8 with 2 latents each, before one decoder of width 32.
`matmul` and `lax` are the two methods of deft_jax.models.convolutions. They take turns, so that other load on the
machine meets both alike.
"""

import math
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from benchmarks import suite
from deft_jax.models.convolutions import METHODS, conv_down, conv_up, dense

BATCH, SIZE = 64, 64
# name: (encoders, their width, units of their dense layer, latents of each)
STEPS = {"beta-VAE": (1, 32, 256, 10), "DEFT-like": (4, 8, 64, 2)}


def init(encoders, width, units, latents, channels=1):
    """Encoders stacked on a leading axis, and one decoder; every layer is (kernel, bias)."""
    random = np.random.default_rng(0)

    def layer(*shape, out, lead=()):
        kernel = random.standard_normal(lead + shape) / math.prod(shape[:-1]) ** 0.5
        return jnp.asarray(kernel, jnp.float32), jnp.zeros((*lead, out))

    w = width
    widths = [channels, w, w, 2 * w, 2 * w]
    lead = (encoders,)
    encoder = [layer(4, 4, i, o, out=o, lead=lead) for i, o in pairwise(widths)]
    encoder += [layer(2 * w * 16, units, out=units, lead=lead)]
    encoder += [layer(units, 2 * latents, out=2 * latents, lead=lead)]
    decoder = [layer(encoders * latents, 256, out=256), layer(256, 1024, out=1024)]
    widths = [64, 64, 32, 32, channels]
    decoder += [layer(4, 4, o, i, out=o) for i, o in pairwise(widths)]
    return encoder, decoder


def encode(method, layers, x):
    *convs, (k5, b5), (k6, b6) = layers
    for kernel, bias in convs:
        x = conv_down(x, kernel, bias, relu=True, method=method)
    h = dense(x.reshape(-1, x.shape[-1]), k5, b5, relu=True)
    return dense(h, k6, b6, relu=False)


def decode(method, layers, z):
    (k1, b1), (k2, b2), *ups, (k, b) = layers
    h = dense(dense(z, k1, b1, relu=True), k2, b2, relu=True)
    h = h.reshape(64, 4, 4, -1)
    for kernel, bias in ups:
        h = conv_up(h, kernel, bias, relu=True, method=method)
    return conv_up(h, k, b, relu=False, method=method)


def loss(params, x, key, method):
    """beta-VAE loss at beta 4, Bernoulli pixels: summed over pixels and latents, averaged over the batch."""
    encoder, decoder = params
    groups = encoder[0][0].shape[0]
    posteriors = [encode(method, jax.tree.map(lambda a, g=g: a[g], encoder), x) for g in range(groups)]
    mean, logvar = (jnp.concatenate(p) for p in zip(*[jnp.split(p, 2) for p in posteriors], strict=True))
    z = mean + jnp.exp(logvar / 2) * jax.random.normal(key, mean.shape)
    kl = (jnp.exp(logvar) + mean**2 - 1 - logvar).sum() / 2
    return (optax.sigmoid_binary_cross_entropy(decode(method, decoder, z), x).sum() + 4 * kl) / BATCH


def make_steps(method, images_CxHxWxN, optimiser):
    """A jitted function (params, moments, number of steps) -> (params, moments)."""

    def step(i, carry):
        params, moments = carry
        key = jax.random.fold_in(jax.random.key(0), i)
        start = jax.random.randint(key, (), 0, images_CxHxWxN.shape[-1] - BATCH)
        x = lax.dynamic_slice_in_dim(images_CxHxWxN, start, BATCH, axis=-1)
        grads = jax.grad(loss)(params, x, key, method)
        updates, moments = optimiser.update(grads, moments, params)
        return optax.apply_updates(params, updates), moments

    return jax.jit(lambda params, moments, n: lax.fori_loop(0, n, step, (params, moments)))


def _timed(method, params, images, optimiser):
    """Timed of a step by a method; compiles it."""
    steps = make_steps(method, images, optimiser)
    moments = optimiser.init(params)

    def run(count):
        jax.block_until_ready(steps(params, moments, count))

    run(0)  # compiles
    return suite.Timed(run)


def rows(options, notes):
    """A row for each of STEPS; of the second alone in the quick form."""
    random = np.random.default_rng(1)
    images = jnp.asarray(random.random((1, SIZE, SIZE, 512)) < 0.1, jnp.float32)
    optimiser = optax.adam(1e-4)
    found = []
    for name in ("DEFT-like",) if options.quick else STEPS:
        params = init(*STEPS[name])
        matmul, lax_s = (_timed(method, params, images, optimiser) for method in METHODS)
        found.append(suite.Row(f"{name}, batch {BATCH}, matmul", "step", "lax", matmul, lax_s))
    return found


if __name__ == "__main__":
    suite.main("models.convolutions", rows)
