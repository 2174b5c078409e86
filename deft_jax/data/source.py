"""Source: the contract of a data set, its factors of variation and a pure renderer."""

import dataclasses
import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from deft_jax.data.features import Features

LIKELIHOODS = ("bernoulli", "gaussian")


class Render(Protocol):
    """Draws the images of a batch; pure and jittable."""

    def __call__(self, arrays: Any, factors_NxF: jax.Array, key: jax.Array, /) -> jax.Array:
        """Images of N combinations of factor values.

        Args:
          arrays: `Source.arrays`, possibly traced.
          factors_NxF: int32 [N, F]; factor j takes the values 0 .. factor_sizes[j] - 1.
          key: for what an image shows beyond its factors, such as noise; a renderer without it ignores the key. Image i
            may depend on fold_in(key, i), and on no other image of the batch.

        Returns:
          float32 [N, H, W, C] in [0, 1]; of vectors and series, normalised numbers [N, 1, F, 1] or [N, 1, T, C].
        """


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A data set: its factors, and a renderer that draws the image of any combination of their values.

    A training step draws factors, renders them and trains on the images inside one compiled program, so there is no
    input pipeline, and a batch is a function of (seed, step). Two kinds of sets fit:

    - A grid has one image, or one distribution of images, for every combination of its factors. These are the ground
      truth. `labels` is None.
    - A list is a set of any images. Its one factor is the number of the image. What is known about each image is in
      `labels`, [num_images, L]; without any knowledge L is 0, and metrics that need labels refuse the set.

    To add a data set, write a function that returns a Source, and name it by data.name='module:function'.

    Sources compare and hash by identity, so one may be a static argument of `jax.jit`.

    Attributes:
      factor_names: F names.
      factor_sizes: F positive integers; factor j takes the values 0 .. factor_sizes[j] - 1. Images are numbered with
        the last factor fastest, see deft_jax.data.factors.
      image_shape: (H, W, C); of vectors (1, F, 1), of series (1, T, C).
      likelihood: the reconstruction loss that suits the images: 'bernoulli' (a pixel is the probability of white) or
        'gaussian'.
      arrays: pytree of the arrays that `render` reads. They are an argument of the compiled program; a renderer that
        closed over them would make them constants, compiled into each program.
      render: a function as in `Render`: (arrays, factors int32 [N, F], key) -> images float32 [N, H, W, C] in [0, 1].
      label_names: of a list, L names; () of a grid.
      labels: of a list, numpy [num_images, L]: int32 from 0 up, or float64 where a label is continuous; None of a grid.
      label_continuous: L booleans, whether a label is a continuous number rather than a class; () if none is.
      digest: identifies the images of a set that was read from files. A resumed run compares it with that of its start.
        '' for generated sets, whose images follow from their options.
      remarks: sentences for the user about how the set was read, for example which files were left out.
      features: of vectors and series, their names and normalisation; None of images.

    Raises:
      ValueError: names and sizes differ in number, there are none, a size is not positive, the image shape is not
        (H, W, C), the likelihood is unknown, the labels do not fit, or vectors and series have another likelihood than
        'gaussian'.

    Example:
      A bar at one of 4 columns, in one of 2 levels of brightness:

      >>> import jax.numpy as jnp
      >>> def render(arrays, factors_NxF, key):
      ...     column_N, level_N = factors_NxF[:, 0], arrays["levels"][factors_NxF[:, 1]]
      ...     bar_NxW = (jnp.arange(4) == column_N[:, None]) * level_N[:, None]
      ...     return jnp.tile(bar_NxW[:, None, :, None], (1, 3, 1, 1))
      >>> bars = Source(("column", "level"), (4, 2), (3, 4, 1), "bernoulli", {"levels": jnp.array([0.5, 1.0])}, render)
      >>> bars.num_images, bars.is_grid
      (8, True)
      >>> images = jax.jit(bars.render)(bars.arrays, jnp.array([[2, 1], [0, 0]]), jax.random.key(0))
      >>> images.shape
      (2, 3, 4, 1)
      >>> print(images[1, :, :, 0])
      [[0.5 0.  0.  0. ]
       [0.5 0.  0.  0. ]
       [0.5 0.  0.  0. ]]
    """

    factor_names: tuple[str, ...]
    factor_sizes: tuple[int, ...]
    image_shape: tuple[int, int, int]
    likelihood: str
    arrays: Any
    render: Render
    label_names: tuple[str, ...] = ()
    labels: np.ndarray | None = None
    label_continuous: tuple[bool, ...] = ()
    digest: str = ""
    remarks: tuple[str, ...] = ()
    features: Features | None = None

    def __post_init__(self) -> None:
        if len(self.factor_names) != len(self.factor_sizes):
            raise ValueError(f"{len(self.factor_names)} factor names {tuple(self.factor_names)} "
                             f"for {len(self.factor_sizes)} factor sizes {tuple(self.factor_sizes)}")
        if not self.factor_sizes or any(size < 1 for size in self.factor_sizes):
            raise ValueError(f"factor sizes must be one or more positive integers, got {tuple(self.factor_sizes)}")
        if len(self.image_shape) != 3 or any(side < 1 for side in self.image_shape):
            raise ValueError(f"image shape must be (H, W, C), each positive, got {tuple(self.image_shape)}")
        if self.likelihood not in LIKELIHOODS:
            raise ValueError(f"unknown likelihood {self.likelihood!r}; known: {', '.join(LIKELIHOODS)}")
        if self.features is not None and (self.likelihood != "gaussian" or self.image_shape[0] != 1):
            raise ValueError(f"{self.features.plural} are examples of one row with the likelihood 'gaussian', got "
                             f"shape {tuple(self.image_shape)} and {self.likelihood!r}")

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
    def num_images(self) -> int:
        """Number of combinations of factor values; of a list, the number of images."""
        return math.prod(self.factor_sizes)

    @property
    def layout(self) -> str:
        """What an example is: 'image', 'vector' or 'series'."""
        return "image" if self.features is None else self.features.layout

    @property
    def is_grid(self) -> bool:
        """Whether the factors are the ground truth, so that `render` draws every combination of its values."""
        return self.labels is None

    @property
    def ground_truth_names(self) -> tuple[str, ...]:
        """Names of the L factors that a representation is scored against; () where there are no labels."""
        return self.factor_names if self.is_grid else self.label_names

    @property
    def ground_truth_continuous(self) -> tuple[bool, ...]:
        """For each of the L factors of `ground_truth_names`, whether it is continuous rather than a class."""
        return self.label_continuous or (False,) * len(self.ground_truth_names)

    def ground_truth(self, factors_NxF: npt.ArrayLike) -> np.ndarray:
        """Values that a representation is scored against.

        Args:
          factors_NxF: int32 [N, F], as `render` takes them.

        Returns:
          numpy [N, L]: of a grid the factors themselves, of a list the labels of these images.
        """
        factors_NxF = np.asarray(factors_NxF)
        return factors_NxF if self.labels is None else self.labels[factors_NxF[:, 0]]


def render_each(source: Source, arrays: Any, factors_BxF: jax.Array, keys_B: jax.Array) -> jax.Array:
    """The images of a batch, each with a key of its own, so that none depends on the others.

    On a CPU a conditional whose condition always holds keeps them in memory. Without it XLA merges the renderer into
    every loop that reads the images, and draws each pixel anew there: it removes optimisation barriers before it
    merges, but does not look into conditionals.

    Args:
      source: the data set.
      arrays: `Source.arrays`, possibly traced.
      factors_BxF: int32 [B, F], each from 0 up.
      keys_B: random keys [B].

    Returns:
      [B, H, W, C], of the type that the renderer returns: float32.
    """
    images = jax.vmap(lambda factors, key: source.render(arrays, factors[None], key)[0])(factors_BxF, keys_B)

    def keep(images_CxHxWxB: jax.Array, always: jax.Array) -> jax.Array:
        return jax.lax.cond(always, lambda kept: kept, jnp.zeros_like, images_CxHxWxB)

    # Kept with the examples last, as the layers of a model have them: the second transposition is undone by theirs.
    batch_minor, always = images.transpose(3, 1, 2, 0), factors_BxF[0, 0] >= 0
    kept = jax.lax.platform_dependent(batch_minor, always, cpu=keep, default=lambda images, _: images)
    return kept.transpose(3, 1, 2, 0)
