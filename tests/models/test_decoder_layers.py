"""A decoder as a list of layers: it computes what the decoder computes, and says where it cannot."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import linen as nn

from deft_jax.models import build
from deft_jax.models.decoder_layers import apply_layers, decoder_layers
from deft_jax.models.networks import Decoder

CASES = [((16, 48, 3), "float32", 1e-4), ((32, 16, 1), "bfloat16", 0.2), ((28, 19, 2), "float32", 1e-4)]


@pytest.mark.parametrize(("shape", "dtype", "tolerance"), CASES)
def test_layers_compute_what_the_decoder_computes(shape, dtype, tolerance):
    model = build(shape, latents=3, groups=1, width=1, hidden=2, decoder_width=3, decoder_hidden=5, dtype=dtype)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(0, 1 / leaf.shape[-1] ** 0.5, leaf.shape).astype(np.float32),
                          jax.eval_shape(model.init, jax.random.key(0)))  # fmt: skip
    z = rng.normal(size=(4, 3)).astype(np.float32)
    wanted = np.asarray(jax.jit(model.decode)(params, z))
    assert wanted.std() > 0.5
    computed = jax.jit(lambda z: apply_layers(decoder_layers(model, params), z, shape))(z)
    np.testing.assert_allclose(computed, wanted, atol=tolerance)


class Normalised(Decoder):
    """A decoder with a layer that the list has no name for."""

    @nn.compact
    def __call__(self, z):
        return nn.LayerNorm()(z)[:, :, None, None]


def test_a_layer_of_another_kind_is_refused_by_name():
    model = build((16, 16, 1), latents=2, groups=1, width=1, hidden=2, decoder_width=2, decoder_hidden=2)
    model = dataclasses.replace(model, decoder=Normalised((16, 16, 1), 2, 2))
    params = {"decoder": {"LayerNorm_0": {"scale": np.ones(2), "bias": np.zeros(2)}}}
    with pytest.raises(ValueError, match="LayerNorm"):
        decoder_layers(model, params)
