"""What the foreign information of a latent is about: its home's interplay with further factors."""

from typing import NamedTuple

import numpy as np

from deft_jax.metrics.posterior_mixtures import Averages, PosteriorMixtures


class Step(NamedTuple):
    """A factor joins those that are known already.

    Attributes:
      factor: its index.
      information: I(z; v | home and the factors of earlier steps), in nats, above 0.
      alone: I(z; v), in nats.
      images: per combination of values of all factors so far, on average.
    """

    factor: int
    information: float
    alone: float
    images: float

    @property
    def interplay(self) -> float:
        """What the factor tells together with the others only, as a shape does that shifts the centre of the area.

        Negative where the others tell the same.
        """
        return self.information - self.alone


def account(
    mixtures: PosteriorMixtures,
    labels: list[np.ndarray],
    home: int,
    information_F: np.ndarray,
    min_images: int,
    seed: int,
) -> list[Step]:
    """Splits the foreign information of a latent over factors: the chain rule, factor by factor.

    I(z; x | home) = I(z; v_1 | home) + I(z; v_2 | home, v_1) + ... + I(z; x | home, v_1, v_2, ...). Each step takes
    the factor that adds most. It ends where no factor that is left adds to it, or where the sample has fewer than
    min_images images per combination of values; what is left is the last term.

    A mixture of so few posteriors is rough, which alone makes 0.1 nat of ten images each. What the values of a factor
    have when they are shuffled among images that agree in all factors of earlier steps is such an error. It is
    subtracted, scaled by the ratio of the first-order errors (`Averages.entropy_bias`) of true and shuffled
    combinations: all of it where the factor tells nothing, none where it leaves no difference between posteriors.

    Args:
      mixtures: posteriors of the latent, of N images.
      labels: F arrays [N] of 0 .. values - 1.
      home: index of the home.
      information_F: I(z; v_k) in nats, without bias.
      min_images: per combination of values, on average.
      seed: of the shuffles.

    Returns:
      The steps, none where the first combination has too few images.
    """
    rng = np.random.default_rng(seed)
    steps: list[Step] = []
    known_N = labels[home]
    known = mixtures.averages(known_N)
    left = [k for k in range(len(labels)) if k != home and labels[k].any()]
    while left:
        best: tuple[Step, np.ndarray] | None = None
        for k in left:
            cell_N = _combine(known_N, labels[k])
            images = len(cell_N) / (cell_N.max() + 1)
            if images < min_images:
                continue
            shuffled = mixtures.averages(_combine(known_N, _shuffle_within(known_N, labels[k], rng)))
            information = _corrected(known, mixtures.averages(cell_N), shuffled)
            if best is None or information > best[0].information:
                best = Step(k, information, max(0.0, float(information_F[k])), images), cell_N
        if best is None or best[0].information <= 0:
            break
        step, known_N = best
        known = mixtures.averages(known_N)
        steps.append(step)
        left.remove(step.factor)
    return steps


def _corrected(known: Averages, true: Averages, shuffled: Averages) -> float:
    """The information of a factor given those known, less the error of its combinations."""
    information = known.mean_entropy - true.mean_entropy
    chance, of_shuffled = known.mean_entropy - shuffled.mean_entropy, shuffled.entropy_bias()
    return information - chance * (true.entropy_bias() / of_shuffled if of_shuffled > 0 else 0.0)


def _combine(first_N: np.ndarray, second_N: np.ndarray) -> np.ndarray:
    """The combinations of two labels that occur, numbered from 0."""
    return np.unique(first_N * (second_N.max() + 1) + second_N, return_inverse=True)[1]


def _shuffle_within(class_N: np.ndarray, values_N: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The values, shuffled among the entries of each class."""
    in_order, in_random_order = np.argsort(class_N, kind="stable"), np.lexsort((rng.random(len(class_N)), class_N))
    shuffled_N = np.empty_like(values_N)
    shuffled_N[in_order] = values_N[in_random_order]
    return shuffled_N
