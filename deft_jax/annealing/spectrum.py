"""The freezing spectrum: the betas at which a VAE leaves the collapsed state, without training one.

At large beta a VAE collapses: mean = 0 and logvar = 0 for every image, and the decoder puts out the mean image mu.
Perturb that state: mean(x) = a u(x) with E[u] = 0 and E[u^2] = 1, and a decoder that answers z with the image
mu + w z / h, where h = 1 / (mu (1 - mu)) for a Bernoulli likelihood (w z is then the change of the logits) and w
for squared error. To second order in (a, w), with c = E[(x - mu) u] for each pixel,

    Bernoulli      loss(a, w) - loss(0, 0) = -a w.c + w.(mu (1 - mu) w) / 2 + beta a^2 / 2
    squared error  loss(a, w) - loss(0, 0) = -2 a w.c + w.w               + beta a^2 / 2

(the sampled z has variance 1 + O(a^2), and a change of logvar enters at second order by itself, so neither adds a
term). The best w leaves (beta - sum_p c_p^2 / (mu_p (1 - mu_p))) a^2 / 2, or (beta - 2 sum_p c_p^2) a^2 / 2, and the
best u is the leading principal component of the images in the matching metric. The collapsed state is therefore
unstable exactly where beta is below

    Bernoulli      the largest eigenvalue of D^-1/2 Cov(x) D^-1/2, D = diag(mu (1 - mu)); for binary images this is
                   the correlation matrix of the pixels
    squared error  twice the largest eigenvalue of Cov(x)

Pixels that never vary carry nothing and are left out. Later eigenvalues mark the modes that a linear model would add.

Scope of the bound. It is where a model that follows a falling beta without delay leaves the collapsed state, and it
holds for every encoder and decoder that can move along the leading mode. A sweep of finite speed lags: it leaves at a
lower beta, never at a higher one beyond the error of the measurement. The bound is not tight from the other side: where
the transition is of first order, a state far from the collapsed one may have the lower loss already above the bound,
and a model that starts there (a sweep with rising beta) keeps it. Modes after the first are those of a linear model:
one frozen latent takes up several of them (two coordinates have their harmonics and products in the spectrum), so the
second latent need not freeze at the second eigenvalue.
"""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh

from deft_jax.annealing import freezing_points
from deft_jax.annealing.config import SpectrumConfig
from deft_jax.annealing.freezing_points import Point
from deft_jax.annealing.instrument import Result, point_dict
from deft_jax.data import factors
from deft_jax.data.source import Source
from deft_jax.runtime.jax_settings import pinned

_DENSE = 1024  # up to this size a matrix is decomposed whole
_CHUNK = 1024  # images rendered at a time
_MIN_VARIANCE = 1e-9  # of a pixel that counts as varying
_EFFECT_PAIRS = 2048  # of images that differ in one factor; they give its share to about 0.03


class Spectrum(NamedTuple):
    """The leading modes of a data set.

    Attributes:
      eigenvalues: [K], falling; in nats of the reconstruction loss (summed over pixels) per nat of KL, as beta.
      standard_errors: [K], of the eigenvalues, from the sampling of images; 0 if every image was used.
      total_effects: [K, F], share of a mode's variance that is lost when a factor is fixed and all others vary: Sobol's
        total index (Jansen 1999), 1 for a mode that vanishes without the factor. Rows need not add up to 1.
      num_samples: number of images.
    """

    eigenvalues: np.ndarray
    standard_errors: np.ndarray
    total_effects: np.ndarray
    num_samples: int


class Scaling(NamedTuple):
    """How pixels enter the spectrum.

    Attributes:
      pixels: [P], indices of the pixels that vary.
      mean: float32 [P].
      scale: float32 [P].
    """

    pixels: np.ndarray
    mean: np.ndarray
    scale: np.ndarray

    def __call__(self, images_NxQ: np.ndarray) -> np.ndarray:
        """Centred and scaled pixels [N, P], whose second moments are the matrix in the module's docstring."""
        return (images_NxQ[:, self.pixels] - self.mean) * self.scale


