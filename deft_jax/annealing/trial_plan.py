"""Which trials there are: for each factor and each draw of the others, a sweep of that factor as images.

Trials are collected in buckets of one padded width, so that each bucket is one `vmap` (trial_program.py).
"""

import itertools
from collections.abc import Sequence

import flax.struct
import jax
import numpy as np

from deft_jax.annealing import spectrum
from deft_jax.data import factors
from deft_jax.data.source import Source

Array = np.ndarray | jax.Array

_WIDTHS = (256, 512, 1024, 1536, 2048)  # pixels; wider trials are padded to multiples of the last
_NOISY_SAMPLE = 1024  # images that represent a sweep whose images depend on more than the factors


@flax.struct.dataclass
class Bucket:
    """Trials of one padded width P; every array has the trial as its first axis.

    Attributes:
      row: int32 [T], place in the list of all trials.
      factor: int32 [T], index of the factor that is swept.
      base: int32 [T, F], the draw of which all other factors keep their values.
      size: int32 [T], number of values of the swept factor.
      pixels: int32 [T, P], indices of the pixels that vary, padded with 0.
      mask: float32 [T, P], 1 where `pixels` is no padding.
      mean: float32 [T, P], the mean image on these pixels.
      bound: float32 [T], the freezing point of the sweep from its spectrum.
      key: uint32 [T, 2], data of the trial's random key.
      images: float32 [T, S, P], the images of the sweep, padded; None where images depend on more than their factors
        and are rendered anew in every step.
    """

    row: Array
    factor: Array
    base: Array
    size: Array
    pixels: Array
    mask: Array
    mean: Array
    bound: Array
    key: Array
    images: Array | None

    def __len__(self) -> int:
        return len(self.row)


def plan(source: Source, factor_names: Sequence[str], num_trials: int, seed: int) -> tuple[Bucket, ...]:
    """Trials of several factors, in buckets of one width.

    Trial t of every factor keeps the same draw of the other factors, so factors are comparable trial by trial. Rows are
    numbered factor by factor.

    Args:
      source: a data set that holds every combination of its factors.
      factor_names: of the factors to sweep.
      num_trials: trials per factor.
      seed: of the draws and of the trials' random keys.

    Raises:
      ValueError: a factor is unknown or has one value, num_trials is below 1, or a sweep does not change the image.
    """
    _check(source, factor_names, num_trials)
    known, sizes = source.factor_names, source.factor_sizes
    bases = factors.draw(seed, num_trials, sizes)
    key = jax.random.key(seed)
    repeats = _num_renders(source, factors.sweep(bases[0], known.index(factor_names[0]), sizes), key)
    buckets: dict[int, list[Bucket]] = {}
    for row, (name, index) in enumerate(itertools.product(factor_names, range(num_trials))):
        trial = _trial(source, known.index(name), bases[index], row, index, key, repeats)
        buckets.setdefault(len(trial.mask), []).append(trial)
    return tuple(jax.tree.map(lambda *leaves: np.stack(leaves), *buckets[width]) for width in sorted(buckets))


def in_order(buckets: Sequence[Bucket], values: Sequence[Array]) -> np.ndarray:
    """Values of all trials in the order of their rows.

    Args:
      buckets: of a plan.
      values: one array per bucket, with the trial as first axis.
    """
    rows = np.concatenate([bucket.row for bucket in buckets])
    return np.concatenate(list(values))[np.argsort(rows)]


def _check(source: Source, factor_names: Sequence[str], num_trials: int) -> None:
    if num_trials < 1:
        raise ValueError(f"trials.num_trials must be at least 1, got {num_trials}")
    if not source.is_grid:
        raise ValueError("trials sweep one factor, which requires a data set with every combination of its factors; "
                         "leave them out by instruments=('spectrum', 'whole')")
    for name in factor_names:
        if name not in source.factor_names:
            raise ValueError(f"trials.factors: unknown factor {name!r}; known: {', '.join(source.factor_names)}")
        if source.factor_sizes[source.factor_names.index(name)] < 2:
            raise ValueError(f"trials.factors: factor {name!r} has one value: nothing varies, and nothing can freeze")


def _trial(
    source: Source, factor: int, base_F: np.ndarray, row: int, index: int, key: jax.Array, repeats: int
) -> Bucket:
    """One trial, a Bucket without the first axis; its sweep is rendered `repeats` times for its mean and bound."""
    sweep = factors.sweep(base_F, factor, source.factor_sizes)
    images = spectrum.render(source, np.tile(sweep, (repeats, 1)), jax.random.fold_in(key, index))
    try:
        scale = spectrum.scaling(images, source.likelihood)
    except ValueError as error:
        values = dict(zip(source.factor_names, base_F.tolist(), strict=True))
        raise ValueError(f"the sweep of {source.factor_names[factor]!r} from {values}: {error}") from None
    count = len(scale.pixels)
    padding = (0, _width(count) - count)
    longest = max(source.factor_sizes)
    return Bucket(
        row=np.asarray(row, np.int32),
        factor=np.asarray(factor, np.int32),
        base=base_F,
        size=np.asarray(len(sweep), np.int32),
        pixels=np.pad(scale.pixels, padding).astype(np.int32),
        mask=np.pad(np.ones(count, np.float32), padding),
        mean=np.pad(scale.mean, padding),
        bound=np.asarray(spectrum.leading(scale(images), 1)[0][0], np.float32),
        key=np.asarray(jax.random.key_data(jax.random.fold_in(jax.random.fold_in(key, factor), index))),
        images=np.pad(images[:, scale.pixels], ((0, longest - len(images)), padding)) if repeats == 1 else None,
    )


def _width(num_pixels: int) -> int:
    """The width that a trial is padded to: depends on its own pixels only, and is one of a few."""
    last = _WIDTHS[-1]
    return next((width for width in _WIDTHS if num_pixels <= width), -(-num_pixels // last) * last)


def _num_renders(source: Source, sweep_SxF: np.ndarray, key: jax.Array) -> int:
    """How often a sweep is rendered for its mean and bound: once, if its images depend on the factors only."""
    first, second = (spectrum.render(source, sweep_SxF, jax.random.fold_in(key, n)) for n in range(2))
    return 1 if np.array_equal(first, second) else -(-_NOISY_SAMPLE // len(sweep_SxF))
