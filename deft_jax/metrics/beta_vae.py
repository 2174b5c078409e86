"""The beta-VAE metric: a linear classifier of the factor that pairs of images share. Higgins et al. 2017."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from deft_jax.metrics import inputs, sampling
from deft_jax.metrics.progress import Progress
from deft_jax.runtime.validation import Count, NonNegativeInt


def beta_vae(
    encode: sampling.Encode,
    factor_sizes: Sequence[int],
    num_train: Annotated[Count, Field(ge=2)] = 10_000,
    num_eval: Count = 5_000,
    batch_size: Count = 64,
    seed: NonNegativeInt = 0,
    chunk: Annotated[Count, Field(ge=2)] = 10_000,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """How often a linear classifier identifies the factor that pairs of images share.

    Higgins et al. 2017 (ICLR, 'beta-VAE: Learning basic visual concepts with a constrained variational framework'),
    section 3. One point: choose a random factor k, draw batch_size pairs of images that agree in k and are independent
    otherwise, and average the distance of their codes,

        x_d = mean over pairs of |z_d(first) - z_d(second)|, with label k.

    As in disentanglement_lib, with its defaults: the features are not standardised, the classifier is sklearn's
    LogisticRegression with its defaults (multinomial, L2 penalty, C = 1, tol = 1e-4), and the score is its accuracy on
    fresh points. Because of the penalty the scale of a latent matters: one that hardly varies is ignored. Two
    differences. The solver is newton-cg with max_iter = 1000: the default, lbfgs with 100, stops before the optimum on
    codes of usual scale (releases of sklearn before 0.22 fit one classifier per factor by default). And a factor with
    one value is never the shared one (there it is, which makes the label a guess), though it stays a column of the
    factors. Uninformative codes score on average 1 over the number of factors that vary.

    Cost: 2 (num_train + num_eval) * batch_size encodings, 1,920,000 by default, in chunks. Memory by default and with
    five factors: about 26 MB of factors, and 0.08 MB per latent for a chunk.

    Training and evaluation points are drawn from the same images, so on a small set part of the score is chance: codes
    that are noise, one draw per image, score 1.00 on 2 x 3 images, 0.48 on 4 x 5 x 10 and 0.34 on 16 x 16 x 16, where
    a guess has 0.50, 0.33 and 0.33 (means of ten seeds).

    Args:
      encode: factors int32 [n, F] -> codes [n, D], finite, for any n up to `chunk`: the posterior means by convention.
        It is called with few different n, so it may be compiled for each.
      factor_sizes: F positive integers; factor j takes the values 0 .. factor_sizes[j] - 1.
      num_train: points the classifier is fitted to.
      num_eval: points it is scored on.
      batch_size: pairs averaged in a point.
      seed: of the draws, the only randomness.
      chunk: the most examples in one call of `encode`, at least 2.
      progress: called as progress(done, total) with points after each chunk.

    Returns:
      {'beta_vae': float, accuracy on the evaluation points; 'beta_vae_train': float, accuracy on the training
      points, in [0, 1], 1 is best; 'num_distinct_train', 'num_distinct_eval': int, distinct images among all points}.

    Raises:
      ValueError: fewer than two factors have more than one value, a number is out of range, all training points have
        the same label, or `encode` returns codes that do not fit.

    Example:
      >>> beta_vae(lambda factors: 1.0 * factors, (4, 5), num_train=50, num_eval=20)["beta_vae"]
      1.0
    """
    from sklearn.linear_model import LogisticRegression

    sizes, varying = sampling.check_sizes(factor_sizes)
    least = {"num_train": (num_train, 2), "num_eval": (num_eval, 1), "batch_size": (batch_size, 1)}
    inputs.check_at_least(least | {"chunk": (chunk, 2)})
    rng = np.random.default_rng(seed)
    sampler = sampling.Sampler(encode, sizes, chunk, num_train + num_eval, progress)

    factors, labels = _draw_pairs(rng, sizes, varying, num_train, batch_size)
    features = _features(sampler, factors, done=0)
    if (labels == labels[0]).all():
        raise ValueError(f"all {num_train} training points share factor {labels[0]}: raise num_train")
    classifier = LogisticRegression(solver="newton-cg", max_iter=1000).fit(features, labels)
    train_accuracy, distinct_train = classifier.score(features, labels), sampling.count_distinct(factors)
    factors, labels = _draw_pairs(rng, sizes, varying, num_eval, batch_size)
    features = _features(sampler, factors, done=num_train)
    return {
        "beta_vae": float(classifier.score(features, labels)),
        "beta_vae_train": float(train_accuracy),
        "num_distinct_train": distinct_train,
        "num_distinct_eval": sampling.count_distinct(factors),
    }


def _draw_pairs(
    rng: np.random.Generator, sizes: np.ndarray, varying: np.ndarray, num_points: int, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Factors [num_points, batch_size, 2, F] and the factor [num_points] that the pairs of each point share."""
    shared = varying[rng.integers(len(varying), size=num_points)]
    factors = rng.integers(sizes, size=(num_points, batch_size, 2, len(sizes)), dtype=np.int32)
    points = np.arange(num_points)
    factors[points, :, 1, shared] = factors[points, :, 0, shared]
    return factors, shared


def _features(sampler: sampling.Sampler, factors: np.ndarray, done: int) -> np.ndarray:
    """Mean distance [num_points, D] of the codes of pairs."""
    blocks = sampler.encoded_batches(factors, done)
    return np.concatenate([np.abs(codes[:, :, 0] - codes[:, :, 1]).mean(axis=1) for _, codes in blocks])
