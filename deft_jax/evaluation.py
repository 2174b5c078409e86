"""Scores and figures of a model: live parameters or those of a checkpoint."""

import concurrent.futures
import functools
import inspect
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from deft_jax import factors, gaussian, metrics
from deft_jax import information as info
from deft_jax.jax_settings import pinned
from deft_jax.models import Model
from deft_jax.source import Source
from deft_jax.state import Posterior
from deft_jax.steps import Experiment

_CHUNK = 200  # images encoded at a time; on a CPU, 500 are twice as slow an image, out of its cache


def draw_factors(source: Source, num_samples: int, seed: int) -> np.ndarray:
    """Factors of a sample of images; the same for the same seed.

    Args:
      source: the data set.
      num_samples: images to draw. A set with no more images is taken whole, each image once, in a random order: the
        sample then has source.num_images rows. From a larger set the draws are uniform and independent, so an image
        may occur more than once.
      seed: integer >= 0.

    Returns:
      int32 [N, F], N = min(num_samples, source.num_images).
    """
    if source.num_images > num_samples:
        return factors.draw(seed, num_samples, source.factor_sizes)
    # A stream of its own: a metric may split the sample by a permutation of the same length and seed.
    index_N = np.random.default_rng((seed, source.num_images)).permutation(source.num_images)
    return np.stack(np.unravel_index(index_N, source.factor_sizes), axis=1).astype(np.int32)


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


class Encoder:
    """Posteriors of examples given by their factors; one compiled program a stage."""

    def __init__(self, experiment: Experiment, seed: int = 0):
        """seed: of the randomness that images hold beyond their factors, if they hold any."""
        self._experiment, self._source = experiment, experiment.source
        self._key = jax.random.key(seed)
        self._encode = jax.jit(self._encode_chunk, static_argnums=0)

    def _encode_chunk(self, stage, params, arrays, factors_NxF, key):
        images = self._source.render(arrays, factors_NxF, key)
        return self._experiment.encode(params, images, stage)

    def __call__(self, params, factors_NxF: np.ndarray, stage: int) -> Posterior:
        """Posterior of [N, D] numpy arrays with the groups up to `stage` open; for factors see `check_factors`."""
        factors_NxF = check_factors(factors_NxF, self._source)
        parts = []
        for start in range(0, len(factors_NxF), _CHUNK):
            chunk = factors_NxF[start : start + _CHUNK]
            padded = np.resize(chunk, (_CHUNK, chunk.shape[1]))  # one shape, so one program
            key = jax.random.fold_in(self._key, start)
            parts.append(self._encode(stage, params, self._source.arrays, padded, key))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(factors_NxF)], *parts)


