"""A decoder as a list of layers with their weights, for programs that run it without JAX.

The list is read from a call of the decoder itself, so that it follows what `kinds.Decoder` does.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from deft_jax.models.convolutions import conv_up, dense
from deft_jax.models.kinds import Decoder, crop
from deft_jax.models.layers import ConvUp, Dense
from deft_jax.models.networks import Model, Params


class Layer(NamedTuple):
    """One layer of a decoder.

    Attributes:
      kind: 'dense' or 'conv_up', see `convolutions.dense` and `convolutions.conv_up`.
      relu: whether max(y, 0) follows.
      input_shape: of one example: (inputs,), or (channels, rows, columns).
      kernel: (inputs, outputs), or (4, 4, output channels, input channels).
      bias: one number per output or output channel.
    """

    kind: Literal["dense", "conv_up"]
    relu: bool
    input_shape: tuple[int, ...]
    kernel: np.ndarray
    bias: np.ndarray


def decoder_layers(model: Model, params: Params) -> list[Layer]:
    """The layers of a model's decoder in the order in which it calls them.

    Between two layers the numbers keep their order: outputs of a dense layer are the (channels, rows, columns) of the
    convolution that follows, or of the image. The layers compute in float32, whatever `decoder.dtype` is.

    Args:
      model: whose decoder is called.
      params: of the model.

    Returns:
      One entry per layer.

    Raises:
      ValueError: the decoder has a layer of another kind, or is no sequence of layers.

    Example:
      >>> from deft_jax.models import build
      >>> model = build((16, 32, 1), latents=2, groups=1, width=2, hidden=4, decoder_width=3, decoder_hidden=5)
      >>> params = jax.tree.map(lambda leaf: np.zeros(leaf.shape), jax.eval_shape(model.init, jax.random.key(0)))
      >>> for layer in decoder_layers(model, params):
      ...     print(layer.kind, layer.input_shape, layer.kernel.shape, layer.relu)
      dense (2,) (2, 5) True
      dense (5,) (5, 12) True
      conv_up (6, 1, 2) (4, 4, 6, 6) True
      conv_up (6, 2, 4) (4, 4, 3, 6) True
      conv_up (3, 4, 8) (4, 4, 3, 3) True
      conv_up (3, 8, 16) (4, 4, 1, 3) False
    """
    if model.kind == "mlp":
        raise ValueError("its dense layers have a linear path beside them")
    layers: list[Layer] = []

    def record(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: Any) -> Any:
        module = context.module
        if context.method_name != "__call__" or isinstance(module, Decoder):
            return call(*args, **kwargs)
        if not isinstance(module, (Dense, ConvUp)):
            raise ValueError(f"the decoder has a layer {type(module).__name__}; known: Dense, ConvUp")
        weights = module.variables["params"]
        kernel, bias = (np.asarray(weights[name], np.float32) for name in ("kernel", "bias"))
        kind: Literal["dense", "conv_up"] = "dense" if isinstance(module, Dense) else "conv_up"
        layers.append(Layer(kind, module.relu, tuple(args[0].shape[:-1]), kernel, bias))
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        jax.eval_shape(lambda z: model.decode(params, z), jnp.zeros((1, model.num_latents)))
    return layers


def apply_layers(layers: Sequence[Layer], z_BxD: jax.Array, image_shape: Sequence[int]) -> jax.Array:
    """What the layers compute: the decoder itself, in float32.

    Args:
      layers: of `decoder_layers`, at times with other weights.
      z_BxD: codes.
      image_shape: (H, W, C) of the model's images; outputs of convolutions may be larger, and their middle is taken.

    Returns:
      Logits or means [B, H, W, C].

    Example:
      >>> spread = Layer("dense", True, (1,), np.ones((1, 2)), np.array([0.0, -5.0]))
      >>> image = Layer("conv_up", False, (2, 1, 1), np.ones((4, 4, 1, 2)), np.zeros(1))
      >>> print(apply_layers([spread, image], jnp.array([[3.0], [6.0]]), (2, 2, 1)).reshape(2, 4))
      [[3. 3. 3. 3.]
       [7. 7. 7. 7.]]
    """
    x = z_BxD.T
    for layer in layers:
        x = x.reshape(*layer.input_shape, x.shape[-1])
        kernel, bias = jnp.asarray(layer.kernel), jnp.asarray(layer.bias)
        function = dense if layer.kind == "dense" else conv_up
        x = function(x, kernel, bias, relu=layer.relu)
    height, width, channels = image_shape
    if x.ndim == 2:  # the last layer is dense
        x = x.reshape(channels, height, width, -1)
    return crop(x, image_shape).transpose(3, 1, 2, 0)
