"""The beta-VAE metric: a linear classifier of the factor that a pair of images shares. Higgins et al. 2017."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from deft_jax.metrics import inputs
from deft_jax.runtime.validation import Count, NonNegativeInt


def beta_vae(
    encode: Callable[[np.ndarray], np.ndarray],
    factor_sizes: Sequence[int],
    num_train: Annotated[Count, Field(ge=2)] = 10_000,
    num_eval: Count = 5_000,
    batch_size: Count = 64,
    seed: NonNegativeInt = 0,
    chunk: Annotated[Count, Field(ge=2)] = 10_000,
    progress: inputs.Progress | None = None,
) -> dict[str, Any]:
    """How often a linear classifier tells which factor pairs of images have in common.

    Higgins et al. 2017 (ICLR, 'beta-VAE: Learning basic visual concepts with a constrained variational
    framework'), section 3. One point: choose a random factor k, draw batch_size pairs of images that agree in k
    and are independent otherwise, and average how far apart their codes are,

        x_d = mean over pairs of |z_d(first) - z_d(second)|, with label k.

    As in disentanglement_lib, with its defaults: the features enter as they are, not standardised, into
    sklearn's LogisticRegression with its defaults (multinomial, L2 penalty, C = 1, tol = 1e-4), and the score is its
    accuracy on fresh points. Because of the penalty the unit of a latent matters: one that hardly moves is ignored.
    Two differences. The solver is newton-cg with max_iter = 1000: the default, lbfgs with 100, stops before the
    optimum on codes of usual scale (releases of sklearn before 0.22 fit one classifier a factor by default). And
    a factor with one value is never the shared one (there it is, which makes the label a guess), though it stays
    a column of the factors. Without any information in the codes the score is on average 1 over the number of
    factors that vary.

    Cost: 2 (num_train + num_eval) * batch_size encodings, 1,920,000 by default. The factors of all training points
    are drawn first, then encoded and reduced to features in chunks: by default and with five factors about 26 MB
    of factors, and 0.08 MB a latent for a chunk.

    Points of both kinds are drawn from the same images, as the definition has it, so on a set of few images part of
    the score is chance: codes that are noise, one draw per image, score 1.00 on 2 x 3 images, 0.48 on 4 x 5 x 10
    and 0.34 on 16 x 16 x 16, where a guess has 0.50, 0.33 and 0.33
    (means of ten seeds; tests/metrics/test_held_out.py holds the first two).

    Args:
      encode: factors int32 [n, F] -> codes [n, D], finite, for any n up to `chunk`: the posterior means by
        convention. Called with a handful of different n, so that it may be compiled for each.
      factor_sizes: F positive integers, factor j takes the values 0 .. factor_sizes[j] - 1.
      num_train: points the classifier is fitted to.
      num_eval: points it is scored on.
      batch_size: pairs averaged in a point.
      seed: of the draws; the only randomness.
      chunk: the most examples in one call of `encode`, at least 2.
      progress: called as progress(done, total) with points after each chunk of them, see inputs.Progress.

    Returns:
      {'beta_vae': float, accuracy on the evaluation points; 'beta_vae_train': float, accuracy on the training
      points, in [0, 1], 1 is best; 'num_distinct_train', 'num_distinct_eval': distinct images among all points}.

    Raises:
      ValueError: fewer than two factors have more than one value, a number is out of range, so few training points
        that all have one label, or `encode` returns codes that do not fit; one line says which.
    """
    from sklearn.linear_model import LogisticRegression

    sizes, free = inputs.checked_sizes(factor_sizes)
    least = {"num_train": (num_train, 2), "num_eval": (num_eval, 1), "batch_size": (batch_size, 1)}
    inputs.check_at_least(least | {"chunk": (chunk, 2)})
    rng = np.random.default_rng(seed)

    def draw(num_points, before):
        """Features [num_points, D], labels [num_points], and the number of distinct images. before: points so far."""
        shared = free[rng.integers(len(free), size=num_points)]
        factors = rng.integers(sizes, size=(num_points, batch_size, 2, len(sizes)), dtype=np.int32)
        rows = np.arange(num_points)
        factors[rows, :, 1, shared] = factors[rows, :, 0, shared]
        step = max(1, chunk // (2 * batch_size))
        features = []
        for start in range(0, num_points, step):
            block = factors[start : start + step]
            codes = inputs.encode_in_chunks(encode, block.reshape(-1, len(sizes)), chunk)
            first, second = codes.reshape(len(block), batch_size, 2, -1).transpose(2, 0, 1, 3)
            features.append(np.abs(first - second).mean(axis=1))
            if progress is not None:
                progress(before + start + len(block), num_train + num_eval)
        return np.concatenate(features), shared, inputs.count_distinct(factors, sizes)

    features, labels, distinct_train = draw(num_train, 0)
    if (labels == labels[0]).all():
        raise ValueError(f"all {num_train} training points share factor {labels[0]}: raise num_train")
    classifier = LogisticRegression(solver="newton-cg", max_iter=1000).fit(features, labels)
    train = classifier.score(features, labels)
    features, labels, distinct_eval = draw(num_eval, num_train)
    return {
        "beta_vae": float(classifier.score(features, labels)),
        "beta_vae_train": float(train),
        "num_distinct_train": distinct_train,
        "num_distinct_eval": distinct_eval,
    }
