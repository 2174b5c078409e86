"""The kinds of encoders and decoders: convolutions over images, dense layers, convolutions along time.

Outside, an example is [H, W, C]: an image, a vector of F features as [1, F, 1], or a series of T steps with C channels
as [1, T, C]. Layers are those of Wu et al. 2022 (arXiv 2102.03986) for 'conv': stride-2 convolutions and a dense layer
down, the mirror image up. The other kinds have as many of what suits their data.

Stride-2 layers halve an axis, so images and series are padded with zeros, half on either side, to a multiple of
2^layers; decoders cut the padding off again, so that it has no part in the loss.
"""

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from deft_jax.models.layers import SMALL, ConvDown, ConvDown1d, ConvUp, ConvUp1d, Dense
from deft_jax.models.posterior import Posterior

LAYERS = 4
"""Stride-2 layers where the configuration does not choose: 64 x 64 pixels become 4 x 4, 256 x 256 become 16 x 16."""
MOST_LAYERS = 8


def padding(size: int, layers: int) -> tuple[int, int]:
    """Zeros before and after an axis that make it a multiple of 2^layers.

    Example:
      >>> padding(64, 4), padding(28, 4), padding(17, 2)
      ((0, 0), (2, 2), (1, 2))
    """
    missing = -size % 2**layers
    return missing // 2, missing - missing // 2


def _padded(x: jax.Array, axes: Sequence[int], layers: int) -> jax.Array:
    """An array with `padding` of zeros along these axes."""
    widths = [padding(size, layers) if axis in axes else (0, 0) for axis, size in enumerate(x.shape)]
    return jnp.pad(x, widths) if any(map(any, widths)) else x


def _channels(width: int, layers: int) -> list[int]:
    """Channels of the stride-2 layers of an encoder: `width` of the first two, twice as many of all others."""
    return [width if layer < 2 else 2 * width for layer in range(layers)]


