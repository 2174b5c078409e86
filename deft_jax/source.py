"""Source: what the rest of the library knows of a data set, with a pure renderer instead of a pipeline."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

LIKELIHOODS = ("bernoulli", "gaussian")


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A data set as factors and a renderer. Hashes by identity, so it may be a static argument of a jit.

    Attributes:
      factor_names: F names.
      factor_sizes: F positive integers; factor j takes the values 0 .. factor_sizes[j] - 1. Images are
        numbered with the last factor fastest (deft_jax.factors).
      image_shape: (H, W, C).
      likelihood: 'bernoulli' (pixels are probabilities of white) or 'gaussian'; how to score a decoder on it.
      arrays: pytree of arrays that `render` reads. They go into a compiled function as an argument: closed
        over, they would become constants of the program and be copied with it.
      render: (arrays, factors_NxF int32, key) -> images_NxHxWxC float32 in [0, 1]. Pure and jittable. The key
        feeds whatever the image holds beyond its factors; a renderer without such noise ignores it.

    Raises:
      ValueError: names and sizes differ in number, a size is not positive, the image shape is not (H, W, C),
        or the likelihood is unknown.
    """

    factor_names: tuple[str, ...]
    factor_sizes: tuple[int, ...]
    image_shape: tuple[int, int, int]
    likelihood: str
    arrays: Any
    render: Callable

    def __post_init__(self):
        if len(self.factor_names) != len(self.factor_sizes):
            raise ValueError(f"{len(self.factor_names)} factor names {tuple(self.factor_names)} "
                             f"for {len(self.factor_sizes)} factor sizes {tuple(self.factor_sizes)}")
        if any(size < 1 for size in self.factor_sizes):
            raise ValueError(f"factor sizes must be positive, got {tuple(self.factor_sizes)}")
        if len(self.image_shape) != 3 or any(side < 1 for side in self.image_shape):
            raise ValueError(f"image shape must be (H, W, C), each positive, got {tuple(self.image_shape)}")
        if self.likelihood not in LIKELIHOODS:
            raise ValueError(f"unknown likelihood {self.likelihood!r}; known: {', '.join(LIKELIHOODS)}")

    @property
    def num_images(self):
        """How many combinations of factor values there are."""
        return math.prod(self.factor_sizes)
