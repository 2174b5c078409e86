"""Source: what the rest of the library knows of a data set, with a pure renderer instead of a pipeline."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

LIKELIHOODS = ("bernoulli", "gaussian")


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A data set as factors and a renderer. Hashes by identity, so it may be a static argument of a jit.

    Attributes:
      factor_names: F names.
      factor_sizes: F positive integers; factor j takes the values 0 .. factor_sizes[j] - 1. Images are
        numbered with the last factor fastest (deft_jax.data.factors).
      image_shape: (H, W, C).
      likelihood: 'bernoulli' (pixels are probabilities of white) or 'gaussian'; how to score a decoder on it.
      arrays: pytree of arrays that `render` reads. They go into a compiled function as an argument: closed
        over, they would become constants of the program and be copied with it.
      render: (arrays, factors_NxF int32, key) -> images_NxHxWxC float32 in [0, 1]. Pure and jittable. The key
        feeds whatever the image holds beyond its factors; a renderer without such noise ignores it.
      label_names, labels: for a set which does not hold every combination of its factors, or has no labels at
        all. Its one factor above is then the number of the image, and these are the ground truth: L names and
        numpy [num_images, L], int32 with values from 0 up, or float64 where a label is continuous; L = 0 where
        nothing is known of the images.
      label_continuous: L booleans: which labels are numbers of a continuum rather than classes. () means none.
      digest: identifies the images of a set that was read from files; a resumed run compares it with that of its
        start. Empty for generated sets, whose images follow from the options.
      remarks: sentences about how the set was read that its user should see, such as files that were left out.

    Raises:
      ValueError: names and sizes differ in number, a size is not positive, the image shape is not (H, W, C),
        the likelihood is unknown, or the labels do not fit.
    """

    factor_names: tuple[str, ...]
    factor_sizes: tuple[int, ...]
    image_shape: tuple[int, int, int]
    likelihood: str
    arrays: Any
    render: Callable
    label_names: tuple[str, ...] = ()
    labels: np.ndarray | None = None
    label_continuous: tuple[bool, ...] = ()
    digest: str = ""
    remarks: tuple[str, ...] = ()

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

        if self.labels is None:
            if self.label_names:
                raise ValueError(f"label names {tuple(self.label_names)} without labels")
        elif self.labels.shape != (self.num_images, len(self.label_names)):
            raise ValueError(f"labels {self.labels.shape} for {self.num_images} images "
                             f"and {len(self.label_names)} label names {tuple(self.label_names)}")
        if self.label_continuous and len(self.label_continuous) != len(self.label_names):
            raise ValueError(f"label_continuous must hold one boolean per label, got {tuple(self.label_continuous)} "
                             f"for {tuple(self.label_names)}")

    @property
    def num_images(self):
        """How many combinations of factor values there are."""
        return math.prod(self.factor_sizes)

    @property
    def is_grid(self):
        """Whether every combination of the ground-truth factors has an image, to be drawn by `render`."""
        return self.labels is None

    @property
    def ground_truth_names(self):
        """Names of the factors that a representation is scored against; none where there are no labels."""
        return self.factor_names if self.is_grid else self.label_names

    @property
    def ground_truth_continuous(self):
        """For each factor of `ground_truth_names`, whether it is continuous rather than a class: booleans [L]."""
        return self.label_continuous or (False,) * len(self.ground_truth_names)

    def ground_truth(self, factors_NxF):
        """Factors int32 [N, F] as `render` takes them -> what a representation is scored against, numpy [N, L]."""
        factors_NxF = np.asarray(factors_NxF)
        return factors_NxF if self.is_grid else self.labels[factors_NxF[:, 0]]
