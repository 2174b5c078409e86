"""Scores of posteriors and codes: metrics by name, and what an evaluation logs."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from deft_jax import metrics
from deft_jax.data.source import Source
from deft_jax.metrics import kl_decomposition, mutual_information
from deft_jax.models import posterior as models_posterior
from deft_jax.models.posterior import Posterior


def check_factors(factors_NxF, source) -> np.ndarray:
    """Factors of images of a data set as its renderer takes them: int32 [N, F].

    Args:
      factors_NxF: whole numbers [N, F], factor j from 0 to factor_sizes[j] - 1; of a set that is a list of images,
        [N, 1], their numbers.
      source: the data set, or its description.

    Raises:
      ValueError: they are not [N, F], not whole numbers, or one is out of range; one line says which.
    """
    factors_NxF, sizes = np.asarray(factors_NxF), source.factor_sizes
    if factors_NxF.ndim != 2 or factors_NxF.shape[1] != len(sizes):
        what = f"{', '.join(source.factor_names)}" if source.is_grid else (
            "the numbers of the images, since this set is a list of images and cannot be drawn by its labels"
        )
        raise ValueError(f"factors must be [N, {len(sizes)}], {what}; got {factors_NxF.shape}")
    whole = factors_NxF.dtype.kind in "iu" or (
        factors_NxF.dtype.kind == "f" and np.isfinite(factors_NxF).all() and (factors_NxF % 1 == 0).all()
    )
    if not whole:
        raise ValueError(f"factors must be whole numbers, got dtype {factors_NxF.dtype}{first_not_finite(factors_NxF)}")
    for name, size, column in zip(source.factor_names, sizes, factors_NxF.T, strict=True):
        if column.size and not (column.min() >= 0 and column.max() < size):
            wrong = column[(column < 0) | (column >= size)][0]
            raise ValueError(f"{name} must be from 0 to {size - 1}, got {wrong}")
    return factors_NxF.astype(np.int32)


def first_not_finite(values: np.ndarray) -> str:
    """', with nan in row 3' where a number is not finite."""
    if values.dtype.kind != "f":
        return ""
    rows = np.argwhere(~np.isfinite(values))
    return f", with {values[tuple(rows[0])]} in row {rows[0][0]}" if len(rows) else ""


def varying_factors(factors_NxF: np.ndarray) -> np.ndarray:
    """Indices of the factors that take more than one value in a sample: int64 [K]."""
    return np.flatnonzero((factors_NxF != factors_NxF[:1]).any(axis=0))


def in_bins(factors_NxF: np.ndarray, continuous_F: Sequence[bool], num_bins: int = 20) -> np.ndarray:
    """Ground truth with its continuous factors cut into equal-width bins: int64 [N, F]."""
    columns = [
        mutual_information.discretise(column[:, None], num_bins)[:, 0] if is_continuous else column.astype(np.int64)
        for column, is_continuous in zip(factors_NxF.T, continuous_F, strict=True)
    ]
    return np.stack(columns, axis=1) if columns else np.zeros((len(factors_NxF), 0), np.int64)


def score(codes: np.ndarray, factors_NxF: np.ndarray, num_bins: int = 20) -> dict:
    """MIG and NMI (metrics/mig.py, metrics/nmi.py) of a sample, whichever of its factors vary.

    Args:
      codes: [N, D]. factors_NxF: the ground truth of the same images, classes (see `in_bins`).
      num_bins: equal-width bins per latent.

    Returns:
      The two metrics' dicts in one; {} if F = 0. A factor that is constant in the sample has zeros in every array and
      no part in the mean 'mig', which is absent if no factor varies.
    """
    num_factors = factors_NxF.shape[1]
    if not num_factors:
        return {}
    varying = varying_factors(factors_NxF)
    found = {}
    for name in ("mig", "nmi") if len(varying) else ():
        found |= metrics.compute(name, codes, factors_NxF[:, varying], num_bins=num_bins, continuous=False)
    if len(varying) == num_factors:
        return found
    whole = {"mig_per_factor": np.zeros(num_factors), "nmi": np.zeros((codes.shape[1], num_factors)),
             "nmi1": np.zeros(num_factors), "nmi2": np.zeros(num_factors),
             "nmi1_latent": np.zeros(num_factors, np.int64)}  # fmt: skip
    for name, values in whole.items():
        if name in found:
            values[..., varying] = found[name]
    return found | whole


@functools.partial(jax.jit, static_argnums=2)
def _information(posterior, key, num_images):
    noise = jax.random.normal(key, posterior.mean.shape)
    return kl_decomposition.information(posterior, noise, num_images) | {
        "kl_per_latent": jnp.mean(models_posterior.kl_per_latent(posterior), axis=0)
    }


def information(posterior: Posterior, num_images: int, seed: int, num_samples: int = 2048) -> dict:
    """KL per latent and what the mean KL is made of, in nats: see gaussian.information, for its bias as well.

    The first num_samples examples of the posterior are used.
    """
    some = jax.tree.map(lambda leaf: jnp.asarray(leaf[:num_samples]), posterior)
    return jax.tree.map(np.asarray, _information(some, jax.random.key(seed), num_images))


def takes_samples(name: str) -> bool:
    """Whether the metric of this name is computed of one sample of codes and factors."""
    return metrics.kind(name) in ("samples", "posteriors")


def check_metric(name: str, source: Source) -> None:
    """Raises ValueError in one line where the metric of this name cannot be computed on this source."""
    takes = metrics.kind(name)
    if takes == "sampler" and not source.is_grid:
        raise ValueError(f"the metric {name!r} needs a set that holds every combination of its factors")
    if takes in ("samples", "posteriors") and not source.ground_truth_names:
        raise ValueError(f"the metric {name!r} needs factors, and nothing is known of these images")


def accepted(name: str, offered: Mapping, continuous: Sequence[bool] = ()) -> dict:
    """The arguments that the metric of this name takes, out of those which a caller can offer to any.

    Args:
      name: of the metric.
      offered: argument -> value, such as 'seed', 'groups' or 'progress'.
      continuous: for each factor of the sample, whether it is continuous rather than a class. Passed on as `continuous`
        where a factor is, or where the metric would find out from the values (default None).
    """
    parameters = inspect.signature(metrics.get(name)).parameters
    found = {option: value for option, value in offered.items() if option in parameters}
    if "continuous" in parameters and len(continuous):
        if any(continuous) or parameters["continuous"].default is None:
            found["continuous"] = [bool(entry) for entry in continuous]
    return found


def metric(
    name: str,
    encode: Callable,
    codes: np.ndarray,
    factors_NxF: np.ndarray,
    source: Source,
    posterior: Posterior,
    **kwargs,
) -> dict:
    """The metric of this name, whatever it takes: the sample of codes and factors, or `encode`, factors -> codes.

    Args:
      name: of the metric.
      encode: factors as the source's renderer takes them, integers [N, F] -> codes [N, D].
      codes: [N, D].
      factors_NxF: the ground truth of the sample, or some columns of it.
      source: the data set.
      posterior: that of the same images and latents, for a metric that looks at posteriors.
      **kwargs: the metric's own options. `continuous` defaults to what the source knows of its factors, where
        factors_NxF has all of them.

    Raises:
      ValueError: the metric compares runs or needs more than is known of the source's images; and as the metric itself.
    """
    check_metric(name, source)
    if metrics.kind(name) == "sampler":
        return metrics.get(name)(encode, source.factor_sizes, **kwargs)
    continuous = source.ground_truth_continuous
    if factors_NxF.shape[1] == len(continuous):
        kwargs = accepted(name, {}, continuous) | kwargs
    if metrics.kind(name) == "posteriors":
        return metrics.compute(name, posterior.mean, factors_NxF, logvar=posterior.logvar, **kwargs)
    return metrics.compute(name, codes, factors_NxF, **kwargs)


def headlines(scores: Mapping[str, Mapping], labelled: bool = False) -> dict[str, float]:
    """The single numbers of metric dicts, name -> value, in their order.

    Args:
      scores: metric -> its dict. Arrays, text and counts ('num_...', '..._num_...') are left out.
      labelled: whether a number has the metric's estimator in its name, where the dict has a text 'estimator':
        'infom (knn)'.
    """
    rows = {}
    for found in scores.values():
        estimator = found.get("estimator")
        suffix = f" ({estimator})" if labelled and isinstance(estimator, str) else ""
        for key, value in found.items():
            is_number = np.ndim(value) == 0 and np.asarray(value).dtype.kind in "iuf"
            if is_number and not key.startswith("num_") and "_num_" not in key:
                rows[key + suffix] = float(value)
    return rows


def factor_information(
    posterior: Posterior, factors_NxF: np.ndarray, seed: int, num_bins: int = 20
) -> np.ndarray:
    """What the best latent tells of each factor, max over d of I(z_d; v_f) in nats: [F].

    Of sampled codes, so that a collapsed latent tells nothing, however its mean may vary; from equal-width bins, less
    the bias (bins - 1)(values - 1) / 2N of independent variables (Miller 1955), and at least 0.
    Empty where F = 0.
    """
    noise = np.random.default_rng(seed).standard_normal(posterior.mean.shape)
    codes = posterior.mean + np.exp(0.5 * posterior.logvar) * noise
    if not factors_NxF.shape[1]:
        return np.zeros(0)
    told_DxF = mutual_information.mutual_information(mutual_information.discretise(codes, num_bins), factors_NxF)
    values_F = np.array([len(np.unique(column)) for column in factors_NxF.T])
    return np.maximum(0.0, told_DxF.max(axis=0) - (num_bins - 1) * (values_F - 1) / (2 * len(codes)))
