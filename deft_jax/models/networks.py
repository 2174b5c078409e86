"""Encoders and decoders of DEFT (linen: `init` and `apply` are pure functions).

Layers are those of Wu et al. 2022 (arXiv 2102.03986): four 4x4 stride-2 convolutions and a dense layer down, the mirror
image up. Inside a model activations are channel-major and batch-minor, (C, H, W, B), the layout in which
convolutions.py is fast; images stay [B, H, W, C] and codes [B, D] outside.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from deft_jax.models.convolutions import conv_down, conv_up, dense, method_for
from deft_jax.models.posterior import Posterior

_DOWNSAMPLING = 16  # four layers of stride 2
_MAX_LATENTS = 10_000
_DTYPES = ("float32", "bfloat16")

Params = Any  # pytree of parameters {'encoder': ..., 'decoder': ...}

_he = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")
# A stride-2 transposed convolution reaches each output pixel with a quarter of its taps. Kernels are (4, 4, out, in).
_he_up = nn.initializers.variance_scaling(8.0, "fan_in", "truncated_normal", in_axis=-1, out_axis=-2)
_lecun = nn.initializers.lecun_normal()
_zeros = nn.initializers.zeros_init()


# Layers compute in the dtype of their input. Their parameters are float32, and so is the sum with a bias: the gradient
# of a bias is a sum over many positions, for which bfloat16 has too few bits.


class ConvDown(nn.Module):
    """4x4 convolution of stride 2 with ReLU: (C, H, W, B) -> (features, H/2, W/2, B)."""

    features: int
    method: str | None = None

    @nn.compact
    def __call__(self, x_CxHxWxB: jax.Array) -> jax.Array:
        kernel = self.param("kernel", _he, (4, 4, x_CxHxWxB.shape[0], self.features))
        bias = self.param("bias", _zeros, (self.features,))
        return conv_down(x_CxHxWxB, kernel.astype(x_CxHxWxB.dtype), bias, relu=True, method=self.method)


class ConvUp(nn.Module):
    """4x4 transposed convolution of stride 2: (C, H, W, B) -> (features, 2H, 2W, B), with ReLU by default."""

    features: int
    relu: bool = True
    method: str | None = None

    @nn.compact
    def __call__(self, x_CxHxWxB: jax.Array) -> jax.Array:
        kernel = self.param("kernel", _he_up, (4, 4, self.features, x_CxHxWxB.shape[0]))
        bias = self.param("bias", _zeros, (self.features,))
        return conv_up(x_CxHxWxB, kernel.astype(x_CxHxWxB.dtype), bias, relu=self.relu, method=self.method)


class Dense(nn.Module):
    """Dense layer on (inputs, B) -> (features, B), with ReLU by default."""

    features: int
    relu: bool = True
    kernel_init: nn.initializers.Initializer = _he

    @nn.compact
    def __call__(self, x_IxB: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (x_IxB.shape[0], self.features))
        bias = self.param("bias", _zeros, (self.features,))
        return dense(x_IxB, kernel.astype(x_IxB.dtype), bias, relu=self.relu)


class Encoder(nn.Module):
    """Convolutional encoder: images [B, H, W, C] -> Posterior of [B, latents].

    Attributes:
      latents: number of latents.
      width: channels of the first two convolutions; the last two have twice as many.
      hidden: units of the dense layer.
      head_init_scale: initial variance of mean and logvar, relative to that of the dense layer.
      dtype: in which all layers but the last compute.
      method: of the convolutions; None, that of the default backend.
    """

    latents: int
    width: int
    hidden: int
    head_init_scale: float = 0.01
    dtype: str = "float32"
    method: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array) -> Posterior:
        x = images.transpose(3, 1, 2, 0).astype(self.dtype)
        for features in (self.width, self.width, 2 * self.width, 2 * self.width):
            x = ConvDown(features, self.method)(x)
        x = Dense(self.hidden)(x.reshape(-1, x.shape[-1]))
        head = nn.initializers.variance_scaling(self.head_init_scale, "fan_in", "truncated_normal")
        x = Dense(2 * self.latents, relu=False, kernel_init=head)(x.astype(jnp.float32))
        return Posterior(x[: self.latents].T, x[self.latents :].T)


class GroupedEncoder(nn.Module):
    """One encoder for each group of latents (Wu et al. 2022, section 4): images -> Posterior of [B, sum(sizes)].

    Groups after `stage` are not computed and have mean = logvar = 0: their z is pure noise, which the decoder learns to
    ignore.

    Attributes:
      sizes: latents of each of G groups.
      widths: convolution width of each group, as in `Encoder`.
      hidden: dense units of each group.
      freeze: whether groups before `stage` have no backward pass.
      calibrate: whether each latent of a frozen group has a learned scale of its mean and shift of its logvar.
      head_init_scale, dtype, method: as in `Encoder`.
    """

    sizes: Sequence[int]
    widths: Sequence[int]
    hidden: Sequence[int]
    freeze: bool = False
    calibrate: bool = False
    head_init_scale: float = 0.01
    dtype: str = "float32"
    method: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, stage: int) -> Posterior:
        means, logvars = [], []
        for group, (size, width, hidden) in enumerate(zip(self.sizes, self.widths, self.hidden, strict=True)):
            if group > stage and not self.is_initializing():
                means.append(jnp.zeros((images.shape[0], size)))
                logvars.append(jnp.zeros((images.shape[0], size)))
                continue
            options = self.head_init_scale, self.dtype, self.method
            mean, logvar = Encoder(size, width, hidden, *options, name=f"group_{group}")(images)
            if self.freeze and group < stage:
                mean, logvar = jax.lax.stop_gradient((mean, logvar))
            if self.calibrate:
                scale = self.param(f"scale_{group}", nn.initializers.ones_init(), (size,))
                shift = self.param(f"shift_{group}", _zeros, (size,))
                if group < stage:
                    mean, logvar = scale * mean, logvar + shift
            means.append(mean)
            logvars.append(logvar)
        return Posterior(jnp.concatenate(means, axis=1), jnp.concatenate(logvars, axis=1))


class Decoder(nn.Module):
    """Decoder: z [B, D] -> [B, H, W, C], logits of a Bernoulli or means of a Gaussian likelihood.

    Attributes:
      image_shape: (H, W, C), H and W multiples of 16.
      width: channels of the last hidden layers; the first ones have twice as many.
      hidden: units of the dense layer.
      dtype: in which the layers compute; the output is float32.
      method: as in `Encoder`.
    """

    image_shape: Sequence[int]
    width: int
    hidden: int
    dtype: str = "float32"
    method: str | None = None

    def __call__(self, z: jax.Array) -> jax.Array:
        return self.layers(z)[-1].transpose(3, 1, 2, 0).astype(jnp.float32)

    @nn.compact
    def layers(self, z: jax.Array) -> tuple[jax.Array, ...]:
        """The outputs of all layers, batch-minor: those of the hidden ones, then (C, H, W, B)."""
        height, width, channels = self.image_shape
        rows, columns = height // _DOWNSAMPLING, width // _DOWNSAMPLING
        first = Dense(self.hidden)(z.T.astype(self.dtype))
        second = Dense(2 * self.width * rows * columns)(first)
        outputs = [first, second.reshape(2 * self.width, rows, columns, second.shape[-1])]
        for features in (2 * self.width, self.width, self.width):
            outputs.append(ConvUp(features, method=self.method)(outputs[-1]))
        return (*outputs, ConvUp(channels, relu=False, method=self.method)(outputs[-1]))


class Discriminator(nn.Module):
    """FactorVAE's discriminator of codes (Kim and Mnih 2018, appendix A): z [B, D] -> logits [B] of 'from q(z)'.

    Its one logit is the difference of the paper's two.

    Attributes:
      width: units of each hidden layer, with leaky ReLU 0.2.
      depth: number of hidden layers.
    """

    width: int = 1000
    depth: int = 6

    @nn.compact
    def __call__(self, z_BxD: jax.Array) -> jax.Array:
        for _ in range(self.depth):
            z_BxD = nn.leaky_relu(nn.Dense(self.width, kernel_init=_he)(z_BxD), 0.2)
        return nn.Dense(1, kernel_init=_lecun)(z_BxD)[:, 0]


@dataclasses.dataclass(frozen=True)
class Model:
    """A grouped encoder and a decoder over one parameter pytree {'encoder': ..., 'decoder': ...}.

    Example:
      >>> model = build((16, 16, 1), latents=3, groups=(1, 2), width=2, hidden=4, decoder_width=2, decoder_hidden=4)
      >>> params = model.init(jax.random.key(0))
      >>> posterior = model.encode(params, jnp.ones((5, 16, 16, 1)), stage=0)
      >>> posterior.mean.shape, bool(jnp.any(posterior.mean[:, 1:])), model.group_of_latent
      ((5, 3), False, (0, 1, 1))
      >>> model.decode(params, posterior.mean).shape
      (5, 16, 16, 1)
    """

    encoder: GroupedEncoder
    decoder: Decoder

    @property
    def sizes(self) -> tuple[int, ...]:
        """Latents of each group."""
        return tuple(self.encoder.sizes)

    @property
    def num_latents(self) -> int:
        """Latents of all groups together, D."""
        return sum(self.encoder.sizes)

    @property
    def group_of_latent(self) -> tuple[int, ...]:
        """Group index of each latent, length D."""
        return tuple(group for group, size in enumerate(self.encoder.sizes) for _ in range(size))

    def init(self, key: jax.Array) -> Params:
        """Initial parameters of all groups and of the decoder from one key."""
        key_encoder, key_decoder = jax.random.split(key)
        images = jnp.zeros((1, *self.decoder.image_shape))
        return {
            "encoder": self.encoder.init(key_encoder, images, len(self.sizes) - 1)["params"],
            "decoder": self.decoder.init(key_decoder, jnp.zeros((1, self.num_latents)))["params"],
        }

    def encode(self, params: Params, images: jax.Array, stage: int) -> Posterior:
        """Posterior, [B, D], of images [B, H, W, C] with the groups up to `stage` open."""
        posterior = self.encoder.apply({"params": params["encoder"]}, images, stage)
        assert isinstance(posterior, Posterior)
        return posterior

    def decode(self, params: Params, z: jax.Array) -> jax.Array:
        """Logits or means [B, H, W, C] of codes z [B, D]."""
        outputs = self.decoder.apply({"params": params["decoder"]}, z)
        assert isinstance(outputs, jax.Array)
        return outputs

    def decode_hidden(self, params: Params, z: jax.Array) -> tuple[jax.Array, ...]:
        """The hidden layers of the decoder at codes z [B, D], each [B, units] or [B, channels, rows, columns].

        They compute in float32, whatever `decoder.dtype`: finite differences of them would otherwise be differences of
        rounding errors.
        """
        outputs = self.decoder.clone(dtype="float32").apply({"params": params["decoder"]}, z, method="layers")
        assert isinstance(outputs, tuple)
        return tuple(jnp.moveaxis(x, -1, 0) for x in outputs[:-1])

    def rotate_latents(self, tree: Params, group: int, rotation: jax.Array) -> Params:
        """Rotates the latents of a group: z becomes rotation @ z.

        The means and the decoder are rotated exactly. The posterior remains diagonal, which is exact only where its
        variances are equal: each new logvar is the mean of the old ones, weighted by the squared rotation.

        Args:
          tree: parameters, or a tree of their form such as moments of an optimizer; entries may be missing.
          group: index of the group, with d latents.
          rotation: [d, d], orthogonal.

        Returns:
          A tree of the same form.
        """
        first = sum(self.sizes[:group])
        latents = slice(first, first + self.sizes[group])
        # In the head of an encoder the means come first, then the logvars.
        head = jax.scipy.linalg.block_diag(rotation, rotation**2)
        all_latents = jnp.eye(self.num_latents).at[latents, latents].set(rotation)
        rotate = {
            ("encoder", f"group_{group}", "Dense_1", "kernel"): lambda kernel: kernel @ head.T,
            ("encoder", f"group_{group}", "Dense_1", "bias"): lambda bias: head @ bias,
            ("decoder", "Dense_0", "kernel"): lambda kernel: all_latents @ kernel,
        }

        def rotate_leaf(path: tuple[Any, ...], leaf: Any) -> Any:
            rotate_this = rotate.get(tuple(str(getattr(entry, "key", "")) for entry in path))
            return leaf if rotate_this is None else rotate_this(leaf)

        return jax.tree_util.tree_map_with_path(rotate_leaf, tree)


def _per_group(value: int | Sequence[int], groups: int, name: str) -> tuple[int, ...]:
    """One number per group, from one number for all or a sequence."""
    values = (int(value),) * groups if isinstance(value, (int, np.integer)) else tuple(value)
    if len(values) != groups:
        raise ValueError(f"{name} has {len(values)} entries for {groups} groups; give one each, or one for all")
    if any(v < 1 for v in values):
        raise ValueError(f"{name} must be at least 1, got {values}")
    return values


def group_sizes(latents: int, groups: int | Sequence[int]) -> tuple[int, ...]:
    """Number of latents of each group.

    Args:
      latents: of all groups together, D.
      groups: number of equal groups, or the size of each.

    Returns:
      Positive integers that add up to `latents`.

    Raises:
      ValueError: the latents do not divide into equal groups, or sizes do not add up.

    Example:
      >>> group_sizes(10, 5), group_sizes(10, (4, 6))
      ((2, 2, 2, 2, 2), (4, 6))
    """
    if not 1 <= latents <= _MAX_LATENTS:
        raise ValueError(f"latents must be from 1 to {_MAX_LATENTS}, got {latents}")
    if isinstance(groups, (int, np.integer)):
        if groups < 1 or latents % groups:
            raise ValueError(f"{latents} latents do not divide into {groups} equal groups; give the size of each")
        return (latents // int(groups),) * int(groups)
    sizes = tuple(groups)
    if any(size < 1 for size in sizes) or sum(sizes) != latents:
        raise ValueError(f"groups of {sizes} latents must be at least 1 each and add up to {latents}")
    return sizes


def build(
    image_shape: Sequence[int],
    *,
    latents: int,
    groups: int | Sequence[int],
    width: int | Sequence[int],
    hidden: int | Sequence[int],
    decoder_width: int,
    decoder_hidden: int,
    freeze: bool = False,
    calibrate: bool = False,
    head_init_scale: float = 0.01,
    dtype: str = "float32",
    platform: str | None = None,
) -> Model:
    """Builds a model.

    Args:
      image_shape: (H, W, C), H and W multiples of 16.
      latents: number of latents of all groups together, D.
      groups: number of equal groups, or the latents of each.
      width: convolution width of the group encoders, one number for all or one per group.
      hidden: dense units of the group encoders, one number for all or one per group.
      decoder_width: convolution width of the decoder.
      decoder_hidden: dense units of the decoder.
      freeze: see GroupedEncoder.
      calibrate: see GroupedEncoder; requires `freeze`.
      head_init_scale: initial variance of the posteriors' means and logvars, relative to that of the layer below. At
        0.01 they start near the prior, so that a group which opens late does not disturb what the decoder has learned.
        The presets take 1, between the default layers of PyTorch (1/3) and TensorFlow 1 (nearly 2); quantised latents
        need it near 1, otherwise all codes start at one value and remain there.
      dtype: 'float32', or 'bfloat16' to compute the layers in half the bits; parameters, posteriors, outputs, losses
        and the optimiser are float32 with either.
      platform: of the devices that the model will run on, as of jax.Device.platform; convolutions differ, parameters
        do not. Default: None, that of JAX's default backend.

    Returns:
      A Model; its parameters come from `Model.init`.

    Raises:
      ValueError: sizes do not fit each other, or an image side is not a multiple of 16.
    """
    sizes = group_sizes(latents, groups)
    if any(side < _DOWNSAMPLING or side % _DOWNSAMPLING for side in image_shape[:2]):
        raise ValueError(f"image sides must be multiples of {_DOWNSAMPLING}, got {tuple(image_shape)}")
    if calibrate and not freeze:
        raise ValueError("a learned scale and shift belong to frozen groups; set gamma = 0 or calibrate = False")
    if not (math.isfinite(head_init_scale) and head_init_scale > 0):
        raise ValueError(f"head_init_scale must be above 0, got {head_init_scale}")
    if dtype not in _DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(_DTYPES)}, got {dtype!r}")
    _per_group(decoder_width, 1, "decoder_width")
    _per_group(decoder_hidden, 1, "decoder_hidden")
    method = None if platform is None else method_for(platform)
    encoder = GroupedEncoder(
        sizes,
        _per_group(width, len(sizes), "width"),
        _per_group(hidden, len(sizes), "hidden"),
        freeze=freeze,
        calibrate=calibrate,
        head_init_scale=head_init_scale,
        dtype=dtype,
        method=method,
    )
    return Model(encoder, Decoder(tuple(image_shape), decoder_width, decoder_hidden, dtype, method))