class Table:
    """Posteriors of a source's images, each encoded when it is first asked for and kept.

    What an image holds beyond its factors comes from its index alone, so that it has one look, with whichever others
    it is asked for.
    """

    def __init__(self, experiment: Experiment, params, stage: int, seed: int = 0):
        """seed: of the randomness that images hold beyond their factors, if they hold any."""
        self._source, self._params = experiment.source, params
        # One compiled loop over small chunks: on a CPU nearly three times as fast an image as a dispatch a chunk. The
        # operations of so small a chunk do not fill the cores, so each core has a thread that runs the loop.
        on_cpu = jax.default_backend() == "cpu"
        self._chunk, self._threads = (32, len(cores())) if on_cpu else (1024, 1)
        self._chunks = min(128, -(-self._source.num_images // self._chunk))  # in one dispatch
        self._index, self._held = np.zeros(0, np.int64), None  # sorted; the posteriors in the same order

        def look(arrays, index):
            factors_1xF = factors.from_index(index[None], self._source.factor_sizes)
            return self._source.render(arrays, factors_1xF, jax.random.fold_in(jax.random.key(seed), index))[0]

        def encode_chunk(params, arrays, index_N):
            return experiment.encode(params, jax.vmap(look, (None, 0))(arrays, index_N), stage)

        self._run = jax.jit(lambda params, arrays, index_MxN: jax.lax.map(
            functools.partial(encode_chunk, params, arrays), index_MxN
        ))  # fmt: skip

    def __call__(self, factors_NxF: np.ndarray) -> Posterior:
        """Posterior of the images of these factors: numpy arrays [N, D]. Quickest with many at a time."""
        index_N = np.ravel_multi_index(tuple(check_factors(factors_NxF, self._source).T), self._source.factor_sizes)
        new = np.setdiff1d(index_N, self._index)
        if len(new):
            parts = [self._encode(new)] if self._held is None else [self._held, self._encode(new)]
            index = np.concatenate([self._index, new])
            order = np.argsort(index)
            self._index = index[order]
            self._held = jax.tree.map(lambda *leaves: np.concatenate(leaves)[order], *parts)
        rows = np.searchsorted(self._index, index_N)
        return jax.tree.map(lambda leaf: leaf[rows], self._held)

    @property
    def num_encoded(self) -> int:
        """Images encoded so far."""
        return len(self._index)

    def _encode(self, index_N):
        """Posterior of images by number, in dispatches of one shape."""
        blocks = -(-len(index_N) // (self._chunks * self._chunk))
        padded = np.resize(index_N.astype(np.int32), (blocks, self._chunks, self._chunk))

        @pinned()
        def run(block):
            return jax.tree.map(np.asarray, self._run(self._params, self._source.arrays, block))

        with concurrent.futures.ThreadPoolExecutor(self._threads) as pool:
            parts = list(pool.map(run, padded))
        return jax.tree.map(lambda *leaves: np.stack(leaves).reshape(-1, leaves[0].shape[-1])[: len(index_N)], *parts)


def cores() -> list[int]:
    """The numbers of the cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count()))


def varying_factors(factors_NxF: np.ndarray) -> np.ndarray:
    """Indices of the factors that take more than one value in a sample: int64 [K]."""
    return np.flatnonzero((factors_NxF != factors_NxF[:1]).any(axis=0))


def in_bins(factors_NxF: np.ndarray, continuous_F: Sequence[bool], num_bins: int = 20) -> np.ndarray:
    """Ground truth with its continuous factors cut into equal-width bins: int64 [N, F]."""
    columns = [
        info.discretise(column[:, None], num_bins)[:, 0] if is_continuous else column.astype(np.int64)
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
    return gaussian.information(posterior, noise, num_images) | {
        "kl_per_latent": jnp.mean(gaussian.kl_per_latent(posterior), axis=0)
    }


def information(posterior: Posterior, num_images: int, seed: int, num_samples: int = 2048) -> dict:
    """KL per latent and what the mean KL is made of, in nats: see gaussian.information, for its bias as well.

    The first num_samples examples of the posterior are used.
    """
    some = jax.tree.map(lambda leaf: jnp.asarray(leaf[:num_samples]), posterior)
    return jax.tree.map(np.asarray, _information(some, jax.random.key(seed), num_images))


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
    told_DxF = info.mutual_information(info.discretise(codes, num_bins), factors_NxF)
    values_F = np.array([len(np.unique(column)) for column in factors_NxF.T])
    return np.maximum(0.0, told_DxF.max(axis=0) - (num_bins - 1) * (values_F - 1) / (2 * len(codes)))


def freezing_order(
    evaluations: Sequence[Mapping],
    factor_names: Sequence[str],
    group_of_latent: Sequence[int],
    threshold: float = 0.1,
) -> list[dict]:
    """Which factor entered when, read from the logged NMI matrices: one dict a factor, in the order of entering.

    evaluations: records with 'step', 'stage', 'beta' and 'nmi' [D, F], in the order of training.
    threshold: share of a factor's entropy that one latent must know for the factor to have entered.

    Each dict has 'factor'; 'nmi', the best latent's value at the last evaluation of each stage so far; and 'step',
    'stage', 'beta', 'latent' and 'group' of the first evaluation from which on it has stayed at the threshold or above
    (an untrained encoder may pass it for a moment), None if it is below at the last. Factors seen to enter at the same
    evaluation come in the order of how much is known of them there.
    """
    ends = {record["stage"]: np.asarray(record["nmi"]).max(axis=0) for record in evaluations}
    rows = []
    for index, name in enumerate(factor_names):
        row = {"factor": name, "nmi": [float(best[index]) for _, best in sorted(ends.items())]}
        row |= dict.fromkeys(("step", "stage", "beta", "latent", "group"))
        order = (1, 0, -max(row["nmi"]))
        for record in reversed(evaluations):
            nmi_D = np.asarray(record["nmi"])[:, index]
            if nmi_D.max() < threshold:
                break
            latent = int(nmi_D.argmax())
            row |= {name: record[name] for name in ("step", "stage", "beta")}
            row |= {"latent": latent, "group": group_of_latent[latent]}
            order = (0, record["step"], -nmi_D.max())
        rows.append((order, row))
    return [row for _, row in sorted(rows, key=lambda pair: pair[0])]


def freezing_table(rows: Sequence[Mapping], betas: Sequence[float]) -> str:
    """The freezing order as a text table, one line a factor, at least one. betas: at the end of each stage."""
    stages = len(rows[0]["nmi"])
    head = "".join(f"{f'beta {beta:.3g}':>11}" for beta in betas[:stages])
    lines = [f"{'factor':<12}{head}   enters"]
    for row in rows:
        values = "".join(f"{value:>11.2f}" for value in row["nmi"])
        enters = "not yet"
        if row["stage"] is not None:
            enters = f"beta {row['beta']:.3g}, stage {row['stage']}: z{row['latent']} of group {row['group']}"
        lines.append(f"{row['factor']:<12}{values}   {enters}")
    return "\n".join(lines)


def to_images(likelihood: str, outputs: jax.Array) -> jax.Array:
    """Decoder outputs as images in [0, 1]: the means of a 'bernoulli' or a 'gaussian' likelihood."""
    return jax.nn.sigmoid(outputs) if likelihood == "bernoulli" else jnp.clip(outputs, 0.0, 1.0)


def figures(
    *,
    source: Source,
    model: Model,
    params,
    stage: int,
    factors_NxF: np.ndarray,
    posterior: Posterior,
    scores: Mapping,
    reach: float = 2.0,
    title: str = "",
) -> dict:
    """Traversals, reconstructions and, where there are labels, the NMI heat map as matplotlib figures by name.

    factors_NxF, posterior: a sample, as evaluated; its first images are shown. Traversals set one latent of the
    first image to values from -reach to reach and leave the others at their posterior means. Of more than 20 open
    latents, those of highest KL are shown.
    """
    from deft_jax import plots

    group_of_latent = model.group_of_latent
    kl_D = np.asarray(jnp.mean(gaussian.kl_per_latent(posterior), axis=0))
    values_T = np.linspace(-reach, reach, 9)
    opened = np.flatnonzero(np.asarray(group_of_latent) <= stage)
    traversed = opened[plots.shown_latents(kl_D[opened])]
    z_LxTxD = np.tile(posterior.mean[0], (len(traversed), len(values_T), 1))
    for row, latent in enumerate(traversed):
        z_LxTxD[row, :, latent] = values_T
    decode = jax.jit(lambda params, z: to_images(source.likelihood, model.decode(params, z)))
    decoded = decode(params, jnp.asarray(z_LxTxD.reshape(-1, model.num_latents)))
    labels = [f"z{latent} (group {group_of_latent[latent]})  KL {kl_D[latent]:.2f}" for latent in traversed]

    shown = min(20, len(factors_NxF))
    images = jax.jit(source.render)(source.arrays, jnp.asarray(factors_NxF[:shown]), jax.random.key(0))
    again = decode(params, jnp.asarray(posterior.mean[:shown]))
    made = {
        "traversals": plots.traversals(
            np.asarray(decoded).reshape(len(traversed), len(values_T), *source.image_shape), labels, values_T,
            plots.selection_note(len(traversed), len(opened)),
        ),
        "reconstructions": plots.reconstructions(np.asarray(images), np.asarray(again)),
    }
    if "nmi" in scores:
        names = source.ground_truth_names
        made["nmi"] = plots.nmi_heatmap(
            scores["nmi"], names, group_of_latent_D=group_of_latent, title=title or None, kl_D=kl_D
        )
    return made


def history_figures(
    records: Sequence[Mapping],
    *,
    factor_names: Sequence[str],
    group_of_latent: Sequence[int],
    stage_starts: Sequence[int],
    betas: Sequence[float],
) -> dict:
    """NMI1, NMI2 (where there are factors) and KL per latent over training, from metrics.jsonl, as figures by name."""
    from deft_jax import plots

    evaluated = [record for record in records if record["kind"] == "eval"]
    trained = [record for record in records if record["kind"] == "train"]
    marks = {"stage_starts": stage_starts, "betas": betas}
    made = {}
    for name in ("nmi1", "nmi2") if factor_names else ():
        values = np.array([record[name] for record in evaluated])
        steps = np.array([record["step"] for record in evaluated])
        made[name] = plots.nmi_over_time(steps, values, factor_names, name.upper(), **marks)
    steps = np.array([record["step"] for record in trained])
    values = np.array([record["kl_per_latent"] for record in trained])
    made["kl"] = plots.kl_over_time(steps, values, group_of_latent, **marks)
    return made


def save_figures(made: Mapping, directory: pathlib.Path, suffix: str = "") -> None:
    """Writes figures as NAME[suffix].png into the directory."""
    from deft_jax import plots

    for name, figure in made.items():
        plots.save(figure, directory / f"{name}{suffix}.png")
