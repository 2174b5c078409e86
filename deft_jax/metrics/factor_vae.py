"""The FactorVAE metric: a majority vote on the factor that was fixed. Kim and Mnih 2018 (arXiv 1802.05983)."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from deft_jax.metrics import inputs, sampling
from deft_jax.metrics.progress import Progress
from deft_jax.runtime.validation import Count, NonNegative, NonNegativeInt


def factor_vae(
    encode: sampling.Encode,
    factor_sizes: Sequence[int],
    num_variance: Annotated[Count, Field(ge=2)] = 10_000,
    num_train: Count = 10_000,
    num_eval: Count = 5_000,
    batch_size: Annotated[Count, Field(ge=2)] = 64,
    variance_threshold: NonNegative = 0.05,
    seed: NonNegativeInt = 0,
    chunk: Count = 10_000,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """How often the latent that varies least identifies the factor that was fixed.

    Kim and Mnih 2018, section 4. One vote: fix a random factor k at a random value, draw all others, encode the batch
    and take d* = argmin over d of Var_batch(z_d) / Var_global(z_d). The pair (d*, k) is the vote. The classifier maps
    each latent to the factor with most of its training votes, the first of equals; the score is its accuracy on fresh
    votes. Uninformative codes score on average 1 over the number of factors that vary.

    As in disentanglement_lib, with its defaults: variances have ddof = 1, and a latent is left out if it has collapsed,
    that is if its global standard deviation is below the threshold. Two differences: num_active counts the latents
    that remain (there it is always D), and a factor with one value is never fixed (there it is, which makes the vote a
    guess), though it stays a column of the factors.

    Cost: num_variance + (num_train + num_eval) * batch_size encodings, 970,000 by default, in chunks. Memory by default
    and with five factors: about 13 MB of factors, and 0.08 MB per latent for a chunk.

    Training and evaluation votes are drawn from the same images, so on a small set part of the score is chance: codes
    that are noise, one draw per image, score 0.90 on 2 x 3 images, 0.48 on 4 x 5 x 10 and 0.35 on 16 x 16 x 16, where
    a guess has 0.50, 0.33 and 0.33 (means of ten seeds).

    Args:
      encode: factors int32 [n, F] -> codes [n, D], finite, for any n up to `chunk`: the posterior means by convention.
        It is called with few different n, so it may be compiled for each.
      factor_sizes: F positive integers; factor j takes the values 0 .. factor_sizes[j] - 1.
      num_variance: examples that estimate the global variances, at least 2.
      num_train: training votes.
      num_eval: evaluation votes.
      batch_size: examples per vote, at least 2.
      variance_threshold: latents whose global standard deviation (the root of the variance, in spite of the name) is
        below it are left out; constant latents always are.
      seed: of the draws, the only randomness.
      chunk: the most examples in one call of `encode`.
      progress: called as progress(done, total) with votes after each chunk.

    Returns:
      {'factor_vae': float, accuracy on the evaluation votes; 'factor_vae_train': float, accuracy on the training
      votes; 'factor_vae_votes': [F, D] int, the training votes; 'factor_vae_num_active': int, latents that were not
      left out; 'num_distinct_train', 'num_distinct_eval': int, distinct images among all votes}. Accuracies are in
      [0, 1], 1 is best, and 0 where all latents are left out.

    Raises:
      ValueError: fewer than two factors have more than one value, a number is out of range, or `encode` returns codes
        that do not fit.

    Example:
      >>> factor_vae(lambda factors: 1.0 * factors, (4, 5), num_train=50, num_eval=20)["factor_vae"]
      1.0
    """
    sizes, varying = sampling.check_sizes(factor_sizes)
    least = {"num_variance": (num_variance, 2), "num_train": (num_train, 1), "num_eval": (num_eval, 1)}
    inputs.check_at_least(least | {"batch_size": (batch_size, 2), "chunk": (chunk, 1)})
    if not variance_threshold >= 0:
        raise ValueError(f"variance_threshold must be >= 0, got {variance_threshold!r}")
    rng = np.random.default_rng(seed)
    factors = rng.integers(sizes, size=(num_variance, len(sizes)), dtype=np.int32)
    variance_D = _active_variance(sampling.encode_in_chunks(encode, factors, chunk), variance_threshold)
    num_active = int(np.count_nonzero(~np.isnan(variance_D)))
    if num_active == 0:
        return _result(np.zeros((len(sizes), len(variance_D)), np.int64), 0, accuracy=(0.0, 0.0), num_distinct=(0, 0))

    sampler = sampling.Sampler(encode, sizes, chunk, num_train + num_eval, progress)
    factors, fixed = _draw_batches(rng, sizes, varying, num_train, batch_size)
    train_FxD, distinct_train = _votes(sampler, factors, fixed, variance_D, 0), sampling.count_distinct(factors)
    factors, fixed = _draw_batches(rng, sizes, varying, num_eval, batch_size)
    eval_FxD, distinct_eval = _votes(sampler, factors, fixed, variance_D, num_train), sampling.count_distinct(factors)
    classifier_D, latents = train_FxD.argmax(axis=0), np.arange(len(variance_D))
    accuracy = (train_FxD[classifier_D, latents].sum() / num_train, eval_FxD[classifier_D, latents].sum() / num_eval)
    return _result(train_FxD, num_active, accuracy, (distinct_train, distinct_eval))


def _active_variance(codes: np.ndarray, threshold: float) -> np.ndarray:
    """Global variance [D] of each latent; NaN where the latent is constant or its deviation below the threshold."""
    variance_D = codes.var(axis=0, ddof=1)
    # The range decides what is constant: rounding may give equal values a tiny variance.
    active_D = (np.sqrt(variance_D) >= threshold) & (np.ptp(codes, axis=0) > 0) & (variance_D > 0)
    return np.where(active_D, variance_D, np.nan)


def _draw_batches(
    rng: np.random.Generator, sizes: np.ndarray, varying: np.ndarray, num_votes: int, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Factors [num_votes, batch_size, F] and the factor [num_votes] that is fixed within each batch."""
    fixed = varying[rng.integers(len(varying), size=num_votes)]
    factors = rng.integers(sizes, size=(num_votes, batch_size, len(sizes)), dtype=np.int32)
    votes = np.arange(num_votes)
    factors[votes, :, fixed] = factors[votes, :1, fixed]
    return factors, fixed


def _votes(
    sampler: sampling.Sampler, factors: np.ndarray, fixed: np.ndarray, variance_D: np.ndarray, done: int
) -> np.ndarray:
    """Counts [F, D] of (fixed factor, latent that varies least); latents of variance NaN are left out."""
    latents = np.flatnonzero(~np.isnan(variance_D))
    votes_FxD = np.zeros((len(sampler.sizes), len(variance_D)), np.int64)
    for part, codes in sampler.encoded_batches(factors, done):
        local = codes[:, :, latents].var(axis=1, ddof=1)
        least = latents[np.argmin(local / variance_D[latents], axis=1)]
        np.add.at(votes_FxD, (fixed[part], least), 1)
    return votes_FxD


def _result(
    votes_FxD: np.ndarray, num_active: int, accuracy: tuple[float, float], num_distinct: tuple[int, int]
) -> dict[str, Any]:
    """The result; pairs are of training and of evaluation."""
    return {
        "factor_vae": float(accuracy[1]),
        "factor_vae_train": float(accuracy[0]),
        "factor_vae_votes": votes_FxD,
        "factor_vae_num_active": num_active,
        "num_distinct_train": num_distinct[0],
        "num_distinct_eval": num_distinct[1],
    }
