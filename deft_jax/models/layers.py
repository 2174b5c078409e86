"""Layers of the encoders and decoders, in linen, and the stride-2 convolutions along one axis.

Activations are channel-major and batch-minor: (C, H, W, B) of images, the layout in which convolutions.py is fast,
(C, T, B) of series, (inputs, B) of vectors. Layers compute in the dtype of their input. Their parameters are float32,
and so is the sum with a bias: the gradient of a bias is a sum over many positions, for which bfloat16 has too few bits.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from deft_jax.models.convolutions import conv_down, conv_up, dense

HE = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")
# A stride-2 transposed convolution reaches each output pixel with a quarter of its taps. Kernels are (4, 4, out, in).
HE_UP = nn.initializers.variance_scaling(8.0, "fan_in", "truncated_normal", in_axis=-1, out_axis=-2)
LECUN = nn.initializers.lecun_normal()
# Each output of a stride-2 transposed convolution along one axis takes half of the taps. Kernels are (4, out, in).
_HE_UP_1D = nn.initializers.variance_scaling(4.0, "fan_in", "truncated_normal", in_axis=-1, out_axis=-2)
SMALL = nn.initializers.normal(0.01)
ZEROS = nn.initializers.zeros_init()


class ConvDown(nn.Module):
    """4x4 convolution of stride 2 with ReLU: (C, H, W, B) -> (features, H/2, W/2, B)."""

    features: int
    method: str | None = None

    @nn.compact
    def __call__(self, x_CxHxWxB: jax.Array) -> jax.Array:
        kernel = self.param("kernel", HE, (4, 4, x_CxHxWxB.shape[0], self.features))
        bias = self.param("bias", ZEROS, (self.features,))
        return conv_down(x_CxHxWxB, kernel.astype(x_CxHxWxB.dtype), bias, relu=True, method=self.method)


class ConvUp(nn.Module):
    """4x4 transposed convolution of stride 2: (C, H, W, B) -> (features, 2H, 2W, B), with ReLU by default."""

    features: int
    relu: bool = True
    method: str | None = None

    @nn.compact
    def __call__(self, x_CxHxWxB: jax.Array) -> jax.Array:
        kernel = self.param("kernel", HE_UP, (4, 4, self.features, x_CxHxWxB.shape[0]))
        bias = self.param("bias", ZEROS, (self.features,))
        return conv_up(x_CxHxWxB, kernel.astype(x_CxHxWxB.dtype), bias, relu=self.relu, method=self.method)


class Dense(nn.Module):
    """Dense layer on (inputs, B) -> (features, B), with ReLU by default."""

    features: int
    relu: bool = True
    kernel_init: nn.initializers.Initializer = HE

    @nn.compact
    def __call__(self, x_IxB: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (x_IxB.shape[0], self.features))
        bias = self.param("bias", ZEROS, (self.features,))
        return dense(x_IxB, kernel.astype(x_IxB.dtype), bias, relu=self.relu)


class ConvDown1d(nn.Module):
    """4-tap convolution of stride 2 along one axis with ReLU: (C, T, B) -> (features, T/2, B)."""

    features: int

    @nn.compact
    def __call__(self, x_CxTxB: jax.Array) -> jax.Array:
        kernel = self.param("kernel", HE, (4, x_CxTxB.shape[0], self.features))
        bias = self.param("bias", ZEROS, (self.features,))
        y = conv_down_1d(x_CxTxB, kernel.astype(x_CxTxB.dtype)) + bias[:, None, None]
        return nn.relu(y).astype(x_CxTxB.dtype)


class ConvUp1d(nn.Module):
    """4-tap transposed convolution of stride 2 along one axis: (C, T, B) -> (features, 2T, B), with ReLU by default."""

    features: int
    relu: bool = True

    @nn.compact
    def __call__(self, x_CxTxB: jax.Array) -> jax.Array:
        kernel = self.param("kernel", _HE_UP_1D, (4, self.features, x_CxTxB.shape[0]))
        bias = self.param("bias", ZEROS, (self.features,))
        y = conv_up_1d(x_CxTxB, kernel.astype(x_CxTxB.dtype)) + bias[:, None, None]
        return (nn.relu(y) if self.relu else y).astype(x_CxTxB.dtype)


def conv_down_1d(x_CxTxB: jax.Array, kernel_4xCxO: jax.Array) -> jax.Array:
    """Convolution with 4 taps, stride 2 and padding 1 along one axis: (C, T, B) -> (O, T/2, B), T even.

    y[o, t] = sum over k, c of kernel[k, c, o] * x[c, 2t + k - 1], as one matrix product over taps and channels.

    Args:
      x_CxTxB: series, channel-major and batch-minor.
      kernel_4xCxO: taps.

    Returns:
      [O, T/2, B].

    Raises:
      ValueError: T is odd.

    Example:
      >>> ones = jnp.ones((1, 4, 1))
      >>> print(conv_down_1d(ones, jnp.ones((4, 1, 1)))[0, :, 0])  # windows at the border have 3 values within
      [3. 3.]
    """
    length = x_CxTxB.shape[1]
    if length % 2:
        raise ValueError(f"conv_down_1d needs an even length, got {length}")
    padded = jnp.pad(x_CxTxB, ((0, 0), (1, 1), (0, 0)))
    windows = jnp.stack([padded[:, tap : tap + length : 2] for tap in range(4)])
    return jnp.einsum("kcob,kcd->dob", windows, kernel_4xCxO)


def conv_up_1d(x_CxTxB: jax.Array, kernel_4xOxC: jax.Array) -> jax.Array:
    """Transpose of `conv_down_1d`: (C, T, B) -> (O, 2T, B).

    y[o, 2t + k - 1] takes kernel[k, o, c] * x[c, t]: an even output from taps 1 and 3, an odd one from taps 2 and 0.

    Args:
      x_CxTxB: series, channel-major and batch-minor.
      kernel_4xOxC: taps.

    Returns:
      [O, 2T, B].

    Example:
      >>> impulse = jnp.zeros((1, 3, 1)).at[0, 1, 0].set(1)
      >>> print(conv_up_1d(impulse, jnp.arange(1.0, 5.0).reshape(4, 1, 1))[0, :, 0])
      [0. 1. 2. 3. 4. 0.]
    """
    taps = jnp.einsum("kdc,ctb->kdtb", kernel_4xOxC, x_CxTxB)
    before = jnp.pad(taps[3], ((0, 0), (1, 0), (0, 0)))[:, :-1]
    after = jnp.pad(taps[0], ((0, 0), (0, 1), (0, 0)))[:, 1:]
    channels, length, batch = taps.shape[1:]
    return jnp.stack([taps[1] + before, taps[2] + after], axis=2).reshape(channels, 2 * length, batch)
