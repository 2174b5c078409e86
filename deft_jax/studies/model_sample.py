"""A sample of images encoded by a trained model, and the metrics of its codes."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from deft_jax import metrics
from deft_jax.evaluation import encoder, scores
from deft_jax.metrics import latents
from deft_jax.models.posterior import Posterior
from deft_jax.training.restore import TrainedModel

IMAGES_PER_CALL = 1_000_000
"""Images per call of `encode` by metrics that draw their images; large calls are the fastest."""

_Encode = Callable[[np.ndarray], np.ndarray]


class ModelSample:
    """A sample of the images of a model's data set; nothing is encoded before it is needed.

    Attributes:
      source: the data set.
      image_N: number of each image, equal for rows of the same image.
      columns: indices of the factors that vary in the sample.
      truth_NxK: values of these factors.
      continuous_K: whether each is continuous rather than a class.
    """

    def __init__(self, model: TrainedModel, num_samples: int, seed: int):
        """Draws the sample.

        Args:
          model: the trained model.
          num_samples: images of the sample; a set with no more images is taken whole.
          seed: of the sample and of sampled codes, >= 0.
        """
        self._model, self._seed = model, seed
        self.source = model.source
        self._factors_NxF = encoder.draw_factors(self.source, num_samples, seed)
        self.image_N = np.ravel_multi_index(tuple(self._factors_NxF.T), self.source.factor_sizes)
        truth = self.source.ground_truth(self._factors_NxF)
        self.columns = scores.varying_factors(truth)
        self.truth_NxK = truth[:, self.columns]
        self.continuous_K = [self.source.ground_truth_continuous[column] for column in self.columns]

    @functools.cached_property
    def posterior(self) -> Posterior:
        """Posteriors of the images: numpy [N, D]."""
        return self._model.encode_factors(self._factors_NxF)

    @functools.cached_property
    def latents(self) -> dict[str, np.ndarray]:
        """Which latents are 'active', 'mixed' and 'passive': booleans [D] each."""
        return latents.active_latents(self.posterior.mean, self.posterior.logvar)

    @functools.cached_property
    def _codes(self) -> dict[str, np.ndarray]:
        mean, logvar = (np.asarray(leaf) for leaf in self.posterior)
        noise = np.random.default_rng(self._seed).standard_normal(mean.shape).astype(np.float32)
        return {"mean": mean, "sampled": mean + np.exp(0.5 * logvar) * noise}

    @functools.cached_property
    def _posterior_of(self) -> encoder.PosteriorCache:
        experiment = self._model.experiment_with_source
        return encoder.PosteriorCache(experiment.source, experiment.encode, self._model.params, self._model.stage)

    def kept_latents(self, variant: str) -> np.ndarray:
        """Indices of the latents of a variant of the codes: all, or those that are not passive."""
        if variant.endswith("_active"):
            return np.flatnonzero(~self.latents["passive"])
        return np.arange(self.posterior.mean.shape[1])

    def dependencies(self, name: str, variant: str) -> tuple[str, tuple[int, ...]]:
        """What the score of a variant depends on; variants with equal dependencies have the same score.

        Posteriors do not depend on the kind of codes; where no latent is passive, nothing depends on 'active'.
        """
        kind = variant.partition("_")[0] if metrics.kind(name) != "posteriors" else ""
        return kind, tuple(self.kept_latents(variant).tolist())

    def compute(
        self, name: str, variant: str, options: Mapping[str, Any], progress: Callable[..., None]
    ) -> dict[str, Any]:
        """The dict of a metric.

        Args:
          name: of the metric.
          variant: of the codes, one of scoring.VARIANTS.
          options: of the metric; those that name factors by index count all factors.
          progress: called with (parts done, parts in all).

        Raises:
          ValueError: no latent is active, or as the metric itself.
        """
        kept = self.kept_latents(variant)
        if not len(kept):
            raise ValueError("no latent is active")
        kind = variant.partition("_")[0]
        offered = {"seed": self._seed, "chunk": IMAGES_PER_CALL, "groups": self.image_N, "progress": progress,
                   "num_images": self.source.num_images}  # fmt: skip
        accepted = scores.accepted(name, offered, self.continuous_K)
        posterior = jax.tree.map(lambda leaf: leaf[:, kept], self.posterior)
        return scores.metric(
            name, self._encode(kind, kept), self._codes[kind][:, kept], self.truth_NxK, self.source, posterior,
            **accepted | _options_of_columns(options, self.columns),
        )  # fmt: skip

    def _encode(self, kind: str, kept: np.ndarray) -> _Encode:
        """Factors -> codes, for metrics that draw images; sampled codes have new noise in every call."""
        rng = np.random.default_rng(self._seed + 1)

        def encode_factors(factors_NxF: np.ndarray) -> np.ndarray:
            mean, logvar = (np.asarray(leaf) for leaf in self._posterior_of(factors_NxF))
            if kind == "sampled":
                noise = rng.standard_normal(mean.shape, dtype=np.float32)
                mean = mean + np.exp(0.5 * logvar) * noise
            return mean[:, kept]

        return encode_factors


def _options_of_columns(options: Mapping[str, Any], columns: np.ndarray) -> dict[str, Any]:
    """A metric's options for the factors of these columns; the options given count all factors."""
    place = {int(column): index for index, column in enumerate(columns)}
    selected = dict(options)
    if isinstance(options.get("continuous"), list | tuple):
        selected["continuous"] = [entry for column, entry in enumerate(options["continuous"]) if column in place]
    if options.get("average_over") is not None:
        selected["average_over"] = [place[column] for column in options["average_over"] if column in place]
    return selected
