"""Floating-point operations of a training step, counted from the shapes of its layers.

Counted are the products of convolutions and dense layers, a multiplication and an addition as two: once forward, once
for the gradient of the weights and once for that of the inputs, which the first layer of an encoder does not need.
Everything else (activations, losses, Adam, drawing the batch, FactorVAE's permutation, beta-TCVAE's pairs) is left out,
so this is a floor. XLA's own count of the compiled step is not used: it includes the pixels beyond the border that
convolutions.py computes, and what XLA computes twice.
"""

from itertools import pairwise


def _dense(*widths):
    return [2 * i * o for i, o in pairwise(widths)]


def _convolutions(channels, pixels):
    """4x4 kernels between images; pixels: of the smaller image of each layer."""
    return [2 * 16 * i * o * p for (i, o), p in zip(pairwise(channels), pixels, strict=True)]


def encoder(image_shape, latents, width, hidden):
    """Operations of each layer, forward, for one image."""
    height, columns, channels = image_shape
    pixels = [height * columns // 4**k for k in range(1, 5)]
    convolutions = _convolutions([channels, width, width, 2 * width, 2 * width], pixels)
    return convolutions + _dense(2 * width * pixels[-1], hidden, 2 * latents)


def decoder(image_shape, latents, width, hidden):
    """Operations of each layer, forward, for one image."""
    height, columns, channels = image_shape
    pixels = [height * columns // 4**k for k in range(4, 0, -1)]
    convolutions = _convolutions([2 * width, 2 * width, width, width, channels], pixels)
    return _dense(latents, hidden, 2 * width * pixels[0]) + convolutions


def critic(latents, width=1000, depth=6):
    """Operations of each layer, forward, for one code."""
    return _dense(latents, *[width] * depth, 1)


def train_step(model, stage, batch_size, critic_layers=()):
    """Operations of one update of a model of deft_jax with the groups up to `stage` open.

    critic_layers: of FactorVAE's critic, which scores the codes and the permuted codes; the gradient of the codes, and
    that of its own weights.
    """
    sizes = model.encoder
    total = 0
    for group, parts in enumerate(zip(sizes.sizes, sizes.widths, sizes.hidden, strict=True)):
        layers = encoder(model.decoder.image_shape, *parts)
        if group < stage and sizes.freeze:
            total += sum(layers)
        elif group <= stage:
            total += 3 * sum(layers) - layers[0]
    part = model.decoder
    total += 3 * sum(decoder(part.image_shape, model.num_latents, part.width, part.hidden))
    if critic_layers:
        # Forward twice; back from the codes' logits to the codes; back from both to the weights.
        total += 2 * sum(critic_layers) + sum(critic_layers) + 2 * (2 * sum(critic_layers) - critic_layers[0])
    return total * batch_size
