"""Reconstruction losses of the two likelihoods, and decoder outputs as images."""

import jax
import jax.numpy as jnp


def pixel_losses(likelihood: str, images: jax.Array, outputs: jax.Array) -> jax.Array:
    """Reconstruction loss of each pixel, unreduced.

    'bernoulli', for an image x and a logit a: -log p(x|z) = log(1 + exp(a)) - x a, in nats. For grey levels x between 0
    and 1 it is the cross-entropy, as in Kingma and Welling 2014, appendix C.1.

    'gaussian', for an image x and a mean m: the squared error (x - m)^2. This is the convention of the field: -log
    p(x|z) of a Gaussian of variance 1/2 without its constant, log(pi) / 2.

    Args:
      likelihood: 'bernoulli' or 'gaussian'.
      images: in [0, 1], of any shape.
      outputs: of the decoder, of the same shape: logits or means.

    Returns:
      Losses of the shape of `images`.

    Raises:
      ValueError: the likelihood is unknown.

    Example:
      >>> images, outputs = jnp.array([0.0, 1.0]), jnp.array([0.0, 2.0])
      >>> print(pixel_losses("bernoulli", images, outputs).round(4), pixel_losses("gaussian", images, outputs))
      [0.6931 0.1269] [0. 1.]
    """
    if likelihood == "bernoulli":
        return _cross_entropy(images.astype(jnp.result_type(images, outputs)), outputs)
    if likelihood == "gaussian":
        return jnp.square(images - outputs)
    raise ValueError(f"unknown likelihood {likelihood!r}; known: bernoulli, gaussian")


def reconstruction_loss(likelihood: str, images: jax.Array, outputs: jax.Array) -> jax.Array:
    """Reconstruction loss of each example: `pixel_losses` summed over pixels and channels.

    Args:
      likelihood: 'bernoulli' or 'gaussian'.
      images: [B, H, W, C] in [0, 1].
      outputs: of the decoder, [B, H, W, C].

    Returns:
      [B], in nats.

    Raises:
      ValueError: the likelihood is unknown.

    Example:
      >>> zeros = jnp.zeros((3, 2, 2, 1))
      >>> print(reconstruction_loss("bernoulli", zeros, zeros).round(4))  # 4 log 2
      [2.7726 2.7726 2.7726]
    """
    # Examples are last in the decoder's layers: in that order the transposition of its outputs is undone.
    images, outputs = (array.transpose(3, 1, 2, 0) for array in (images, outputs))
    return jnp.sum(pixel_losses(likelihood, images, outputs), axis=(0, 1, 2))


@jax.custom_jvp
def _cross_entropy(images: jax.Array, logits: jax.Array) -> jax.Array:
    """log(1 + exp(a)) - x a, without overflow."""
    return jnp.maximum(logits, 0) + jnp.log1p(jnp.exp(-jnp.abs(logits))) - images * logits


@_cross_entropy.defjvp
def _cross_entropy_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    # Written in the logit alone: the derivative of log1p would keep a second array of all pixels for the backward pass.
    (images, logits), (of_images, of_logits) = primals, tangents
    return _cross_entropy(images, logits), (jax.nn.sigmoid(logits) - images) * of_logits - logits * of_images


def to_images(likelihood: str, outputs: jax.Array, clip: bool = True) -> jax.Array:
    """Means of the likelihood as images.

    Args:
      likelihood: 'bernoulli' (outputs are logits) or 'gaussian' (outputs are means).
      outputs: of the decoder, of any shape.
      clip: whether means are clipped to [0, 1]; False for vectors and series.

    Returns:
      Images in [0, 1], of the same shape: 1 / (1 + exp(-logit)), or means clipped to [0, 1].

    Example:
      >>> print(to_images("bernoulli", jnp.array([-100.0, 0.0])), to_images("gaussian", jnp.array([-0.5, 0.25])))
      [0.  0.5] [0.   0.25]
    """
    if likelihood == "bernoulli":
        return jax.nn.sigmoid(outputs)
    return jnp.clip(outputs, 0.0, 1.0) if clip else outputs
