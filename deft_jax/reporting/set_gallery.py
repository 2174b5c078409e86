"""Images of data sets in one figure: a row per set, or a row per factor of one set."""

import pathlib
from collections.abc import Mapping, Sequence

from deft_jax.runtime.jax_settings import pinned

COLUMNS = 12


DRAWN = ("dsprites", "color_dsprites", "noisy_dsprites", "scream_dsprites", "correlated", "translation", "xy_squares")


@pinned()
def rows(source, seed: int = 0, columns: int = COLUMNS) -> dict:
    """Images of a source by the label of their row, each float [columns, H, W, C]: random ones, and a sweep a factor.

    A factor with more values than columns is swept over `columns` of them, evenly spaced; one with fewer leaves the
    rest of its row white. A list of images has no factor to sweep.
    """
    import jax
    import numpy as np

    from deft_jax.data import factors

    # One example a call, so that what an image holds beyond its factors differs from one to the next.
    draw = jax.jit(jax.vmap(lambda arrays, f, key: source.render(arrays, f[None], key)[0], (None, 0, 0)))
    keys = jax.random.split(jax.random.key(seed), columns)

    def images(factors_NxF):
        padded = np.resize(factors_NxF, (columns, len(source.factor_sizes))).astype(np.int32)
        return np.array(draw(source.arrays, padded, keys))

    found = {"random": images(factors.draw(seed, columns, source.factor_sizes))}
    base = factors.draw(seed + 1, 1, source.factor_sizes)[0]
    for index, (name, size) in enumerate(zip(source.factor_names, source.factor_sizes, strict=True)):
        if source.is_grid:
            shown = np.unique(np.linspace(0, size - 1, min(columns, size)).round().astype(int))
            found[name] = images(factors.sweep(base, index, source.factor_sizes)[shown])
            found[name][len(shown) :] = 1.0
    return found


@pinned()
def gallery(names: Sequence[str], out: str | pathlib.Path, seed: int = 0, options: Mapping | None = None):
    """Writes the figure and returns its path; raises ValueError where a name or an option is unknown."""
    from deft_jax import data
    from deft_jax.evaluation import plots
    from deft_jax.runtime import validation

    validation.check(validation.NonNegativeInt, seed, "seed")
    if pathlib.Path(out).is_dir():
        raise ValueError(f"{out} is a folder; give the name of the PNG to write")
    if options and len(names) != 1:
        raise ValueError(f"options are those of one set, and there are {len(names)}")
    sources = {name: data.get(name, **(options or {})) for name in names}
    sheets = {name: rows(source, seed) for name, source in sources.items()}
    if len(sheets) == 1:
        shown = next(iter(sheets.values()))
    else:
        shapes = {source.image_shape[:2] for source in sources.values()}
        if len(shapes) > 1:
            raise ValueError(f"sets of different sizes do not fit one figure: {sorted(shapes)}; show them one by one")
        shown = {name: sheet["random"] for name, sheet in sheets.items()}
    try:
        return plots.save(plots.gallery(shown), out)
    except OSError as error:
        raise ValueError(f"cannot write {out}: {error.strerror or error}") from None