def render(source: Source, factors_NxF: np.ndarray, key: jax.Array) -> np.ndarray:
    """Flat images [N, H * W * C] of factors [N, F].

    The same key gives example i the same noise whatever its factors.
    """
    program = jax.jit(source.render)
    parts = []
    for start in range(0, len(factors_NxF), _CHUNK):
        chunk = factors_NxF[start : start + _CHUNK]
        padded = np.resize(chunk, (min(_CHUNK, len(factors_NxF)), chunk.shape[1]))  # one shape, so one program
        images = program(source.arrays, jnp.asarray(padded), jax.random.fold_in(key, start))
        parts.append(np.asarray(images).reshape(len(padded), -1)[: len(chunk)])
    return np.concatenate(parts)


def scaling(images_NxQ: np.ndarray, likelihood: str) -> Scaling:
    """The scaling of images.

    Args:
      images_NxQ: flat images in [0, 1].
      likelihood: 'bernoulli' or 'gaussian' (squared error).

    Raises:
      ValueError: no pixel varies.
    """
    mean = images_NxQ.mean(axis=0, dtype=np.float64)
    variance = images_NxQ.var(axis=0, dtype=np.float64)
    pixels = np.flatnonzero(variance > _MIN_VARIANCE)
    if not len(pixels):
        raise ValueError("the images are all the same: no information can freeze, so there is no freezing point")
    mean = mean[pixels]
    scale = 1 / np.sqrt(mean * (1 - mean)) if likelihood == "bernoulli" else np.full(len(pixels), 2**0.5)
    return Scaling(pixels, mean.astype(np.float32), scale.astype(np.float32))


def leading(scaled_NxP: np.ndarray, num_modes: int) -> tuple[np.ndarray, np.ndarray]:
    """Leading eigenvalues and modes of the second moments of scaled pixels.

    Small problems are decomposed whole, in images or in pixels, whichever is fewer. For larger ones the matrix is never
    formed: Lanczos iterations (ARPACK) multiply by the images and by their transpose.

    Args:
      scaled_NxP: as of a Scaling.
      num_modes: K; fewer if there are fewer images or pixels.

    Returns:
      (eigenvalues [K], falling; orthonormal modes [P, K]).
    """
    count, pixels = scaled_NxP.shape
    num_modes = min(num_modes, count, pixels)
    if min(count, pixels) <= _DENSE or num_modes >= min(count, pixels) - 1:
        x = scaled_NxP.astype(np.float64)
        if pixels <= count:
            values, modes = np.linalg.eigh(x.T @ x / count)
        else:
            values, left = np.linalg.eigh(x @ x.T / count)
            modes = x.T @ left / np.sqrt(np.maximum(values, 1e-12) * count)
    else:
        product = LinearOperator(
            (pixels, pixels),
            matvec=lambda u: scaled_NxP.T @ (scaled_NxP @ u.astype(np.float32)) / np.float32(count),
            dtype=np.float32,
        )
        values, modes = eigsh(product, k=num_modes, tol=1e-3, v0=np.ones(pixels, np.float32))
    order = np.argsort(values)[::-1][:num_modes]
    return np.maximum(values[order], 0.0), modes[:, order]


def bound(images_NxQ: np.ndarray, likelihood: str) -> float:
    """The largest beta at which a VAE of these images leaves the collapsed state.

    Args:
      images_NxQ: all images with equal weight, or a sample; flat, in [0, 1].
      likelihood: 'bernoulli' or 'gaussian'.

    Raises:
      ValueError: the images are all the same.
    """
    return float(leading(scaling(images_NxQ, likelihood)(images_NxQ), 1)[0][0])


