"""Encoders and decoders of DEFT (linen: `init` and `apply` are pure functions).

Layer sizes are those of the original work: four 4x4 stride-2 convolutions and a dense layer down, the mirror
image up. Inside a model activations are channel-major and batch-minor, (C, H, W, B), the layout in which
convolutions.py is fast; images stay [B, H, W, C] and codes [B, D] outside.
"""

import dataclasses
import math
import numbers
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from deft_jax.models.convolutions import conv_down, conv_up, dense
from deft_jax.models.posterior import Posterior

_DOWNSAMPLING = 16  # four layers of stride 2
_MOST_LATENTS = 10_000
_DTYPES = ("float32", "bfloat16")

_he = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")
# A stride-2 transposed convolution reaches each output pixel with a quarter of its taps: (4, 4, out, in) kernels.
_he_up = nn.initializers.variance_scaling(8.0, "fan_in", "truncated_normal", in_axis=-1, out_axis=-2)
_lecun = nn.initializers.lecun_normal()
_zeros = nn.initializers.zeros_init()


# Layers compute in the type of what they are given. Their parameters are float32, and so is the sum with a bias: the
# gradient of a bias is a sum over many positions, which would not fit into fewer bits.


class ConvDown(nn.Module):
    """4x4 convolution of stride 2 with ReLU: (C, H, W, B) -> (features, H/2, W/2, B)."""

    features: int

    @nn.compact
    def __call__(self, x_CxHxWxB):
        kernel = self.param("kernel", _he, (4, 4, x_CxHxWxB.shape[0], self.features))
        bias = self.param("bias", _zeros, (self.features,))
        return conv_down(x_CxHxWxB, kernel.astype(x_CxHxWxB.dtype), bias, relu=True)


class ConvUp(nn.Module):
    """4x4 transposed convolution of stride 2: (C, H, W, B) -> (features, 2H, 2W, B), with ReLU unless told."""

    features: int
    relu: bool = True

    @nn.compact
    def __call__(self, x_CxHxWxB):
        kernel = self.param("kernel", _he_up, (4, 4, self.features, x_CxHxWxB.shape[0]))
        bias = self.param("bias", _zeros, (self.features,))
        return conv_up(x_CxHxWxB, kernel.astype(x_CxHxWxB.dtype), bias, relu=self.relu)


class Dense(nn.Module):
    """Dense layer on (inputs, B) -> (features, B), with ReLU unless told."""

    features: int
    relu: bool = True
    kernel_init: nn.initializers.Initializer = _he

    @nn.compact
    def __call__(self, x_IxB):
        kernel = self.param("kernel", self.kernel_init, (x_IxB.shape[0], self.features))
        bias = self.param("bias", _zeros, (self.features,))
        return dense(x_IxB, kernel.astype(x_IxB.dtype), bias, relu=self.relu)


class Encoder(nn.Module):
    """Convolutional encoder: images [B, H, W, C] -> Posterior of [B, latents].

    width: channels of the first two convolutions, half those of the last two.
    hidden: units of the dense layer.
    head_init_scale: initial variance of mean and logvar, relative to that of the dense layer.
    dtype: what all layers but the last compute in.
    """

    latents: int
    width: int
    hidden: int
    head_init_scale: float = 0.01
    dtype: str = "float32"

    @nn.compact
    def __call__(self, images) -> Posterior:
        x = images.transpose(3, 1, 2, 0).astype(self.dtype)
        for features in (self.width, self.width, 2 * self.width, 2 * self.width):
            x = ConvDown(features)(x)
        x = Dense(self.hidden)(x.reshape(-1, x.shape[-1]))
        head = nn.initializers.variance_scaling(self.head_init_scale, "fan_in", "truncated_normal")
        x = Dense(2 * self.latents, relu=False, kernel_init=head)(x.astype(jnp.float32))
        return Posterior(x[: self.latents].T, x[self.latents :].T)


