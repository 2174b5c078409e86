"""Samples in equal-width bins, and the mutual information of their latents and factors."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deft_jax.metrics import inputs, mutual_information


class BinnedSample(NamedTuple):
    """A checked sample of N rows in bins."""

    bins: np.ndarray
    """[N, D] int64 bins of the latents."""
    classes: np.ndarray
    """[N, F] int64 classes of the factors; bins where a factor is continuous."""
    entropy: np.ndarray
    """[F] entropy of each factor in nats, above 0."""
    notes: dict[str, Any]
    """{'binned_factors': indices of the continuous factors}; empty where there are none."""

    def information(self) -> np.ndarray:
        """I(z_d; v_f) in nats, [D, F]."""
        return mutual_information.mutual_information(self.bins, self.classes)

    def normalised_information(self) -> np.ndarray:
        """I(z_d; v_f) / H(v_f), [D, F]."""
        return self.information() / self.entropy


def bin_sample(
    codes: npt.ArrayLike, factors: npt.ArrayLike, continuous: inputs.Continuous, num_bins: int
) -> BinnedSample:
    """Checks a sample and cuts its latents, and its continuous factors, into equal-width bins.

    Args:
      codes: [N, D] finite real numbers.
      factors: [N, F] integers >= 0; finite real numbers where continuous.
      continuous: see `inputs.Continuous`.
      num_bins: bins per latent and per continuous factor.

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample.
    """
    codes, classes, notes = classes_of(codes, factors, continuous, num_bins)
    entropy_F = mutual_information.entropy(classes)
    if not entropy_F.all():
        constant = np.flatnonzero(entropy_F == 0)[0]
        raise ValueError(f"factor {constant} is constant in the sample, its entropy is 0: leave it out")
    return BinnedSample(mutual_information.discretise(codes, num_bins), classes, entropy_F, notes)


def classes_of(
    codes: npt.ArrayLike, factors: npt.ArrayLike, continuous: inputs.Continuous, num_bins: int
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Checks a sample and cuts its continuous factors into equal-width bins; the codes stay as they are.

    Args:
      codes: [N, D] finite real numbers.
      factors: [N, F] integers >= 0; finite real numbers where continuous.
      continuous: see `inputs.Continuous`.
      num_bins: bins per continuous factor.

    Returns:
      (codes [N, D], classes int64 [N, F], notes as in `BinnedSample`).

    Raises:
      ValueError: an input does not fit.
    """
    sample = inputs.mixed_samples(codes, factors, continuous, allow_constant=True)
    notes = {"binned_factors": np.flatnonzero(sample.continuous)} if sample.continuous.any() else {}
    return sample.codes, bin_continuous(sample, num_bins), notes


def bin_continuous(sample: inputs.Sample, num_bins: int) -> np.ndarray:
    """Classes int64 [N, F] of a checked sample, with continuous factors in equal-width bins."""
    classes = [
        mutual_information.discretise(column[:, None], num_bins)[:, 0] if is_continuous else column
        for column, is_continuous in zip(sample.columns, sample.continuous, strict=True)
    ]
    return np.stack(classes, axis=1)
