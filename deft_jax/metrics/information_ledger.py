"""Ledgers of posteriors: I(z_d; x) and I(z_d; v_k) from mixtures of Gaussians, their standard errors and their bias."""

import concurrent.futures
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from deft_jax.metrics import interplay
from deft_jax.metrics.diffusion import TAKEN, Ledger
from deft_jax.metrics.interplay import Step
from deft_jax.metrics.posterior_mixtures import PosteriorMixtures
from deft_jax.runtime.parallel import cores

_NEGLIGIBLE = 1e-3  # nats: a latent that cannot have more counts as empty
_MOST_THREADS = 8  # each has tables of up to 200 MB
_LOGVAR_RANGE = (-600.0, 600.0)  # a logvar outside counts as the nearer end


class LedgerEstimate(NamedTuple):
    """A ledger from a sample of N images.

    Standard errors are those of independent draws of the images, to first order. A bias is the expected value of the
    plug-in estimate less that of the whole set, to first order in 1 / N, where images are drawn from many.
    """

    ledger: Ledger
    """Without the bias where the sample is not the whole set, otherwise the plug-in estimate."""
    plug_in: Ledger
    """Of the sample as if it were the whole set."""
    corrected: Ledger
    """The plug-in estimate less its bias, at least 0."""
    foreign_information_error: np.ndarray
    """[D] standard errors of the foreign information, in nats."""
    foreign_error: float
    """Standard error of the foreign share."""
    spread_error: float
    """Standard error of the spread."""
    accounts: list[list[Step]]
    """For each latent, what its foreign information is about (`interplay.account`); empty unless asked for."""


class _Latent(NamedTuple):
    """What one latent has, image by image; the means over images are the information."""

    information: np.ndarray
    """[N] for I(z_d; x)."""
    factor_information: np.ndarray
    """[F, N] for I(z_d; v_k)."""
    information_bias: float
    factor_bias: np.ndarray
    """[F]."""
    account: list[Step]


def estimate(
    mean_NxD: np.ndarray,
    logvar_NxD: np.ndarray,
    classes_NxF: np.ndarray,
    num_images: int | None = None,
    min_images: int | None = None,
    seed: int = 0,
) -> LedgerEstimate:
    """The ledger of posteriors N(mean, exp(logvar)) of N images with factors.

    With q(z_d), the mean of all posteriors, and q(z_d | v), that of the images with a value of a factor,

        I(z_d; x) = mean over n of KL(q(z_d|x_n) || q(z_d)),
        I(z_d; v_k) = mean over n of the integral of q(z_d|x_n) log(q(z_d | v_k = v_kn) / q(z_d)),

    integrated on a grid (posterior_mixtures.py) over all N images. Of these plug-in estimates the chain rule holds
    exactly, so foreign information is never negative. Mixtures of few images are rough: I(z_d; v_k) is too high by
    about (values of v_k) X / 2N, where X is a few units for a vague latent and 20 for one of 3 nats: with 10,000 images
    and 40 values 0.03 nat, where nothing is known. Foreign information is too low by what its home is too high. A
    latent of which even a Gaussian of the same variance as its codes would have less than 0.001 nat counts as empty.

    Args:
      mean_NxD, logvar_NxD: finite.
      classes_NxF: integers, F at least 1; a factor may be constant.
      num_images: of the whole set. If they are more than N, the sample is taken for independent draws, and the bias is
        subtracted. Default: None, the sample is the whole set.
      min_images: images per combination of values from which on factors are combined, for accounts of what taken
        latents' foreign information is about. Default: None, no accounts.
      seed: of the shuffles that accounts compare with.
    """
    (count, num_latents), num_factors = mean_NxD.shape, classes_NxF.shape[1]
    labels = [np.unique(column, return_inverse=True)[1] for column in classes_NxF.T]
    totals_2xN, best_FxN, known_FxN = np.zeros((2, count)), *np.zeros((2, num_factors, count))
    information_2xD = np.zeros((2, num_latents))  # the plug-in estimate and the corrected one
    factor_information_2xDxF = np.zeros((2, num_latents, num_factors))
    error_D = np.zeros(num_latents)
    accounts: list[list[Step]] = []
    for d, latent in enumerate(_latents(mean_NxD, logvar_NxD, labels, min_images, seed)):
        accounts.append([] if latent is None else latent.account)
        if latent is None:
            continue
        information_2xD[:, d] = latent.information.mean() - np.array([0, latent.information_bias])
        information_F = latent.factor_information.mean(axis=1)
        factor_information_2xDxF[:, d] = information_F, information_F - latent.factor_bias
        foreign_N = latent.information - latent.factor_information[information_F.argmax()]
        error_D[d] = _standard_error(foreign_N)
        totals_2xN += latent.information, foreign_N
        known_FxN += latent.factor_information
        better = information_F > best_FxN.mean(axis=1)
        best_FxN[better] = latent.factor_information[better]
    plug_in, corrected = (
        Ledger(np.maximum(information_D, 0.0), np.maximum(factor_information_DxF, 0.0))
        for information_D, factor_information_DxF in zip(information_2xD, factor_information_2xDxF, strict=True)
    )
    return LedgerEstimate(
        corrected if num_images is not None and num_images > count else plug_in,
        plug_in,
        corrected,
        foreign_information_error=error_D,
        foreign_error=_standard_error_of_ratio(totals_2xN[1], totals_2xN[0]),
        spread_error=_standard_error_of_ratio(best_FxN.sum(axis=0), known_FxN.sum(axis=0)),
        accounts=accounts if min_images is not None else [],
    )


