"""Mutual information gap (MIG), Chen et al. 2018 (arXiv 1802.04942), eq. 6."""

from deft_jax import information


def mig(codes, factors, num_bins=20):
    """How much more the best latent knows of a factor than the second best, as a share of its entropy.

    MIG = mean over f of (I(z_(1); v_f) - I(z_(2); v_f)) / H(v_f), where (1) and (2) are the two latents with
    the highest mutual information with factor f. Estimated as in disentanglement_lib: equal-width bins per
    latent. With one latent the second highest is 0.

    Args:
      codes: [N, D] finite real numbers, the posterior means by convention.
      factors: [N, F] integers >= 0.
      num_bins: bins per latent.

    Returns:
      {'mig': float, 'mig_per_factor': [F]}, no unit, 1 is best.

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample; one line says which.
    """
    first, second = information.top_two(information.normalised_mutual_information(codes, factors, num_bins))
    return {"mig": float((first - second).mean()), "mig_per_factor": first - second}
