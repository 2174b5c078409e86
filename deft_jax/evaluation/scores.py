"""Scores of posteriors and codes: metrics by name, and the quantities that an evaluation logs."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from deft_jax import metrics
from deft_jax.data.description import SourceDescription
from deft_jax.data.source import Source
from deft_jax.metrics import kl_decomposition, mutual_information
from deft_jax.models import posterior as models_posterior
from deft_jax.models.posterior import Posterior


def check_factors(factors_NxF: ArrayLike, source: Source | SourceDescription) -> np.ndarray:
    """Factors of images of a data set, validated.

    Args:
      factors_NxF: whole numbers [N, F], factor j from 0 to factor_sizes[j] - 1; of a set that is a list of images,
        [N, 1], their numbers.
      source: the data set, or its description.

    Returns:
      int32 [N, F], as the set's renderer takes them.

    Raises:
      ValueError: they are not [N, F], not whole numbers, or one is out of range.
    """
    factors_NxF, sizes = np.asarray(factors_NxF), source.factor_sizes
    if factors_NxF.ndim != 2 or factors_NxF.shape[1] != len(sizes):
        columns = ", ".join(source.factor_names) if source.is_grid else (
            "the numbers of the images, since this set is a list of images and cannot be drawn by its labels"
        )
        raise ValueError(f"factors must be [N, {len(sizes)}], {columns}; got {factors_NxF.shape}")
    whole = factors_NxF.dtype.kind in "iu" or (
        factors_NxF.dtype.kind == "f" and np.isfinite(factors_NxF).all() and (factors_NxF % 1 == 0).all()
    )
    if not whole:
        raise ValueError(f"factors must be whole numbers, got dtype {factors_NxF.dtype}{first_not_finite(factors_NxF)}")
    for name, size, column in zip(source.factor_names, sizes, factors_NxF.T, strict=True):
        outside = column[(column < 0) | (column >= size)]
        if outside.size:
            raise ValueError(f"{name} must be from 0 to {size - 1}, got {outside[0]}")
    return factors_NxF.astype(np.int32)


def first_not_finite(values: np.ndarray) -> str:
    """The end of a message, ', with nan in row 3'; empty where all numbers are finite."""
    if values.dtype.kind != "f":
        return ""
    rows = np.argwhere(~np.isfinite(values))
    return f", with {values[tuple(rows[0])]} in row {rows[0][0]}" if len(rows) else ""


def varying_factors(factors_NxF: np.ndarray) -> np.ndarray:
    """The factors that take more than one value in a sample.

    Args:
      factors_NxF: [N, F].

    Returns:
      Their indices, int64 [K].

    Example:
      >>> varying_factors(np.array([[0, 3], [1, 3]])).tolist()
      [0]
    """
    return np.flatnonzero((factors_NxF != factors_NxF[:1]).any(axis=0))


def in_bins(factors_NxF: np.ndarray, continuous_F: Sequence[bool], num_bins: int = 20) -> np.ndarray:
    """Ground truth as classes: continuous factors become equal-width bins.

    Args:
      factors_NxF: [N, F].
      continuous_F: for each factor, whether it is continuous.
      num_bins: of a continuous factor.

    Returns:
      int64 [N, F].

    Example:
      >>> in_bins(np.array([[0.0, 7.0], [1.0, 8.0]]), (True, False), num_bins=2).tolist()
      [[0, 7], [1, 8]]
    """
    columns = [
        mutual_information.discretise(column[:, None], num_bins)[:, 0] if is_continuous else column.astype(np.int64)
        for column, is_continuous in zip(factors_NxF.T, continuous_F, strict=True)
    ]
    return np.stack(columns, axis=1) if columns else np.zeros((len(factors_NxF), 0), np.int64)


def score(codes: np.ndarray, factors_NxF: np.ndarray, num_bins: int = 20) -> dict[str, Any]:
    """MIG and NMI (metrics/mig.py, metrics/nmi.py) of a sample, some of whose factors may be constant.

    Args:
      codes: [N, D].
      factors_NxF: the ground truth of the same images, classes (see `in_bins`), [N, F].
      num_bins: equal-width bins per latent.

    Returns:
      The two metrics' dicts in one; {} if F = 0. A factor that is constant in the sample has zeros in every array and
      no part in the mean 'mig', which is absent if no factor varies.

    Example:
      >>> factors = np.arange(8).reshape(-1, 1) % 2
      >>> round(float(score(1.0 * factors, factors)["nmi1"][0]), 3)
      1.0
    """
    num_factors = factors_NxF.shape[1]
    if not num_factors:
        return {}
    varying = varying_factors(factors_NxF)
    scores: dict[str, Any] = {}
    for name in ("mig", "nmi") if len(varying) else ():
        scores |= metrics.compute(name, codes, factors_NxF[:, varying], num_bins=num_bins, continuous=False)
    if len(varying) == num_factors:
        return scores
    padded = {"mig_per_factor": np.zeros(num_factors), "nmi": np.zeros((codes.shape[1], num_factors)),
              "nmi1": np.zeros(num_factors), "nmi2": np.zeros(num_factors),
              "nmi1_latent": np.zeros(num_factors, np.int64)}  # fmt: skip
    for name, values in padded.items():
        if name in scores:
            values[..., varying] = scores[name]
    return scores | padded


@functools.partial(jax.jit, static_argnums=2)
def _information(posterior: Posterior, key: jax.Array, num_images: int) -> dict[str, jax.Array]:
    noise = jax.random.normal(key, posterior.mean.shape)
    return kl_decomposition.information(posterior, noise, num_images) | {
        "kl_per_latent": jnp.mean(models_posterior.kl_per_latent(posterior), axis=0)
    }


def information(posterior: Posterior, num_images: int, seed: int, num_samples: int = 2048) -> dict[str, np.ndarray]:
    """KL per latent and the decomposition of the mean KL.

    See metrics/kl_decomposition.py for the decomposition and its bias.

    Args:
      posterior: of a sample, [N, D]; its first num_samples examples are used.
      num_images: of the whole data set.
      seed: of the codes that are drawn.
      num_samples: examples that are used, at most.

    Returns:
      Those of kl_decomposition.information and 'kl_per_latent' [D], all in nats.
    """
    some = jax.tree.map(lambda leaf: jnp.asarray(leaf[:num_samples]), posterior)
    return jax.tree.map(np.asarray, _information(some, jax.random.key(seed), num_images))


def takes_samples(name: str) -> bool:
    """Whether the metric of this name takes one sample of codes and factors."""
    return metrics.kind(name) in ("samples", "posteriors")


def check_metric(name: str, source: Source) -> None:
    """Checks that the metric of this name can be computed on a source.

    Raises:
      ValueError: it cannot.
    """
    takes = metrics.kind(name)
    if takes == "sampler" and not source.is_grid:
        raise ValueError(f"the metric {name!r} needs a set that holds every combination of its factors")
    if takes in ("samples", "posteriors") and not source.ground_truth_names:
        raise ValueError(f"the metric {name!r} requires labels, and this data set has none")


def accepted(name: str, offered: Mapping[str, Any], continuous: Sequence[bool] = ()) -> dict[str, Any]:
    """The arguments that the metric of this name takes, out of those which a caller can offer to any.

    Args:
      name: of the metric.
      offered: argument -> value, such as 'seed', 'groups' or 'progress'.
      continuous: for each factor of the sample, whether it is continuous rather than a class. Passed on as `continuous`
        where a factor is, or where the metric would infer it from the values (default None).

    Returns:
      Argument -> value.

    Example:
      >>> accepted("mig", {"seed": 0, "num_bins": 10})
      {'num_bins': 10}
    """
    parameters = inspect.signature(metrics.get(name)).parameters
    arguments = {option: value for option, value in offered.items() if option in parameters}
    if "continuous" in parameters and len(continuous):
        if any(continuous) or parameters["continuous"].default is None:
            arguments["continuous"] = [bool(entry) for entry in continuous]
    return arguments


def metric(
    name: str,
    encode: Callable[[np.ndarray], np.ndarray],
    codes: np.ndarray,
    factors_NxF: np.ndarray,
    source: Source,
    posterior: Posterior,
    **kwargs: Any,
) -> dict[str, Any]:
    """Computes the metric of this name from a sample or, where it draws its own, from `encode`.

    Args:
      name: of the metric.
      encode: factors as the source's renderer takes them, integers [N, F] -> codes [N, D].
      codes: [N, D].
      factors_NxF: the ground truth of the sample, or some columns of it.
      source: the data set.
      posterior: that of the same images and latents, for a metric of posteriors.
      **kwargs: options of the metric. `continuous` defaults to that of the source, where factors_NxF has all factors.

    Returns:
      The metric's dict.

    Raises:
      ValueError: the metric compares runs, or needs labels or a grid that the source lacks; and as the metric itself.
    """
    check_metric(name, source)
    if metrics.kind(name) == "sampler":
        return metrics.get(name)(encode, source.factor_sizes, **kwargs)
    continuous = source.ground_truth_continuous
    if factors_NxF.shape[1] == len(continuous):
        kwargs = accepted(name, {}, continuous) | kwargs
    if metrics.kind(name) == "posteriors":
        return metrics.compute(name, np.asarray(posterior.mean), factors_NxF, logvar=posterior.logvar, **kwargs)
    return metrics.compute(name, codes, factors_NxF, **kwargs)


def headlines(scores: Mapping[str, Mapping[str, Any]], labelled: bool = False) -> dict[str, float]:
    """The single numbers of metric dicts.

    Args:
      scores: metric -> its dict. Arrays, text and counts ('num_...', '..._num_...') are left out.
      labelled: whether a number has the metric's estimator in its name, where the dict has a text 'estimator':
        'infom (knn)'.

    Returns:
      Name -> number, in their order.

    Example:
      >>> headlines({"mig": {"mig": 0.5, "mig_per_factor": [0.4, 0.6], "num_bins": 20}})
      {'mig': 0.5}
    """
    rows = {}
    for values in scores.values():
        estimator = values.get("estimator")
        suffix = f" ({estimator})" if labelled and isinstance(estimator, str) else ""
        for key, value in values.items():
            is_number = np.ndim(value) == 0 and np.asarray(value).dtype.kind in "iuf"
            if is_number and not key.startswith("num_") and "_num_" not in key:
                rows[key + suffix] = float(value)
    return rows


def factor_information(posterior: Posterior, factors_NxF: np.ndarray, seed: int, num_bins: int = 20) -> np.ndarray:
    """Information of the best latent on each factor, max over d of I(z_d; v_f).

    Of sampled codes, so that a collapsed latent has no information, however its mean may vary; from equal-width bins,
    less the bias (bins - 1)(values - 1) / 2N of independent variables (Miller 1955), and at least 0.

    Args:
      posterior: of a sample, [N, D].
      factors_NxF: its ground truth, classes (see `in_bins`), [N, F].
      seed: of the codes.
      num_bins: equal-width bins per latent.

    Returns:
      In nats, [F]; empty where F = 0.
    """
    noise = np.random.default_rng(seed).standard_normal(posterior.mean.shape)
    codes = posterior.mean + np.exp(0.5 * posterior.logvar) * noise
    if not factors_NxF.shape[1]:
        return np.zeros(0)
    information_DxF = mutual_information.mutual_information(mutual_information.discretise(codes, num_bins), factors_NxF)
    values_F = np.array([len(np.unique(column)) for column in factors_NxF.T])
    return np.maximum(0.0, information_DxF.max(axis=0) - (num_bins - 1) * (values_F - 1) / (2 * len(codes)))