def _latents(
    mean_NxD: np.ndarray, logvar_NxD: np.ndarray, labels: list[np.ndarray], min_images: int | None, seed: int
) -> Iterator[_Latent | None]:
    """Each latent in order, None where it is empty; several at a time."""

    def one(mean_N: np.ndarray, logvar_N: np.ndarray) -> _Latent | None:
        mean_N = mean_N.astype(np.float64)
        std_N = np.exp(0.5 * np.clip(logvar_N.astype(np.float64), *_LOGVAR_RANGE))
        # The entropy of the aggregate is at most that of a Gaussian of its variance.
        variance = mean_N.var() + np.square(std_N).mean()
        if 0.5 * np.log(variance) - np.log(std_N).mean() < _NEGLIGIBLE:
            return None
        return _latent(PosteriorMixtures(mean_N, std_N), labels, min_images, seed)

    with concurrent.futures.ThreadPoolExecutor(min(len(cores()), _MOST_THREADS)) as pool:
        yield from pool.map(one, mean_NxD.T, logvar_NxD.T)


def _latent(
    mixtures: PosteriorMixtures, labels: list[np.ndarray], min_images: int | None, seed: int
) -> _Latent:
    everything = mixtures.averages(np.zeros_like(labels[0]))
    of_factors = [mixtures.averages(label_N) for label_N in labels]
    information_N = everything.cross_entropy - mixtures.entropy
    information_FxN = np.stack([everything.cross_entropy - given.cross_entropy for given in of_factors])
    # Entropies of mixtures are too low by their bias; those of single posteriors are exact.
    bias = everything.entropy_bias()
    bias_F = np.array([given.entropy_bias() - bias for given in of_factors])
    information_F = information_FxN.mean(axis=1) - bias_F
    account = []
    if min_images is not None and information_N.mean() >= TAKEN:
        account = interplay.account(mixtures, labels, int(information_F.argmax()), information_F, min_images, seed)
    return _Latent(information_N, information_FxN, -bias, bias_F, account)


def _standard_error(values_N: np.ndarray) -> float:
    """Of the mean of independent values."""
    return float(values_N.std(ddof=1) / np.sqrt(len(values_N))) if len(values_N) > 1 else 0.0


def _standard_error_of_ratio(parts_N: np.ndarray, wholes_N: np.ndarray) -> float:
    """Of mean(parts) / mean(wholes), by the delta method; 0 where there is no whole."""
    whole = wholes_N.mean()
    if whole <= 0:
        return 0.0
    return _standard_error(parts_N - parts_N.mean() / whole * wholes_N) / float(whole)
