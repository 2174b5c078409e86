"""Active, mixed and passive latents, Bonheme and Grzes 2021 (arXiv 2109.12679)."""

from typing import Any

import numpy as np
import numpy.typing as npt

from deft_jax.metrics import inputs


def active_latents(
    mean: npt.ArrayLike,
    logvar: npt.ArrayLike,
    active_variance: float = 0.1,
    passive_tolerance: float = 0.1,
    passive_mean_variance: float = 0.1,
) -> dict[str, Any]:
    """Classifies the latents of a VAE by their posteriors q(z_d|x) = N(mu_d(x), sigma_d^2(x)) over a sample of images.

    Source: Bonheme and Grzes 2021, 'Be More Active! Understanding the Differences between Mean and Sampled
    Representations of Variational Autoencoders', section 3, the polarised regime over many images.

      active:  sigma^2 is close to 0 for all images:  mean over images of sigma^2 <= active_variance.
      passive: the posterior is the prior for all images, sigma^2 close to 1 and mu close to 0:
               |mean over images of sigma^2 - 1| <= passive_tolerance, and
               variance over images of mu < passive_mean_variance.
      mixed:   all others: active for some images and passive for others, or in between.

    All three thresholds are 0.1 in the authors' code. One condition differs: their code has variance over images of
    sigma^2 < 0.1, for active latents too. For sigma^2 in [0, 1] a small mean of sigma^2 implies it (at most 0.9 * 0.1),
    so the variance of mu is tested here, which separates a latent that moves from one that does not.

    Args:
      mean: [N, D] finite real numbers, mu.
      logvar: [N, D] finite real numbers, log sigma^2.
      active_variance: the largest mean sigma^2 of an active latent.
      passive_tolerance: the largest distance of the mean sigma^2 of a passive latent from 1.
      passive_mean_variance: the variance of mu of a passive latent is below this.

    Returns:
      {'active', 'mixed', 'passive': [D] bool, exactly one of them true for each latent;
      'variance': [D], mean over images of sigma^2; 'variance_of_mean': [D], variance over images of mu (ddof = 0)}.

    Raises:
      ValueError: the arrays are empty, not finite or not of the same shape [N, D], or the thresholds are negative or
        overlap (active_variance >= 1 - passive_tolerance).

    Example:
      >>> mean = [[-1.0, 0.0], [1.0, 0.0]]
      >>> latents = active_latents(mean, logvar=np.log([[0.01, 1.0], [0.01, 1.0]]))
      >>> latents["active"], latents["passive"]
      (array([ True, False]), array([False,  True]))
    """
    mean, logvar = inputs.finite_codes(mean, "mean"), inputs.finite_codes(logvar, "logvar")
    if mean.shape != logvar.shape:
        raise ValueError(f"mean and logvar must have the same shape, got {mean.shape} and {logvar.shape}")
    if not min(active_variance, passive_tolerance, passive_mean_variance) >= 0:
        raise ValueError("thresholds must be >= 0")
    if not active_variance < 1 - passive_tolerance:
        raise ValueError(
            f"active_variance {active_variance!r} must be below 1 - passive_tolerance, "
            f"{1 - passive_tolerance!r}: a latent could be active and passive"
        )
    variance = np.exp(logvar.astype(np.float64)).mean(axis=0)
    variance_of_mean = mean.astype(np.float64).var(axis=0)
    active = variance <= active_variance
    passive = (np.abs(variance - 1) <= passive_tolerance) & (variance_of_mean < passive_mean_variance)
    return {
        "active": active,
        "mixed": ~(active | passive),
        "passive": passive,
        "variance": variance,
        "variance_of_mean": variance_of_mean,
    }