class GroupedEncoder(nn.Module):
    """One encoder for each group of latents (Wu et al. 2022, section 4): images -> Posterior of [B, sum(sizes)].

    sizes, widths, hidden: latents, convolution width and dense units of each group, each of length G.

    Groups after `stage` are not computed and give mean = logvar = 0: their z is pure noise, which the decoder
    learns to ignore. With `freeze`, groups before `stage` have no backward pass; with `calibrate` besides,
    each of their latents has a learned scale on its mean and a learned shift on its logvar.
    """

    sizes: Sequence[int]
    widths: Sequence[int]
    hidden: Sequence[int]
    freeze: bool = False
    calibrate: bool = False
    head_init_scale: float = 0.01
    dtype: str = "float32"

    @nn.compact
    def __call__(self, images, stage: int) -> Posterior:
        means, logvars = [], []
        for group, (size, width, hidden) in enumerate(zip(self.sizes, self.widths, self.hidden, strict=True)):
            if group > stage and not self.is_initializing():
                means.append(jnp.zeros((images.shape[0], size)))
                logvars.append(jnp.zeros((images.shape[0], size)))
                continue
            mean, logvar = Encoder(size, width, hidden, self.head_init_scale, self.dtype, name=f"group_{group}")(images)
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

    width: channels of the last hidden layers, half those of the first ones; hidden: units of the dense layer.
    dtype: what the layers compute in; the output is float32.
    """

    image_shape: Sequence[int]
    width: int
    hidden: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, z):
        height, width, channels = self.image_shape
        rows, columns = height // _DOWNSAMPLING, width // _DOWNSAMPLING
        x = Dense(self.hidden)(z.T.astype(self.dtype))
        x = Dense(2 * self.width * rows * columns)(x)
        x = x.reshape(2 * self.width, rows, columns, x.shape[-1])
        for features in (2 * self.width, self.width, self.width):
            x = ConvUp(features)(x)
        return ConvUp(channels, relu=False)(x).transpose(3, 1, 2, 0).astype(jnp.float32)


class Discriminator(nn.Module):
    """FactorVAE's critic of codes (Kim and Mnih 2018, appendix A): z [B, D] -> logits [B] of 'from the joint'.

    depth hidden layers of `width` units with leaky ReLU 0.2. One logit, which is the difference of the paper's two.
    """

    width: int = 1000
    depth: int = 6

    @nn.compact
    def __call__(self, z_BxD):
        for _ in range(self.depth):
            z_BxD = nn.leaky_relu(nn.Dense(self.width, kernel_init=_he)(z_BxD), 0.2)
        return nn.Dense(1, kernel_init=_lecun)(z_BxD)[:, 0]


@dataclasses.dataclass(frozen=True)
class Model:
    """A grouped encoder and a decoder over one parameter pytree {'encoder': ..., 'decoder': ...}."""

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

    def init(self, key):
        """Parameters of all groups and of the decoder from one key."""
        key_encoder, key_decoder = jax.random.split(key)
        images = jnp.zeros((1, *self.decoder.image_shape))
        return {
            "encoder": self.encoder.init(key_encoder, images, len(self.sizes) - 1)["params"],
            "decoder": self.decoder.init(key_decoder, jnp.zeros((1, self.num_latents)))["params"],
        }

    def encode(self, params, images, stage: int) -> Posterior:
        """Posterior of images [B, H, W, C] with the groups up to `stage` open."""
        return self.encoder.apply({"params": params["encoder"]}, images, stage)

    def decode(self, params, z):
        """Logits or means [B, H, W, C] of codes z [B, D]."""
        return self.decoder.apply({"params": params["decoder"]}, z)

    def rotate_latents(self, tree, group: int, rotation):
        """The parameters, or a tree of their form, with the latents of a group turned: z becomes rotation @ z.

        rotation: [d, d], orthogonal, d the latents of the group. Means and decoder turn exactly. A posterior stays
        diagonal, so its shape is kept only where its variances are equal: each new logvar is the mean of the old ones,
        weighed by the squared rotation. What a masked tree lacks is left out.
        """
        first = sum(self.sizes[:group])
        latents = slice(first, first + self.sizes[group])
        # In the head of an encoder the means come first, then the logvars.
        head = jax.scipy.linalg.block_diag(rotation, rotation**2)
        whole = jnp.eye(self.num_latents).at[latents, latents].set(rotation)
        turns = {
            ("encoder", f"group_{group}", "Dense_1", "kernel"): lambda kernel: kernel @ head.T,
            ("encoder", f"group_{group}", "Dense_1", "bias"): lambda bias: head @ bias,
            ("decoder", "Dense_0", "kernel"): lambda kernel: whole @ kernel,
        }

        def of(path, leaf):
            turn = turns.get(tuple(getattr(entry, "key", None) for entry in path))
            return leaf if turn is None else turn(leaf)

        return jax.tree_util.tree_map_with_path(of, tree)


def _one_each(value, groups: int, name: str) -> tuple[int, ...]:
    values = (value,) * groups if isinstance(value, numbers.Integral) else tuple(value)
    if len(values) != groups:
        raise ValueError(f"{name} has {len(values)} entries for {groups} groups; give one each, or one for all")
    if any(v < 1 for v in values):
        raise ValueError(f"{name} must be at least 1, got {values}")
    return values


def group_sizes(latents: int, groups: int | Sequence[int]) -> tuple[int, ...]:
    """Latents of each group: `groups` equal groups, or the sizes themselves, which must add up to `latents`."""
    if not 1 <= latents <= _MOST_LATENTS:
        raise ValueError(f"latents must be from 1 to {_MOST_LATENTS}, got {latents}")
    if isinstance(groups, numbers.Integral):
        if groups < 1 or latents % groups:
            raise ValueError(f"{latents} latents do not divide into {groups} equal groups; give the size of each")
        return (latents // groups,) * groups
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
) -> Model:
    """The model of these sizes.

    latents: D. groups: number of equal groups, or the latents of each. width, hidden: convolution width and
    dense units of the group encoders, one number for all or one a group. freeze, calibrate: see GroupedEncoder.
    head_init_scale: initial variance of the posteriors' means and logvars, relative to that of the layer below. At 0.01
      they start near the prior, so that a group which opens late does not disturb what the decoder has learned. The
      presets take 1, between the plain layers of PyTorch (1/3) and TensorFlow 1 (nearly 2); quantised latents need it
      near 1, or all codes start on one value and stay there.
    dtype: 'float32', or 'bfloat16' to compute the layers in half the bits; parameters, posteriors, outputs, losses and
      the optimiser are float32 with either.
    Raises ValueError where sizes do not fit each other, or where an image side does not divide by 16.
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
    _one_each(decoder_width, 1, "decoder_width")
    _one_each(decoder_hidden, 1, "decoder_hidden")
    encoder = GroupedEncoder(
        sizes,
        _one_each(width, len(sizes), "width"),
        _one_each(hidden, len(sizes), "hidden"),
        freeze=freeze,
        calibrate=calibrate,
        head_init_scale=head_init_scale,
        dtype=dtype,
    )
    return Model(encoder, Decoder(tuple(image_shape), decoder_width, decoder_hidden, dtype))
