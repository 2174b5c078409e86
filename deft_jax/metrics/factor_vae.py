"""The FactorVAE metric: a majority vote on the factor that was held fixed. Kim and Mnih 2018 (arXiv 1802.05983)."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from deft_jax.metrics import inputs
from deft_jax.runtime.validation import Count, NonNegative, NonNegativeInt


def factor_vae(
    encode: Callable[[np.ndarray], np.ndarray],
    factor_sizes: Sequence[int],
    num_variance: Annotated[Count, Field(ge=2)] = 10_000,
    num_train: Count = 10_000,
    num_eval: Count = 5_000,
    batch_size: Annotated[Count, Field(ge=2)] = 64,
    variance_threshold: NonNegative = 0.05,
    seed: NonNegativeInt = 0,
    chunk: Count = 10_000,
    progress: inputs.Progress | None = None,
) -> dict[str, Any]:
    """How often the latent that varies least tells which factor was held fixed.

    Kim and Mnih 2018, section 4. One vote: hold a random factor k at a random value, draw all others, encode
    the batch and take

        d* = argmin over d of Var_batch(z_d) / Var_global(z_d).

    The pair (d*, k) is the vote. The classifier maps each latent to the factor that most of the training
    votes give it, the first of equals; the score is its accuracy on fresh votes. Without any information in
    the codes it is on average 1 over the number of factors that vary.

    As in disentanglement_lib, with its defaults: variances have ddof = 1, and a latent is left out if it has
    collapsed, that is if its global standard deviation is below the threshold. Two differences: num_active
    counts the latents that are left (there it is D in any case), and a factor with one value is never the
    one held fixed (there it is, which makes the vote a guess), though it stays a column of the factors.

    Cost: num_variance + (num_train + num_eval) * batch_size encodings, 970,000 by default. The factors of
    all training votes are drawn first, then encoded and reduced to votes in chunks, so the codes are never
    held together: by default and with five factors about 13 MB of factors, and 0.08 MB a latent for a chunk.

    Votes of both kinds are drawn from the same images, as the definition has it, so on a set of few images part of the
    score is chance: codes that are noise, one draw per image, score 0.90 on 2 x 3 images, 0.48 on 4 x 5 x 10 and
    0.35 on 16 x 16 x 16, where a guess has 0.50, 0.33 and 0.33
    (means of ten seeds; tests/metrics/test_held_out.py holds the first two).

    Args:
      encode: factors int32 [n, F] -> codes [n, D], finite, for any n up to `chunk`: the posterior means by
        convention. Called with a handful of different n, so that it may be compiled for each.
      factor_sizes: F positive integers, factor j takes the values 0 .. factor_sizes[j] - 1.
      num_variance: examples that estimate the global variances, at least 2.
      num_train: training votes.
      num_eval: evaluation votes.
      batch_size: examples in a vote, at least 2.
      variance_threshold: latents whose global standard deviation (the root of the variance, in spite of the name)
        is below it are left out; constant latents always are.
      seed: of the draws; the only randomness.
      chunk: the most examples in one call of `encode`.
      progress: called as progress(done, total) with votes after each chunk of them, see inputs.Progress.

    Returns:
      {'factor_vae': float, accuracy on the evaluation votes; 'factor_vae_train': float, accuracy on the
      training votes; 'factor_vae_votes': [F, D] int, the training votes; 'factor_vae_num_active': int, latents
      that were not left out; 'num_distinct_train', 'num_distinct_eval': distinct images among all
      votes}. Accuracies are in [0, 1], 1 is best, and 0 where all latents are left out.

    Raises:
      ValueError: fewer than two factors have more than one value, a number is out of range, or `encode`
        returns codes that do not fit; one line says which.
    """
    sizes, free = inputs.checked_sizes(factor_sizes)
    least = {"num_variance": (num_variance, 2), "num_train": (num_train, 1), "num_eval": (num_eval, 1)}
    inputs.check_at_least(least | {"batch_size": (batch_size, 2), "chunk": (chunk, 1)})
    if not variance_threshold >= 0:
        raise ValueError(f"variance_threshold must be >= 0, got {variance_threshold!r}")
    rng = np.random.default_rng(seed)

    sample = rng.integers(sizes, size=(num_variance, len(sizes)), dtype=np.int32)
    codes = inputs.encode_in_chunks(encode, sample, chunk)
    variance_D = codes.var(axis=0, ddof=1)
    # The range decides what is constant: rounding may leave a tiny variance to equal values.
    active = (np.sqrt(variance_D) >= variance_threshold) & (np.ptp(codes, axis=0) > 0) & (variance_D > 0)
    latents = np.flatnonzero(active)

    def vote(num_votes, before):
        """Counts of (factor, latent) over fresh votes, [F, D], and the number of images. before: votes so far."""
        fixed = free[rng.integers(len(free), size=num_votes)]
        factors = rng.integers(sizes, size=(num_votes, batch_size, len(sizes)), dtype=np.int32)
        rows = np.arange(num_votes)
        factors[rows, :, fixed] = factors[rows, :1, fixed]
        votes = np.zeros((len(sizes), len(active)), np.int64)
        step = max(1, chunk // batch_size)
        for start in range(0, num_votes, step):
            block = factors[start : start + step]
            codes = inputs.encode_in_chunks(encode, block.reshape(-1, len(sizes)), chunk)[:, latents]
            local = codes.reshape(len(block), batch_size, len(latents)).var(axis=1, ddof=1)
            winner = latents[np.argmin(local / variance_D[latents], axis=1)]
            np.add.at(votes, (fixed[start : start + step], winner), 1)
            if progress is not None:
                progress(before + start + len(block), num_train + num_eval)
        return votes, inputs.count_distinct(factors, sizes)

    if not active.any():
        nothing = np.zeros((len(sizes), len(active)), np.int64)
        counts = {"factor_vae_num_active": 0, "num_distinct_train": 0, "num_distinct_eval": 0}
        return {"factor_vae": 0.0, "factor_vae_train": 0.0, "factor_vae_votes": nothing, **counts}
    train, distinct_train = vote(num_train, 0)
    evaluation, distinct_eval = vote(num_eval, num_train)
    classifier, columns = train.argmax(axis=0), np.arange(len(active))
    return {
        "factor_vae": float(evaluation[classifier, columns].sum() / num_eval),
        "factor_vae_train": float(train[classifier, columns].sum() / num_train),
        "factor_vae_votes": train,
        "factor_vae_num_active": len(latents),
        "num_distinct_train": distinct_train,
        "num_distinct_eval": distinct_eval,
    }
