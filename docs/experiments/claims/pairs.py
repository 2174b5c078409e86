"""How well a representation of the set `correlated` separates pairs of factors, correlated ones and independent ones.

The set can be described by (deviation, posX, posY), which are independent, or by (orientation, posX, posY), of which
orientation depends on both positions. A pair has two scores:

    MIG, the mean of the mutual information gaps of its two factors;
    leak, what the best latent of one factor tells about the other beyond what the first factor tells,
        I(z_a; v_b | v_a) / H(v_b | v_a), averaged over both directions. 0 where a latent holds its own factor only,
        however much the factors depend on each other.
"""

import numpy as np

from deft_jax.metrics import binned, mutual_information

NAMES = ("deviation", "posX", "posY", "orientation")
INDEPENDENT = (("posX", "posY"), ("deviation", "posX"), ("deviation", "posY"))
CORRELATED = (("orientation", "posX"), ("orientation", "posY"))
NUM_BINS = 20
NUM_CLASSES = 8  # of each factor in the leak, of its 32 values: a joint table of two factors and a latent stays full


def pair_scores(codes: np.ndarray, factors: np.ndarray) -> dict[str, float]:
    """Scores of pairs, averaged over the pairs of each kind, and the gaps of the single factors.

    Args:
      codes: [N, D] finite real numbers, the posterior means.
      factors: [N, 4] integers in 0 .. 31, in the order of NAMES.
    """
    sample = binned.bin_sample(codes, factors, None, NUM_BINS)
    information = sample.normalised_information()
    gap = dict(zip(NAMES, mutual_information.gaps(information), strict=True))
    home = dict(zip(NAMES, information.argmax(axis=0), strict=True))
    column = dict(zip(NAMES, (np.asarray(factors) * NUM_CLASSES // 32).T, strict=True))

    def leak(pair: tuple[str, str]) -> float:
        both = [conditional(sample.bins[:, home[a]], column[b], column[a]) for a, b in (pair, pair[::-1])]
        return float(np.mean(both))

    return {
        "independent_pairs": float(np.mean([gap[name] for pair in INDEPENDENT for name in pair])),
        "correlated_pairs": float(np.mean([gap[name] for pair in CORRELATED for name in pair])),
        "leak_independent": float(np.mean([leak(pair) for pair in INDEPENDENT])),
        "leak": float(np.mean([leak(pair) for pair in CORRELATED])),
    } | {f"gap_{name}": float(value) for name, value in gap.items()}


def conditional(bins: np.ndarray, factor: np.ndarray, given: np.ndarray) -> float:
    """I(bins; factor | given) / H(factor | given), of integers [N] each; 0 where given determines the factor."""
    joint = given * (int(factor.max()) + 1) + factor
    labels = np.stack([joint, given], axis=1)
    joint_information, given_information = mutual_information.mutual_information(bins[:, None], labels)[0]
    joint_entropy, given_entropy = mutual_information.entropy(labels)
    left = joint_entropy - given_entropy
    return float((joint_information - given_information) / left) if left > 1e-12 else 0.0
