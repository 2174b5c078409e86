"""What metrics that count classes share: a checked sample in bins, with factors that have an entropy."""

import numpy as np

from deft_jax.metrics import inputs, mutual_information


def sample(codes, factors, continuous, num_bins) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict]:
    """A checked sample with latents, and factors where continuous, in equal-width bins.

    Args:
      codes: [N, D] finite real numbers.
      factors: [N, F] integers >= 0; finite real numbers where continuous.
      continuous: False, F booleans, or None: see `inputs.as_classes`.
      num_bins: bins per latent and per continuous factor.

    Returns:
      (bins [N, D] int64, classes [N, F] int64, entropy of each factor [F] in nats, notes: {'binned_factors': their
      indices} where a factor was binned, else {}).

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample; one line says which.
    """
    codes, classes, binned = inputs.as_classes(codes, factors, continuous, num_bins)
    entropy_F = mutual_information.entropy(classes)
    if not entropy_F.all():
        constant = np.flatnonzero(entropy_F == 0)[0]
        raise ValueError(f"factor {constant} is constant in the sample, its entropy is 0: leave it out")
    notes = {"binned_factors": binned} if len(binned) else {}
    return mutual_information.discretise(codes, num_bins), classes, entropy_F, notes
