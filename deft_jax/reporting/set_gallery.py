"""Images of data sets in one figure: one row per set, or one row per factor of a single set."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deft_jax.data.source import Source
from deft_jax.runtime.jax_settings import pinned

COLUMNS = 12
"""Images in a row."""
SETS_WITHOUT_FILES = (
    "dsprites", "color_dsprites", "noisy_dsprites", "scream_dsprites", "correlated", "translation", "xy_squares"
)  # fmt: skip
"""Data sets that are computed, and so need no file."""


@pinned()
def rows(source: Source, seed: int = 0, columns: int = COLUMNS) -> dict[str, np.ndarray]:
    """Random images of a source, and images along each of its factors.

    A factor with more values than columns is shown at `columns` of them, evenly spaced; one with fewer leaves the end
    of its row white. A list of images has random images only.

    Args:
      source: the data set.
      seed: of the random images, and of the image that the factors are varied from.
      columns: images in a row.

    Returns:
      'random' and names of factors -> float [columns, H, W, C].
    """
    import jax

    from deft_jax.data import factors

    # One image per call of render, so that the randomness beyond the factors differs from one to the next.
    render = jax.jit(
        jax.vmap(lambda arrays, factors_F, key: source.render(arrays, factors_F[None], key)[0], (None, 0, 0))
    )
    keys = jax.random.split(jax.random.key(seed), columns)

    def images_of(factors_NxF: np.ndarray) -> np.ndarray:
        padded = np.resize(factors_NxF, (columns, len(source.factor_sizes))).astype(np.int32)
        return np.array(render(source.arrays, padded, keys))

    images_of_row = {"random": images_of(factors.draw(seed, columns, source.factor_sizes))}
    if not source.is_grid:
        return images_of_row
    base_F = factors.draw(seed + 1, 1, source.factor_sizes)[0]
    for index, (name, size) in enumerate(zip(source.factor_names, source.factor_sizes, strict=True)):
        values = np.unique(np.linspace(0, size - 1, min(columns, size)).round().astype(int))
        images = images_of(factors.sweep(base_F, index, source.factor_sizes)[values])
        images[len(values) :] = 1.0
        images_of_row[name] = images
    return images_of_row


@pinned()
def gallery(
    names: Sequence[str], out: str | pathlib.Path, seed: int = 0, options: Mapping[str, Any] | None = None
) -> pathlib.Path:
    """Writes the figure, and prints the remarks of the sets.

    Args:
      names: of data sets. One: its `rows`. Several: a row of random images per set.
      out: the PNG to write.
      seed: of the images.
      options: of the set, where there is one.

    Returns:
      The path of the figure.

    Raises:
      ValueError: a name or an option is unknown, the sets have images of different sizes, or the file cannot be
        written.
    """
    from deft_jax import data
    from deft_jax.evaluation import plots
    from deft_jax.runtime import validation

    validation.check(validation.NonNegativeInt, seed, "seed")
    if pathlib.Path(out).is_dir():
        raise ValueError(f"{out} is a folder; give the name of the PNG to write")
    if options and len(names) != 1:
        raise ValueError(f"options are those of one set, and there are {len(names)}")
    sources = {name: data.get(name, **(options or {})) for name in names}
    for name, source in sources.items():
        if source.features is not None:
            raise ValueError(f"a gallery is of images, and {name} has {source.features.plural}: train a model, whose "
                             "figures draw them as lines")
    for remark in (remark for source in sources.values() for remark in source.remarks):
        print(f"data: {remark}")
    sizes = {source.image_shape[:2] for source in sources.values()}
    if len(sizes) > 1:
        raise ValueError(f"sets of different sizes do not fit one figure: {sorted(sizes)}; show them one by one")
    rows_of_set = {name: rows(source, seed) for name, source in sources.items()}
    if len(names) == 1:
        images_of_row = rows_of_set[names[0]]
    else:
        images_of_row = {name: images["random"] for name, images in rows_of_set.items()}
    try:
        return plots.save(plots.gallery(images_of_row), out)
    except OSError as error:
        raise ValueError(f"cannot write {out}: {error.strerror or error}") from None
