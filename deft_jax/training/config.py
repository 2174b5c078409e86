"""The configuration of a training, and the checks of its fields."""

import inspect
from collections.abc import Mapping

import numpy as np

from deft_jax import metrics
from deft_jax.data.description import SourceDescription
from deft_jax.data.source import Source
from deft_jax.evaluation import scores
from deft_jax.runtime import options
from deft_jax.runtime.jax_settings import pinned
from deft_jax.training import build as training_build
from deft_jax.training.experiment import Experiment

# What a resumed run may set anew: it changes what is written down, not what is learned.
RESUMABLE_CHANGES = ("log_every", "checkpoints", "evaluation", "periodic_metrics")


_FIELDS = ("seed", "batch_size", "total_steps", "data", "model", "objective", "stages", "optimizer",
           "log_every", "checkpoints", "evaluation")  # fmt: skip


_OPTIONAL = ("periodic_metrics", "num_seeds")


_COUNTS = ("log_every", "evaluation.every", "evaluation.num_samples", "checkpoints.every", "checkpoints.keep")


@pinned()
def build(config, source: Source | SourceDescription | None = None) -> Experiment:
    """The checked experiment of a configuration (a ConfigDict or a mapping of the same fields).

    source: the data set, or what a run has kept of it, in place of the one that the configuration describes.
    """
    config = config.to_dict() if hasattr(config, "to_dict") else config
    options.check_section("the configuration", config)
    missing = [field for field in _FIELDS if field not in config]
    if missing:
        raise ValueError(f"the configuration lacks {', '.join(missing)}; it needs {', '.join(_FIELDS)}")
    _check_counts(config)
    return training_build.build(
        seed=config["seed"],
        data_options=config["data"],
        model_options=config["model"],
        objective_options=config["objective"],
        stage_options=config["stages"],
        optimizer_options=config["optimizer"],
        batch_size=config["batch_size"],
        total_steps=config["total_steps"],
        source=source,
    )


def check_fields(config) -> None:
    """Raises ValueError in one line where a configuration has a field that nothing reads."""
    unknown = sorted(set(config) - {*_FIELDS, *_OPTIONAL})
    if unknown:
        listed = ", ".join(map(options.short_repr, unknown))
        raise ValueError(f"the configuration has no field {listed}; known: {', '.join(_FIELDS + _OPTIONAL)}")


def build_checked(config: Mapping) -> Experiment:
    """The experiment of a configuration of which everything has been looked at."""
    check_fields(config)
    built = build(config)
    _check_counts(config)
    _check_evals(config.get("periodic_metrics") or {}, built.source, config["evaluation"]["num_samples"])
    return built


def _check_counts(config) -> None:
    for name in _COUNTS:
        section, _, field = name.rpartition(".")
        values = config[section] if section else config
        options.check_section(section, values)
        if field not in values:
            raise ValueError(f"{section} lacks the field {field!r}")
        options.check_count(name, values[field])
    options.check_count("evaluation.num_samples", config["evaluation"]["num_samples"], least=2)
    if "seed" not in config["evaluation"]:
        raise ValueError("evaluation lacks the field 'seed'")
    options.check_count("evaluation.seed", config["evaluation"]["seed"], least=0)


def _check_evals(periodic_metrics, source, num_samples: int = 10_000) -> None:
    options.check_section("periodic_metrics", periodic_metrics)
    for name, section in periodic_metrics.items():
        options.check_section(f"periodic_metrics.{name}", section)
        if metrics.kind(name, "metric in periodic_metrics") == "runs":
            raise ValueError(f"periodic_metrics.{name} compares several runs: score them with deft_jax.evaluate")
        scores.check_metric(name, source)
        draws = metrics.kind(name) == "sampler" and name in metrics.REGISTRY
        if draws and sum(size > 1 for size in source.factor_sizes) < 2:
            raise ValueError(f"periodic_metrics.{name} needs two factors with more than one value, got sizes "
                             f"{tuple(source.factor_sizes)} of {', '.join(source.factor_names)}")
        if "every" not in section:
            raise ValueError(f"periodic_metrics.{name} lacks the field 'every', steps between two evaluations")
        options.check_count(f"periodic_metrics.{name}.every", section["every"])
        chosen = {key: value for key, value in section.items() if key != "every"}
        options.check(metrics.get(name), chosen, f"periodic_metrics.{name}", metrics.GIVEN)
        _try_metric(name, chosen, len(source.ground_truth_names), num_samples)
        for field in _OF_SAMPLES if metrics.kind(name) == "samples" else ():
            if (chosen.get(field) or 0) >= source.num_images:
                limit = f"below the number of images, {source.num_images}"
                raise ValueError(f"periodic_metrics.{name}.{field} must be {limit}, got {chosen[field]}")


_FEW = 100  # samples, or training points, of a trial


_OF_SAMPLES = ("num_train", "num_neighbors")  # what must be below the number of samples


_OF_SAMPLERS = ("num_train", "num_eval", "num_variance", "batch_size", "chunk")  # what takes long if there are many


def _try_metric(name: str, chosen: dict, num_factors: int, num_samples: int) -> None:
    """Raises ValueError for values that the metric refuses, before anything is trained.

    It is called on a few made-up codes that know their factors, with what counts samples cut down to them; a fault that
    it also finds with its own defaults is one of the trial.
    """
    takes = metrics.kind(name)
    for field in _OF_SAMPLES if takes == "samples" else ():
        if (chosen.get(field) or 0) >= num_samples:
            told = f"must be below evaluation.num_samples = {num_samples}, got {chosen[field]}"
            raise ValueError(f"periodic_metrics.{name}.{field} {told}")
    if not chosen:
        return
    parameters = inspect.signature(metrics.get(name)).parameters
    rng = np.random.default_rng(0)
    samples = min(_FEW, num_samples)
    sizes = (3,) * max(2, num_factors)
    factors_NxF = rng.integers(0, 3, (samples, num_factors or 2))
    codes = factors_NxF + 0.1 * rng.standard_normal(factors_NxF.shape)

    def fault(given: dict) -> str | None:
        few = dict(given)
        if takes == "sampler":
            few = {field: _FEW // 2 for field in _OF_SAMPLERS if field in parameters} | few
        for field in _OF_SAMPLERS if takes == "sampler" else _OF_SAMPLES:
            if isinstance(few.get(field), int):
                few[field] = min(few[field], (_FEW if takes == "sampler" else samples) // 2)
        try:
            if takes == "sampler":
                metrics.get(name)(lambda factors: np.asarray(factors, np.float32), sizes, **few)
            else:
                logvar = {"logvar": np.zeros_like(codes)} if takes == "posteriors" else {}
                metrics.compute(name, codes, factors_NxF, **logvar, **few)
        except ValueError as error:
            return " ".join(str(error).split())
        return None

    told = fault(chosen)
    if told is None or fault({}) is not None:
        return
    guilty = [field for field, value in chosen.items() if fault({field: value}) is not None]
    raise ValueError(f"periodic_metrics.{name}{'.' + guilty[0] if len(guilty) == 1 else ''}: {told}")
