"""Semi-supervised training: a few labelled images beside the unlabelled ones. Locatello et al. 2020, arXiv 1905.01258.

Factor k belongs to latent k. Its values are scaled to [0, 1], the posterior mean of the latent is a logit, and the
binary cross-entropy of both, summed over factors, is added to the loss. It goes with every objective and with the
groups of DEFT: a factor whose latent has not opened waits for it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from deft_jax.data.factors import from_index
from deft_jax.data.source import Source
from deft_jax.training.config import SupervisionConfig
from deft_jax.training.draws import random_words


class Labelled(NamedTuple):
    """The labelled images of a training.

    Attributes:
      factors: int32 [N, F], what `Source.render` draws them from.
      targets: float32 [N, K], values of K factors in [0, 1]; factor k belongs to latent k.
      weight: of the cross-entropy in the loss.
      batch_size: labelled images per step, drawn with repetition.
    """

    factors: np.ndarray
    targets: np.ndarray
    weight: float
    batch_size: int


def draw_labelled(source: Source, config: SupervisionConfig, num_latents: int) -> Labelled:
    """The labelled images of a configuration, drawn without repetition, a function of its seed.

    Args:
      source: with factors or labels.
      config: how many, of which factors.
      num_latents: D, of the model.

    Raises:
      ValueError: one line: the set has fewer images, no such factor, or more factors than there are latents.
    """
    names = source.ground_truth_names
    chosen = config.factors if config.factors is not None else names
    if unknown := [name for name in chosen if name not in names]:
        raise ValueError(f"supervision.factors must be among {', '.join(names) or 'none, the set has no labels'}, "
                         f"got {', '.join(unknown)}")
    if config.labels > source.num_images:
        raise ValueError(f"supervision.labels must be at most the number of images, {source.num_images}, "
                         f"got {config.labels}")
    extremes = source.labels if source.labels is not None else np.array([np.zeros(len(names)), source.factor_sizes])
    low, high = extremes.min(axis=0), extremes.max(axis=0) - (source.labels is None)
    columns = [column for column in map(names.index, chosen) if high[column] > low[column]]
    if not columns:
        raise ValueError("supervision needs a factor or label with more than one value; data.name has none")
    if len(columns) > num_latents:
        raise ValueError(f"supervision.factors must name at most {num_latents} factors, one per latent of the model, "
                         f"got {len(columns)}")
    rng = np.random.default_rng(config.seed)
    factors = np.asarray(from_index(rng.choice(source.num_images, config.labels, replace=False), source.factor_sizes))
    targets = ((source.ground_truth(factors) - low) / np.maximum(high - low, 1e-30))[:, columns]
    return Labelled(factors.astype(np.int32), targets.astype(np.float32), float(config.weight), config.batch_size)


def labelled_batch(
    key: jax.Array, labelled: Labelled, examples_B: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Factors [B, F], targets [B, K] and image keys [B] of some labelled images of a step.

    Args:
      key: of the step, for this purpose only.
      labelled: all of them.
      examples_B: indices in the whole labelled batch, integers [B].
    """
    words_Bx3 = random_words(key, examples_B, 3)
    index_B = words_Bx3[:, 2] % np.uint32(len(labelled.factors))
    image_keys = jax.random.wrap_key_data(words_Bx3[:, :2])
    return jnp.asarray(labelled.factors)[index_B], jnp.asarray(labelled.targets)[index_B], image_keys


def cross_entropy(mean_BxD: jax.Array, targets_BxK: jax.Array) -> jax.Array:
    """Binary cross-entropy of the first K latents and K factors, in nats: [], the batch mean of the sum over factors.

    Args:
      mean_BxD: posterior means, the logits.
      targets_BxK: values of the factors in [0, 1].

    Example:
      A logit of 0 says nothing, whatever the value:

      >>> print(cross_entropy(jnp.zeros((2, 3)), jnp.array([[0.0], [0.7]])))  # log 2
      0.6931472
    """
    logits = mean_BxD[:, : targets_BxK.shape[1]]
    return jnp.mean(jnp.sum(optax.sigmoid_binary_cross_entropy(logits, targets_BxK), axis=1))
