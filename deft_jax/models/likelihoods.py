"""Reconstruction losses of the two likelihoods, and decoder outputs as images."""


import jax
import jax.numpy as jnp


def pixel_losses(likelihood: str, images: jax.Array, outputs: jax.Array) -> jax.Array:
    """-log p(x|z) of each pixel in nats, unreduced: the shape of `images`, whose values lie in [0, 1].

    likelihood: 'bernoulli', outputs are logits; 'gaussian', outputs are means, and the loss is the plain squared
    error (x - output)^2, the usage of this field: a Gaussian of variance 1/2 without its constant.
    """
    if likelihood == "bernoulli":
        return jax.nn.softplus(outputs) - images * outputs
    if likelihood == "gaussian":
        return jnp.square(images - outputs)
    raise ValueError(f"unknown likelihood {likelihood!r}; known: bernoulli, gaussian")


def reconstruction_loss(likelihood: str, images: jax.Array, outputs: jax.Array) -> jax.Array:
    """-log p(x|z) of each example in nats, `pixel_losses` of [B, H, W, C] summed over pixels and channels: [B]."""
    return jnp.sum(pixel_losses(likelihood, images, outputs), axis=(1, 2, 3))


def to_images(likelihood: str, outputs: jax.Array) -> jax.Array:
    """Decoder outputs as images in [0, 1]: the means of a 'bernoulli' or a 'gaussian' likelihood."""
    return jax.nn.sigmoid(outputs) if likelihood == "bernoulli" else jnp.clip(outputs, 0.0, 1.0)