def crop(x_CxHxWxB: jax.Array, image_shape: Sequence[int]) -> jax.Array:
    """The middle of outputs, without the `padding` that brought an image to their size.

    Args:
      x_CxHxWxB: at least as large as the image.
      image_shape: (H, W, C).
    """
    height, width, _ = image_shape
    top, left = ((size - kept) // 2 for size, kept in zip(x_CxHxWxB.shape[1:3], (height, width), strict=True))
    return x_CxHxWxB[:, top : top + height, left : left + width]


class Encoder(nn.Module):
    """Convolutional encoder: images [B, H, W, C] -> Posterior of [B, latents].

    Attributes:
      latents: number of latents.
      width: channels of the first two convolutions; the others have twice as many.
      hidden: units of the dense layer.
      head_init_scale: initial variance of mean and logvar, relative to that of the dense layer.
      dtype: in which all layers but the last compute.
      method: of the convolutions; None, that of the default backend.
      layers: number of convolutions.
    """

    latents: int
    width: int
    hidden: int
    head_init_scale: float = 0.01
    dtype: str = "float32"
    method: str | None = None
    layers: int = LAYERS

    @nn.compact
    def __call__(self, images: jax.Array) -> Posterior:
        x = images.transpose(3, 1, 2, 0).astype(self.dtype)
        x = _padded(x, (1, 2), self.layers)
        for features in _channels(self.width, self.layers):
            x = ConvDown(features, self.method)(x)
        x = Dense(self.hidden)(x.reshape(-1, x.shape[-1]))
        return _posterior(x, self.latents, self.head_init_scale)


class MlpEncoder(Encoder):
    """Encoder of two dense layers, of `width` and of `hidden` units, and a linear path, on all numbers of an example.

    Without the linear path a model that has collapsed at a high beta stays collapsed when beta falls: its hidden units
    have no gradient to return by.
    """

    @nn.compact
    def __call__(self, images: jax.Array) -> Posterior:
        inputs = images.transpose(3, 1, 2, 0).reshape(-1, images.shape[0]).astype(self.dtype)
        x = inputs
        for units in (self.width, self.hidden):
            x = Dense(units)(x)
        parts = (_posterior(part, self.latents, self.head_init_scale) for part in (x, inputs))
        return jax.tree.map(jnp.add, *parts)


class Conv1dEncoder(Encoder):
    """Encoder of series [B, 1, T, C] by convolutions along time; otherwise as `Encoder`."""

    @nn.compact
    def __call__(self, images: jax.Array) -> Posterior:
        x = images[:, 0].transpose(2, 1, 0).astype(self.dtype)
        x = _padded(x, (1,), self.layers)
        for features in _channels(self.width, self.layers):
            x = ConvDown1d(features)(x)
        x = Dense(self.hidden)(x.reshape(-1, x.shape[-1]))
        return _posterior(x, self.latents, self.head_init_scale)


def _posterior(x_HxB: jax.Array, latents: int, head_init_scale: float) -> Posterior:
    """The head of an encoder, its last Dense: means first, then logvars, computed in float32."""
    head = nn.initializers.variance_scaling(head_init_scale, "fan_in", "truncated_normal")
    x = Dense(2 * latents, relu=False, kernel_init=head)(x_HxB.astype(jnp.float32))
    return Posterior(x[:latents].T, x[latents:].T)


class Decoder(nn.Module):
    """Convolutional decoder: z [B, D] -> [B, H, W, C], logits of a Bernoulli or means of a Gaussian likelihood.

    Attributes:
      image_shape: (H, W, C).
      width: channels of the last hidden layers; the first ones have twice as many.
      hidden: units of the dense layer.
      dtype: in which the layers compute; the output is float32.
      method, layers: as in `Encoder`.
    """

    image_shape: Sequence[int]
    width: int
    hidden: int
    dtype: str = "float32"
    method: str | None = None
    layers: int = LAYERS

    def __call__(self, z: jax.Array) -> jax.Array:
        return crop(self.outputs(z)[-1], self.image_shape).transpose(3, 1, 2, 0).astype(jnp.float32)

    @nn.compact
    def outputs(self, z: jax.Array) -> tuple[jax.Array, ...]:
        """The outputs of all layers, batch-minor: those of the hidden ones, then (C, rows, columns, B), not cropped."""
        height, width, channels = self.image_shape
        rows, columns = (-(-size // 2**self.layers) for size in (height, width))
        *upper, first = _channels(self.width, self.layers)
        x = [Dense(self.hidden)(z.T.astype(self.dtype))]
        x.append(Dense(first * rows * columns)(x[-1]).reshape(first, rows, columns, len(z)))
        for features in reversed(upper):
            x.append(ConvUp(features, method=self.method)(x[-1]))
        return (*x, ConvUp(channels, relu=False, method=self.method)(x[-1]))


class MlpDecoder(Decoder):
    """Decoder of two dense layers, of `hidden` and `width` units, and a linear path, to all numbers of an example."""

    @nn.compact
    def outputs(self, z: jax.Array) -> tuple[jax.Array, ...]:
        height, width, channels = self.image_shape
        x = [z.T.astype(self.dtype)]
        for units in (self.hidden, self.width):
            x.append(Dense(units)(x[-1]))
        size = math.prod(self.image_shape)
        output = Dense(size, relu=False)(x[-1]) + Dense(size, relu=False, kernel_init=SMALL)(x[0])
        return (*x[1:], output.reshape(channels, height, width, len(z)))


class Conv1dDecoder(Decoder):
    """Decoder to series [B, 1, T, C] by transposed convolutions along time; otherwise as `Decoder`."""

    @nn.compact
    def outputs(self, z: jax.Array) -> tuple[jax.Array, ...]:
        _, length, channels = self.image_shape
        steps = -(-length // 2**self.layers)
        *upper, first = _channels(self.width, self.layers)
        x = [Dense(self.hidden)(z.T.astype(self.dtype))]
        x.append(Dense(first * steps)(x[-1]).reshape(first, steps, len(z)))
        for features in reversed(upper):
            x.append(ConvUp1d(features)(x[-1]))
        return (*x, ConvUp1d(channels, relu=False)(x[-1])[:, None])


@dataclasses.dataclass(frozen=True)
class Kind:
    """An encoder and a decoder that belong together.

    Attributes:
      encoder, decoder: modules with the attributes of `Encoder` and `Decoder`.
      heads: names of the encoder's layers whose outputs add up to means and logvars.
      stems: names of the decoder's layers that take the code.
      axes: places in (H, W, C) of the axes that stride-2 layers halve.
    """

    encoder: type[Encoder]
    decoder: type[Decoder]
    heads: tuple[str, ...]
    stems: tuple[str, ...]
    axes: tuple[int, ...]


KINDS = {
    "conv": Kind(Encoder, Decoder, ("Dense_1",), ("Dense_0",), (0, 1)),
    "mlp": Kind(MlpEncoder, MlpDecoder, ("Dense_2", "Dense_3"), ("Dense_0", "Dense_3"), ()),
    "conv1d": Kind(Conv1dEncoder, Conv1dDecoder, ("Dense_1",), ("Dense_0",), (1,)),
}
SUITS = {"image": "conv", "vector": "mlp", "series": "conv1d"}
"""What an example is (data.Source.layout) -> the kind that is taken where the configuration does not choose."""
TAKES = {"conv": ("image",), "mlp": ("image", "vector", "series"), "conv1d": ("series",)}
"""Kind -> the examples that it takes."""


def choose(kind: str | None, layout: str) -> str:
    """The kind of a model for a data set.

    Args:
      kind: a key of KINDS, or None for the one that suits the data.
      layout: 'image', 'vector' or 'series'.

    Raises:
      ValueError: the kind is unknown, or does not take such examples.

    Example:
      >>> choose(None, "series"), choose("mlp", "image")
      ('conv1d', 'mlp')
    """
    if kind is None:
        return SUITS[layout]
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}; known: {', '.join(KINDS)}")
    if layout not in TAKES[kind]:
        fitting = ", ".join(name for name, layouts in TAKES.items() if layout in layouts)
        taken = " or ".join(map(_plural, TAKES[kind]))
        raise ValueError(f"model.kind {kind!r} takes {taken}, and the data are {_plural(layout)}; choose {fitting}")
    return kind


def _plural(layout: str) -> str:
    return layout if layout == "series" else f"{layout}s"
