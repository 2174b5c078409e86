"""Foreign information of latents, after information diffusion of Wu et al. 2022 (arXiv 2102.03986), section 3.

The paper describes diffusion by curves of NMI and gives no number for it. The ledger of nats is of this library:
docs/explanation/information_diffusion.md.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deft_jax.metrics import binned, information_ledger, inputs
from deft_jax.metrics.inputs import Continuous, NumBins
from deft_jax.metrics.interplay import Step
from deft_jax.runtime.validation import Count, NonNegativeInt


def foreign(
    codes: np.ndarray,
    factors: np.ndarray,
    logvar: np.ndarray,
    num_bins: NumBins = 20,
    continuous: Continuous = None,
    min_images: Count = 5,
    num_images: int | None = None,
    seed: NonNegativeInt = 0,
) -> dict[str, Any]:
    """The share of information that latents carry beside that on one factor each, and how factors spread over latents.

    Factors are functions of the image, so I(z_d; x) = I(z_d; v_k) + I(z_d; x | v_k) for each of them. The home of
    latent d is the factor of largest I(z_d; v_k), and what it carries besides is foreign:

        foreign = sum over d of (I(z_d; x) - I(z_d; v_home)) / sum over d of I(z_d; x),
        foreign_pairwise = sum over d and k other than home of I(z_d; v_k) / sum over d of I(z_d; x),
        spread = 1 - sum over k of max over d of I(z_d; v_k) / sum over k and d of I(z_d; v_k).

    All three are 0 of a perfect code and in [0, 1]. foreign counts what only several factors together tell, which
    foreign_pairwise does not, randomness of images that is no factor, and what is finer than the bins of a continuous
    factor. For each latent with 0.1 nat or more an account follows the chain rule, I(z; v_1 | home) +
    I(z; v_2 | home, v_1) + ...: each step takes the factor that adds most while combinations of values have min_images
    images each on average. Of a step's nats those beyond I(z; v_k) are interplay (interplay.py).

    Closed forms: two latents that are independent factors of two values rotated by 45 degrees have foreign 2/3 and
    spread 1/2; a duplicated latent foreign 0 and spread 1/2; a code unrelated to the factors has foreign 1.

    Mixtures of posteriors are integrated on a grid, as `mig_posterior` does. Of images that are a sample, I(z_d; v_k)
    is too high: foreign is slightly too low, foreign_pairwise and spread clearly too high. Their bias is estimated to
    first order in 1 / N, and subtracted where num_images tells that the sample is not the whole set. Standard errors
    are those of independently drawn images; neither holds of a set that was taken whole.

    Args:
      codes: [N, D] finite real numbers, the posterior means.
      factors: [N, F] integers >= 0; finite real numbers where continuous.
      logvar: [N, D] finite real numbers, the logarithm of the posterior variances.
      num_bins: bins per continuous factor; latents have none.
      continuous: see `inputs.Continuous`; default: detected. Continuous factors are cut into num_bins equal-width bins.
      min_images: fewest images per combination of values, on average, for a step of an account.
      num_images: of the whole set; default: the sample is all of it. A caller that has a data set passes it.
      seed: of the shuffles that a step's information is compared with, integer >= 0.

    Returns:
      Shares: 'foreign', 'foreign_pairwise', 'spread', 'spread_per_factor' [F]; 'foreign_standard_error',
      'spread_standard_error'; 'foreign_bias', 'foreign_pairwise_bias', 'spread_bias', which are subtracted where
      num_images > N; and parts of 'foreign' by the accounts: 'foreign_interplay', and 'foreign_rest', which no account
      explains. Nats: 'information' [D], I(z_d; x); 'factor_information' [D, F]; 'home_information',
      'foreign_information' [D], with 'foreign_information_standard_error' and 'foreign_information_bias'. 'home' [D],
      index of a factor; 'taken' [D], whether a latent has 0.1 nat. Accounts, [D, F - 1] each: 'account_factor', -1
      after the last step; 'account_information', 'account_alone', nats. And 'binned_factors', the indices of the
      continuous factors, where there are any.

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample.

    Example:
      >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
      >>> perfect = foreign(10.0 * factors, factors, logvar=np.zeros((4, 2)))
      >>> round(perfect["foreign"], 3), round(perfect["spread"], 3)
      (0.0, 0.0)
      >>> rotated = foreign(10.0 * factors @ np.array([[1, 1], [1, -1]]), factors, logvar=np.zeros((4, 2)))
      >>> round(rotated["foreign"], 3), round(rotated["spread"], 3)
      (0.667, 0.5)
    """
    mean, classes, notes = binned.classes_of(codes, factors, continuous, num_bins)
    constant = np.flatnonzero((classes == classes[0]).all(axis=0))
    if len(constant):
        raise ValueError(f"factor {constant[0]} is constant in the sample: leave it out")
    logvar = inputs.finite_codes(logvar, "logvar")
    if logvar.shape != mean.shape:
        raise ValueError(f"logvar must have the shape of the codes, got {logvar.shape} and {mean.shape}")
    estimate = information_ledger.estimate(mean, logvar, classes, num_images, min_images, seed)
    ledger, plug_in, corrected = estimate.ledger, estimate.plug_in, estimate.corrected
    total = max(float(ledger.information.sum()), np.finfo(float).tiny)
    steps = [step for account in estimate.accounts for step in account]
    accounted = sum(step.information for step in steps)
    return {
        "foreign": ledger.foreign,
        "foreign_standard_error": estimate.foreign_error,
        "foreign_bias": plug_in.foreign - corrected.foreign,
        "foreign_pairwise": ledger.foreign_pairwise,
        "foreign_pairwise_bias": plug_in.foreign_pairwise - corrected.foreign_pairwise,
        "foreign_interplay": float(sum(step.interplay for step in steps) / total),
        "foreign_rest": max(0.0, float((ledger.foreign_information.sum() - accounted) / total)),
        "spread": ledger.spread,
        "spread_standard_error": estimate.spread_error,
        "spread_bias": plug_in.spread - corrected.spread,
        "spread_per_factor": ledger.spread_per_factor,
        "information": ledger.information,
        "factor_information": ledger.factor_information,
        "home": ledger.home,
        "home_information": ledger.home_information,
        "foreign_information": ledger.foreign_information,
        "foreign_information_standard_error": estimate.foreign_information_error,
        "foreign_information_bias": plug_in.foreign_information - corrected.foreign_information,
        "taken": ledger.taken,
    } | _account_arrays(estimate.accounts, classes.shape[1] - 1) | notes


def _account_arrays(accounts: Sequence[Sequence[Step]], most: int) -> dict[str, np.ndarray]:
    """The steps of each latent as arrays [D, most]."""
    shape = (len(accounts), most)
    factor, information, alone = np.full(shape, -1), np.zeros(shape), np.zeros(shape)
    for d, account in enumerate(accounts):
        for place, step in enumerate(account):
            factor[d, place], information[d, place], alone[d, place] = step.factor, step.information, step.alone
    return {"account_factor": factor, "account_information": information, "account_alone": alone}
