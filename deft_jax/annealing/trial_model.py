"""The VAE of a trial: encoder and decoder are each a linear map plus one hidden layer, on the pixels that vary.

It is small because a sweep has few images. The linear map matters: near the collapsed state a deep decoder is a product
of several small weights and takes long to leave it, which would be read as a lower freezing point.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from deft_jax.models.posterior import Posterior

_SMALL = nn.initializers.normal(0.01)


def _first_layer(hidden: int) -> Callable[[jax.Array, Sequence[int], Any], jax.Array]:
    """Initialiser with ordinary weights of the hidden units and small ones of the linear map beside them."""

    def init(key: jax.Array, shape: Sequence[int], dtype: Any) -> jax.Array:
        return nn.initializers.lecun_normal()(key, shape, dtype) * jnp.where(jnp.arange(shape[1]) < hidden, 1.0, 0.01)

    return init


class Encoder(nn.Module):
    """Pixels [B, P], less their mean -> a posterior of [B, latents]."""

    latents: int
    hidden: int

    @nn.compact
    def __call__(self, x_BxP: jax.Array) -> Posterior:
        both = nn.Dense(self.hidden + 2 * self.latents, kernel_init=_first_layer(self.hidden), name="first")(x_BxP)
        h, linear = both[:, : self.hidden], both[:, self.hidden :]
        out = linear + nn.Dense(2 * self.latents, use_bias=False, kernel_init=_SMALL, name="out")(nn.gelu(h))
        return Posterior(out[:, : self.latents], out[:, self.latents :])


class Decoder(nn.Module):
    """z [B, D] -> outputs [B, pixels]."""

    pixels: int
    hidden: int

    @nn.compact
    def __call__(self, z_BxD: jax.Array) -> jax.Array:
        h = nn.gelu(nn.Dense(self.hidden, name="hidden")(z_BxD))
        return nn.Dense(self.pixels, kernel_init=_SMALL, name="out")(jnp.concatenate([h, z_BxD], axis=1))
