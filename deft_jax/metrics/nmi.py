"""Normalised mutual information of latents and factors, and its two highest values per factor: NMI1, NMI2."""

from typing import Any

import numpy as np

from deft_jax.metrics import binned, mutual_information
from deft_jax.metrics.inputs import Continuous, NumBins


def nmi(
    codes: np.ndarray, factors: np.ndarray, num_bins: NumBins = 20, continuous: Continuous = None
) -> dict[str, Any]:
    """The share I(z_d; v_f) / H(v_f) of each factor in each latent, and the two highest shares of each factor.

    NMI1, the highest share of a factor, measures what one latent has learned of it. NMI2, the second highest, measures
    what a second latent contains as well. Information diffusion (DEFT, arXiv 2102.03986), where information that
    appears at a lower beta spreads over latents that are already in use, raises NMI2 and often lowers NMI1. MIG, the
    mean of NMI1 - NMI2, does not distinguish a factor that spreads from a factor that is not learned.

    Estimated with equal-width bins per latent, as the MIG of disentanglement_lib, which does not return these shares.

    Args:
      codes: [N, D] finite real numbers, the posterior means by convention.
      factors: [N, F] integers >= 0; finite real numbers where continuous.
      num_bins: bins per latent and per continuous factor.
      continuous: see `inputs.Continuous`; default: detected. Continuous factors are cut into num_bins equal-width bins.

    Returns:
      {'nmi': [D, F], 'nmi1': [F], 'nmi2': [F] (0 if D = 1), 'nmi1_latent': [F] int, the latent of NMI1, the first one
      of equals}, no unit; and 'binned_factors', the indices of the continuous factors, where there are any.

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample.

    Example:
      >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
      >>> scores = nmi(1.0 * factors[:, ::-1], factors)
      >>> scores["nmi1"], scores["nmi2"], scores["nmi1_latent"]
      (array([1., 1.]), array([0., 0.]), array([1, 0]))
    """
    sample = binned.bin_sample(codes, factors, continuous, num_bins)
    nmi_DxF = sample.normalised_information()
    first, second = mutual_information.top_two(nmi_DxF)
    return {"nmi": nmi_DxF, "nmi1": first, "nmi2": second, "nmi1_latent": nmi_DxF.argmax(axis=0)} | sample.notes