@pinned()
def freezing_spectrum(source: Source, *, num_modes: int = 64, num_samples: int = 8192, seed: int = 0) -> Spectrum:
    """The leading modes of a whole data set, and the share of each factor in them.

    Args:
      source: the data set.
      num_modes: K, at most the number of pixels that vary.
      num_samples: images drawn, at least 2; all images are used if there are no more. A sample adds noise modes with
        eigenvalues around 1 and changes an eigenvalue by about its standard error.
      seed: of the sample.

    Raises:
      ValueError: num_modes is below 1, num_samples is below 2, or the images are all the same.
    """
    if num_modes < 1:
        raise ValueError(f"num_modes must be at least 1, got {num_modes}")
    if num_samples < 2:
        raise ValueError(f"num_samples must be at least 2, got {num_samples}")
    sizes = source.factor_sizes
    whole = source.num_images <= num_samples
    if whole:
        factors_NxF = np.asarray(factors.from_index(jnp.arange(source.num_images), sizes))
    else:
        factors_NxF = factors.draw(seed, num_samples, sizes)
    key = jax.random.key(seed)
    images = render(source, factors_NxF, key)
    scale = scaling(images, source.likelihood)
    scaled = scale(images)
    values, modes = leading(scaled, num_modes)
    codes = scaled @ modes
    errors = np.zeros(len(values)) if whole else (codes**2).std(axis=0) / len(codes) ** 0.5

    pairs = factors.draw(seed + 1, min(len(images), _EFFECT_PAIRS), sizes)
    others = factors.draw(seed + 2, len(pairs), sizes)
    codes = scale(render(source, pairs, key)) @ modes
    effects = np.empty((len(values), len(sizes)))
    for index in range(len(sizes)):
        changed = pairs.copy()
        changed[:, index] = others[:, index]
        difference = scale(render(source, changed, key)) @ modes - codes
        effects[:, index] = (difference**2).mean(axis=0) / (2 * codes.var(axis=0))
    return Spectrum(values, errors, effects, len(images))


def factor_points(spectrum: Spectrum, factor_names: Sequence[str], share: float = 0.4) -> dict[str, int | None]:
    """The first mode of each factor.

    Args:
      spectrum: of the data set.
      factor_names: in the order of the spectrum's total effects.
      share: of a mode's variance that a factor must make up for the mode to count as the factor's.

    Returns:
      factor -> index of its first mode; None if the spectrum has none.
    """
    return {
        name: next((mode for mode, row in enumerate(spectrum.total_effects) if row[index] >= share), None)
        for index, name in enumerate(factor_names)
    }


class SpectrumInstrument:
    """The freezing spectrum of the whole set."""

    name = "spectrum"

    def __init__(self, config: SpectrumConfig, source: Source, seed: int) -> None:
        self.config, self.source, self.seed = config, source, seed

    def measure(self, workdir: pathlib.Path, devices: Sequence[jax.Device] | None) -> Result:
        """See Instrument."""
        del workdir, devices
        spectrum = freezing_spectrum(
            self.source, seed=self.seed, num_modes=self.config.num_modes, num_samples=self.config.num_samples
        )
        eigenvalues = spectrum.eigenvalues
        modes = factor_points(spectrum, self.source.factor_names, self.config.share)
        lowest = Point(float(eigenvalues[-1]), freezing_points.BELOW)
        points = {name: lowest if mode is None else Point(float(eigenvalues[mode])) for name, mode in modes.items()}
        return spectrum._asdict() | {
            "modes": modes,
            "share": self.config.share,
            "points": {name: point_dict(point) for name, point in points.items()},
        }

    def table(self, result: Result) -> str:
        """See Instrument."""
        names, modes = self.source.factor_names, result["modes"]
        lines = [
            f"Freezing spectrum of the whole set: {len(result['eigenvalues'])} modes of {result['num_samples']} images",
            f"{'factor':<14}{'bound':>8}{'+-':>7}  first mode of which it makes up {result['share']:.0%}",
        ]
        for name in sorted(names, key=lambda name: -result["points"][name]["beta"]):
            point, mode = Point(**result["points"][name]), modes[name]
            error, mode_and_share = "", "none"
            if mode is not None:
                error = f"{result['standard_errors'][mode]:.2g}"
                mode_and_share = f"{mode} ({result['total_effects'][mode][names.index(name)]:.2f})"
            lines.append(f"{name:<14}{point!s:>8}{error:>7}  {mode_and_share}")
        return "\n".join(lines)

    def draw(self, result: Result, directory: pathlib.Path) -> None:
        """See Instrument."""
        from deft_jax.annealing import plots
        from deft_jax.evaluation import plots as evaluation_plots

        figure = plots.spectrum(
            result["eigenvalues"], result["total_effects"], self.source.factor_names, result["modes"]
        )
        evaluation_plots.save(figure, directory / "spectrum.png")
