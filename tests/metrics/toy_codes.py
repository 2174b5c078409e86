"""Small codes and factors, most of them with known scores, shared by the tests of metrics."""

import numpy as np


def grid(*sizes):
    """Every combination of factors once: [prod(sizes), F]."""
    return np.stack(np.meshgrid(*map(range, sizes), indexing="ij"), axis=-1).reshape(-1, len(sizes))


def rotated_binary():
    """Codes and factors: two binary factors, all combinations, rotated by 45 degrees."""
    factors = grid(2, 2)
    return factors @ np.array([[1, 1], [1, -1]]), factors


def noisy(num_samples=900, seed=0):
    """Codes [N, 5] and factors [N, 3]: three codes follow a factor each, one follows two factors, one is noise."""
    rng = np.random.default_rng(seed)
    factors = np.stack([rng.integers(size, size=num_samples) for size in (3, 5, 8)], axis=1)
    mixing = np.array([[1, 0, 0, 1, 0], [0, 1, 0, 1, 0], [0, 0, 1, 0, 0.0]])
    return factors @ mixing + rng.normal(size=(num_samples, 5)) * [0.3, 0.5, 2, 1, 1], factors


def noisy_with_constant(num_samples=900):
    """Codes [N, 5] and factors [N, 2]: two codes follow a factor each, one both; one is noise, one is constant."""
    rng = np.random.default_rng(0)
    factors = np.stack([rng.choice(size, p=p, size=num_samples) for size, p in ((3, [0.5, 0.3, 0.2]), (4, None))], 1)
    mixing = np.array([[1, 0, 1, 0], [0, 1, -1, 0.0]])
    codes = factors @ mixing + rng.normal(size=(num_samples, 4)) * [0.3, 0.6, 0.5, 1]
    return np.concatenate([codes, np.full((num_samples, 1), 0.1)], axis=1), factors


def in_both_parts(part, seed=0):
    """Rows of which the training part and the test part both are `part`, in its order, with num_train = len(part)."""
    rows = np.random.default_rng(seed).permutation(2 * len(part))
    result = np.empty((2 * len(part), *part.shape[1:]), part.dtype)
    result[rows] = np.concatenate([part, part])
    return result


def balanced():
    """Factors of 2, 3 and 4 values with a grid as training part (144 rows); codes proportional to them, of mean 0."""
    factors = in_both_parts(np.tile(grid(2, 3, 4), (6, 1)))
    return 20 * (factors - factors.mean(axis=0)), factors


def hash_noise(factors, num_latents=4):
    """Uniform in [-1, 1), a hash of the row: equal for equal factors and otherwise unrelated to them."""
    golden, first, second = map(np.uint64, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
    state = np.arange(1, num_latents + 1, dtype=np.uint64) * golden
    for column in factors.astype(np.uint64).T:  # splitmix64, one step per factor
        state = state + column[:, None] + golden
        state = (state ^ (state >> np.uint64(30))) * first
        state = (state ^ (state >> np.uint64(27))) * second
        state = state ^ (state >> np.uint64(31))
    return (state >> np.uint64(11)) / 2.0**52 - 1


def partly_informative(factors):
    """Codes [n, 4] of factors [n, 3]: two factors with noise of their size, a mixture of two factors, noise."""
    codes = factors[:, [0, 1, 2, 0]] * [1.0, 1.0, 1.0, 0.0]
    codes[:, 2] += factors[:, 0]
    return codes + hash_noise(factors, 4) * [2.0, 4.0, 2.0, 1.0]


def without_random_numbers(num_samples=600):
    """Codes [N, 4] and factors [N, 3] from a formula, for numbers that other programs have computed."""
    i = np.arange(num_samples)
    factors = np.stack([i % 3, (i // 3) % 5, (i // 15) % 8], axis=1)
    columns = [
        factors[:, 0] + 0.4 * np.sin(i),
        factors[:, 1] + 0.8 * np.cos(3 * i),
        0.5 * factors[:, 2] + factors[:, 0] + 0.3 * np.sin(5 * i),
        np.cos(7 * i),
    ]
    return np.stack(columns, axis=1), factors
