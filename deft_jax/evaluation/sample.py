"""The images of one evaluation with their labels, and the metrics of their codes.

`LabelledSample.check` computes a metric of constant codes. Nothing is trained for that, so what a metric would refuse
of the options, of the labels or of the size of the sample is refused before a training starts.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from deft_jax import metrics
from deft_jax.data.source import Source
from deft_jax.evaluation import encoder, scores
from deft_jax.models.posterior import Posterior


class LabelledSample:
    """Images that are drawn for an evaluation, and the labels of those factors that vary among them.

    Attributes:
      source: the data set.
      factors_NxF: of the images, as the renderer of the source takes them: int32.
      image_N: number of each image, equal for rows of the same image.
      truth_NxF: labels of all factors.
      columns: indices of the factors that vary in the sample.
      truth_NxK: labels of these factors.
      continuous_K: whether each of them is continuous rather than a class.
    """

    def __init__(self, source: Source, num_samples: int, seed: int):
        """Draws the sample.

        Args:
          source: the data set.
          num_samples: images of the sample; a set with no more images is taken whole.
          seed: of the draw, at least 0.
        """
        self.source = source
        self.factors_NxF = encoder.draw_factors(source, num_samples, seed)
        self.image_N = np.ravel_multi_index(tuple(self.factors_NxF.T), source.factor_sizes)
        self.truth_NxF = source.ground_truth(self.factors_NxF)
        self.columns = scores.varying_factors(self.truth_NxF)
        self.truth_NxK = self.truth_NxF[:, self.columns]
        self.continuous_K = [source.ground_truth_continuous[column] for column in self.columns]

    def metric(
        self,
        name: str,
        encode: Callable[[np.ndarray], np.ndarray],
        codes: np.ndarray,
        posterior: Posterior,
        options: Mapping[str, Any],
        **offered: Any,
    ) -> dict[str, Any]:
        """The dict of a metric, of the factors that vary.

        Args:
          name: of the metric.
          encode: factors, integers [M, F] -> codes [M, D], for a metric that draws its own images.
          codes: of the images of the sample, [N, D].
          posterior: of the same images and latents.
          options: of the metric; `continuous` and `average_over` count all factors of the data set.
          **offered: arguments that are passed on where the metric has them, such as `seed`.

        Raises:
          ValueError: an option does not fit the data set, or as the metric itself.
        """
        offered = {"groups": self.image_N, "num_images": self.source.num_images} | offered
        accepted = scores.accepted(name, offered, self.continuous_K)
        return scores.metric(
            name, encode, codes, self.truth_NxK, self.source, posterior, **accepted | self._of_columns(options)
        )

    def check(self, name: str, options: Mapping[str, Any]) -> None:
        """Checks that a metric can be computed of this sample, without a model.

        A metric of the user is checked against the data set only, since it may need codes that vary.

        Args:
          name: of the metric.
          options: of the metric, as for `metric`.

        Raises:
          ValueError: it cannot: the metric refuses an option, or the labels of the sample.
        """
        scores.check_metric(name, self.source)
        self._of_columns(options)
        if name not in metrics.REGISTRY or metrics.kind(name) == "runs":
            return
        zeros: Any = np.zeros((len(self.factors_NxF), 1), np.float32)  # not of JAX, which would compile a program
        try:
            self.metric(
                name, lambda factors: np.zeros((len(factors), 1), np.float32), zeros, Posterior(zeros, zeros), options,
                progress=_stop_at_start,
            )  # fmt: skip
        except _Checked:
            pass

    def _of_columns(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """A metric's options for the factors that vary; the options given count all factors."""
        selected, num_factors = dict(options), len(self.source.ground_truth_names)
        place = {int(column): index for index, column in enumerate(self.columns)}
        continuous, averaged = options.get("continuous"), options.get("average_over")
        if continuous is True or (isinstance(continuous, Sequence) and len(continuous) != num_factors):
            raise ValueError(f"continuous must be False or {num_factors} booleans, got {continuous!r}")
        if isinstance(continuous, Sequence):
            selected["continuous"] = [continuous[column] for column in place]
        if isinstance(averaged, Sequence) and all(isinstance(factor, int) for factor in averaged):
            if any(not 0 <= factor < num_factors for factor in averaged):
                raise ValueError(f"average_over must be different indices from 0 to {num_factors - 1}, got {averaged}")
            selected["average_over"] = [place[factor] for factor in averaged if factor in place]
            if averaged and not selected["average_over"]:
                raise ValueError(f"the factors of average_over = {averaged} are constant in the sample")
        return selected


class _Checked(Exception):
    """A metric has checked its arguments and would now fit its predictors."""


def _stop_at_start(done: int, total: int) -> None:
    """A callback of progress; most metrics are fast where codes are constant, others report before they fit."""
    if not done:
        raise _Checked
