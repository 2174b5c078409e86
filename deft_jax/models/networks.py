"""Models of DEFT: an encoder for each group of latents, and one decoder (linen: `init` and `apply` are pure functions).

Their layers are in kinds.py. Examples are [B, H, W, C] and codes [B, D]; vectors and series are examples of one row.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from deft_jax.models.convolutions import method_for
from deft_jax.models.kinds import KINDS, LAYERS, MOST_LAYERS, Decoder, choose, padding
from deft_jax.models.layers import HE, LECUN, ZEROS
from deft_jax.models.posterior import Posterior

_MAX_LATENTS = 10_000
_DTYPES = ("float32", "bfloat16")

Params = Any  # pytree of parameters {'encoder': ..., 'decoder': ...}


class GroupedEncoder(nn.Module):
    """One encoder for each group of latents (Wu et al. 2022, section 4): images -> Posterior of [B, sum(sizes)].

    Groups after `stage` are not computed and have mean = logvar = 0: their z is pure noise, which the decoder learns to
    ignore.

    Attributes:
      sizes: latents of each of G groups.
      widths: width of each group's encoder.
      hidden: dense units of each group.
      freeze: whether groups before `stage` have no backward pass.
      calibrate: whether each latent of a frozen group has a learned scale of its mean and shift of its logvar.
      head_init_scale, dtype, method, layers: as in `kinds.Encoder`.
      kind: of the encoders, a key of kinds.KINDS.
    """

    sizes: Sequence[int]
    widths: Sequence[int]
    hidden: Sequence[int]
    freeze: bool = False
    calibrate: bool = False
    head_init_scale: float = 0.01
    dtype: str = "float32"
    method: str | None = None
    layers: int = LAYERS
    kind: str = "conv"

    @nn.compact
    def __call__(self, images: jax.Array, stage: int) -> Posterior:
        means, logvars = [], []
        for group, (size, width, hidden) in enumerate(zip(self.sizes, self.widths, self.hidden, strict=True)):
            if group > stage and not self.is_initializing():
                means.append(jnp.zeros((images.shape[0], size)))
                logvars.append(jnp.zeros((images.shape[0], size)))
                continue
            options = self.head_init_scale, self.dtype, self.method, self.layers
            encoder = KINDS[self.kind].encoder(size, width, hidden, *options, name=f"group_{group}")
            mean, logvar = encoder(images)
            if self.freeze and group < stage:
                mean, logvar = jax.lax.stop_gradient((mean, logvar))
            if self.calibrate:
                scale = self.param(f"scale_{group}", nn.initializers.ones_init(), (size,))
                shift = self.param(f"shift_{group}", ZEROS, (size,))
                if group < stage:
                    mean, logvar = scale * mean, logvar + shift
            means.append(mean)
            logvars.append(logvar)
        return Posterior(jnp.concatenate(means, axis=1), jnp.concatenate(logvars, axis=1))


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
            z_BxD = nn.leaky_relu(nn.Dense(self.width, kernel_init=HE)(z_BxD), 0.2)
        return nn.Dense(1, kernel_init=LECUN)(z_BxD)[:, 0]


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
    def kind(self) -> str:
        """Of the encoders and the decoder, a key of kinds.KINDS."""
        return self.encoder.kind

    @property
    def summary(self) -> str:
        """Kind, stride-2 layers and padding in words.

        Example:
          >>> sizes = dict(latents=1, groups=1, width=2, hidden=4, decoder_width=2, decoder_hidden=4)
          >>> print(build((28, 28, 1), **sizes).summary)
          conv, 4 stride-2 layers: 28 x 28 is padded with zeros to 32 x 32 and becomes 2 x 2
          >>> print(build((1, 30, 1), kind="mlp", layout="vector", **sizes).summary)
          mlp, dense layers only
        """
        axes, layers = KINDS[self.kind].axes, self.encoder.layers
        if not axes:
            return f"{self.kind}, dense layers only"
        sizes = [self.decoder.image_shape[axis] for axis in axes]
        padded = [size + sum(padding(size, layers)) for size in sizes]
        given, used, least = (" x ".join(map(str, numbers))
                              for numbers in (sizes, padded, [size // 2**layers for size in padded]))  # fmt: skip
        change = "" if given == used else f"is padded with zeros to {used} and "
        return f"{self.kind}, {layers} stride-2 layers: {given} {change}becomes {least}"

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
        """The hidden layers of the decoder at codes z [B, D]: each [B, units] or [B, channels, ...].

        They compute in float32, whatever `decoder.dtype`: finite differences of them would otherwise be differences of
        rounding errors.
        """
        outputs = self.decoder.clone(dtype="float32").apply({"params": params["decoder"]}, z, method="outputs")
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
        kind, encoder = KINDS[self.kind], f"group_{group}"
        rotate: dict[tuple[str, ...], Callable[[jax.Array], jax.Array]] = {}
        for name in kind.heads:
            rotate["encoder", encoder, name, "kernel"] = lambda kernel: kernel @ head.T
            rotate["encoder", encoder, name, "bias"] = lambda bias: head @ bias
        for name in kind.stems:
            rotate["decoder", name, "kernel"] = lambda kernel: all_latents @ kernel

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


def checked_layers(layers: int | None, kind: str) -> int:
    """The number of stride-2 layers.

    Args:
      layers: as for `build`.
      kind: a key of kinds.KINDS.

    Raises:
      ValueError: it is out of bounds, or the kind has no such layers.
    """
    if layers is None:
        return LAYERS
    if not KINDS[kind].axes:
        raise ValueError(f"model.layers counts stride-2 convolutions, and model.kind {kind!r} has none; leave it out")
    if not 1 <= layers <= MOST_LAYERS:
        raise ValueError(f"model.layers must be from 1 to {MOST_LAYERS}, got {layers}")
    return layers


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
    kind: str | None = None,
    layers: int | None = None,
    layout: str = "image",
) -> Model:
    """Builds a model.

    Args:
      image_shape: (H, W, C) of any size; of vectors (1, F, 1), of series (1, T, C).
      latents: number of latents of all groups together, D.
      groups: number of equal groups, or the latents of each.
      width: of the group encoders, one number for all or one per group: channels of the first convolutions, or units of
        the first dense layer.
      hidden: units of the last dense layer of the group encoders, one number for all or one per group.
      decoder_width: the same of the decoder's last layers.
      decoder_hidden: units of the decoder's first dense layer.
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
      kind: 'conv', 'mlp' or 'conv1d'. Default: None, that which suits the layout (kinds.SUITS).
      layers: stride-2 layers of 'conv' and 'conv1d', 1 to 8. Default: None, 4.
      layout: what an example is, 'image', 'vector' or 'series'.

    Returns:
      A Model; its parameters come from `Model.init`.

    Raises:
      ValueError: sizes do not fit each other, or the kind does not fit the layout.
    """
    sizes = group_sizes(latents, groups)
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise ValueError(f"image shape must be (H, W, C), each positive, got {tuple(image_shape)}")
    kind = choose(kind, layout)
    layers = checked_layers(layers, kind)
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
        layers=layers,
        kind=kind,
    )
    decoder = KINDS[kind].decoder(tuple(image_shape), decoder_width, decoder_hidden, dtype, method, layers)
    return Model(encoder, decoder)
