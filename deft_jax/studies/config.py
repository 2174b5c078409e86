"""The configuration of a study: typed, with all faults reported before anything is trained.

`parse_study` is the only place where a mapping becomes a study: it applies the scale, then the changes in `set`, and
parses the chosen runs as trainings.
"""

import ast
import dataclasses
import re
from collections.abc import Mapping
from typing import Annotated, Any

from ml_collections import ConfigDict
from pydantic import AfterValidator, BeforeValidator

from deft_jax import data, metrics
from deft_jax.runtime import plugins, validation
from deft_jax.runtime.files import to_jsonable
from deft_jax.runtime.messages import short_repr
from deft_jax.runtime.validation import ConfigErrors, Count, NonNegativeInt, Text, section
from deft_jax.studies.scales import FILLED_IN
from deft_jax.studies.scoring import MIN_SAMPLES
from deft_jax.training.config import TrainingConfig, parse_training


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError("must hold at least one seed, and each seed once")
    return seeds


def _with_options(values: Any) -> Any:
    """('mig', ...) -> {'mig': {}, ...}."""
    is_names = isinstance(values, list | tuple) and all(isinstance(name, str) for name in values)
    return {name: {} for name in values} if is_names else values


@section
class StudyConfig:
    """A study: trainings by name, their seeds, and the metrics that score them."""

    runs: Mapping[str, TrainingConfig]
    """Trainings by name; their own seeds are not used. Runs called SET/OBJECTIVE make a table of objectives by sets."""
    seeds: Annotated[tuple[NonNegativeInt, ...], AfterValidator(_distinct)]
    """Seeds of every run. Default: as the scale fills in."""
    metrics: Annotated[Mapping[str, Mapping[str, Any]], BeforeValidator(_with_options)]
    """Metrics that score finished models, of posterior means: names, or name -> options. Default: as the scale."""
    num_samples: Count
    """Images that are encoded to score a model. Default: as the scale fills in."""
    scale: Text | None = None
    """A key of `scales`, or 'module:function' of a function of the study. Default: None, the runs as they stand."""
    scales: Mapping[str, Text] = dataclasses.field(default_factory=dict)
    """Name of a scale -> 'module:function'; see studies/scales.py."""
    pack: Count | None = None
    """Most seeds that are trained in one program. Default: None, all on an accelerator, 1 on a CPU."""
    only: tuple[Text, ...] | None = None
    """Names of the runs to train and to show. Default: None, all."""
    set: tuple[Text, ...] | None = None
    """Fields that are set in all chosen runs after the scale, as 'section.name=value'. Default: None."""

    def expand_runs(self) -> dict[str, TrainingConfig]:
        """Every training of the study: 'NAME/seed_S' -> its configuration."""
        return {
            f"{name}/seed_{seed}": run.with_seed(seed) for name, run in self.runs.items() for seed in self.seeds
        }

    def with_absolute_paths(self) -> "StudyConfig":
        """The study with absolute paths of data sets: it can be continued from any folder."""
        runs = {}
        for name, run in self.runs.items():
            options = data.with_absolute_paths(run.data.name, run.data.options)
            runs[name] = dataclasses.replace(run, data=dataclasses.replace(run.data, options=options))
        return dataclasses.replace(self, runs=runs)

    def to_mapping(self) -> dict[str, Any]:
        """What config.json holds: the chosen runs as they are trained, after the scale and after `set`."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return to_jsonable(fields | {"runs": {name: run.to_mapping() for name, run in self.runs.items()}})


def parse_study(config: Any) -> StudyConfig:
    """The study that a user describes, at its scale.

    Args:
      config: a ConfigDict, a mapping of the same fields, or a StudyConfig, which is returned as it is.

    Returns:
      The study with the runs that `only` chooses, as they are trained.

    Raises:
      ConfigErrors: one line per fault of the study, its scale, its runs and its metrics.
    """
    if isinstance(config, StudyConfig):
        return config
    values = _copy(validation.mapping_of(config))
    if not isinstance(values, dict):
        return validation.parse(StudyConfig, values)  # raises
    lines: list[str] = []
    is_scaled = True
    try:
        values = _scaled(values)
    except ConfigErrors as error:
        is_scaled = False
        lines += error.lines
    values = {field: value for field, value in values.items() if value is not None}
    if isinstance(values.get("runs"), dict):
        values["runs"] = _parsed_runs(values, lines)
    parsed = None
    try:
        parsed = validation.parse(StudyConfig, values)
    except ConfigErrors as error:
        unfilled = () if is_scaled else tuple(f"the configuration lacks the field {field!r}" for field in FILLED_IN)
        lines += [line for line in error.lines if not line.startswith(unfilled or ("\n",))]
    lines += _metric_faults(_with_options(values.get("metrics")), values.get("num_samples"))
    if lines or parsed is None:
        raise ConfigErrors(list(dict.fromkeys(lines)))
    return parsed


def _copy(values: Any) -> Any:
    """A copy of nested mappings in which no two are the same object; runs may share a section."""
    return {name: _copy(value) for name, value in values.items()} if isinstance(values, Mapping) else values


def _scaled(values: dict[str, Any]) -> dict[str, Any]:
    """The study as the function of its scale returns it. Raises ConfigErrors."""
    name, scales = values.get("scale"), values.get("scales") or {}
    if name is None:
        return values
    if not isinstance(name, str) or not isinstance(scales, dict):
        return values  # reported with the types
    known = ", ".join([*scales, "'module:function'"])
    path = f"scales.{name}" if name in scales else "scale"
    try:
        function = plugins.load_function(scales.get(name, name), "scale")
    except ValueError as error:
        raise ConfigErrors([f"{path}: {error}"]) from None
    if function is None:
        allowed = "'module:function'" if name in scales else f"one of {known}"
        raise ConfigErrors([f"{path} must be {allowed}, got {short_repr(scales.get(name, name))}"])
    try:
        study = function(ConfigDict(values, type_safe=False))
    except Exception as error:  # a function of the user's, on a study that is not yet validated
        text = " ".join(str(error).split())
        raise ConfigErrors([f"{path}: the function {scales.get(name, name)} raises {type(error).__name__}: {text}"]) \
            from None
    if not isinstance(study, ConfigDict):
        raise ConfigErrors([f"{path}: the function {scales.get(name, name)} must return the study as a ConfigDict, "
                            f"got {short_repr(study)}"])
    return _ordered_as(_copy(study.to_dict()), values)


def _ordered_as(values: Any, template: Any) -> Any:
    """The same values with the fields in the order of the template, since a ConfigDict sorts its fields."""
    if not isinstance(values, dict) or not isinstance(template, dict):
        return values
    names = [*(name for name in template if name in values), *(name for name in values if name not in template)]
    return {name: _ordered_as(values[name], template.get(name)) for name in names}


def _parsed_runs(values: dict[str, Any], lines: list[str]) -> dict[str, TrainingConfig]:
    """The chosen runs as they are trained; faults are added to the lines."""
    runs, only = values["runs"], values.get("only") or ()
    if not runs:
        lines.append("runs must hold at least one run, got {}")
    lines += _name_faults(runs)
    chosen = runs
    if isinstance(only, list | tuple) and only:
        lines += [f"only names {name!r}, which is no run of the study; it has {', '.join(runs)}"
                  for name in only if name not in runs]
        chosen = {name: run for name, run in runs.items() if name in only}
    changes = values.get("set") or ()
    for place, text in enumerate(changes) if isinstance(changes, list | tuple) else ():
        if isinstance(text, str):
            _set(chosen, text, f"set[{place}]", lines)
    parsed = {}
    for name, run in chosen.items():
        if isinstance(run, dict) and run.get("num_seeds") is not None:
            lines.append(f"runs.{name}.num_seeds must be None, got {short_repr(run['num_seeds'])}: "
                         "a study has its seeds in seeds")
        try:
            parsed[name] = parse_training(run)
        except ConfigErrors as error:
            lines += [_within_run(name, line) for line in error.lines]
    return parsed


def _name_faults(runs: Mapping[Any, Any]) -> list[str]:
    """Faults of names of runs, which are also their folders in the workdir."""
    lines = []
    names = [name for name in runs if isinstance(name, str)]  # others are reported with the types
    for name in names:
        if {"", ".", ".."} & set(name.split("/")) or "\0" in name:
            lines.append(f"runs has the name {name!r}; a name is a folder in the workdir: 'deft' or 'squares/deft'")
        lines += [f"runs has the names {name!r} and {inner!r}, but {inner!r} is in the folder of a seed of {name!r}"
                  for inner in names if re.match(re.escape(name) + r"/seed_\d+(/|$)", inner)]
    return lines


def _set(runs: Mapping[str, Any], text: str, path: str, lines: list[str]) -> None:
    """Sets a field in all runs, from 'section.name=value'; the value is a Python literal, or else a text."""
    field, equals, value = (part.strip() for part in text.partition("="))
    if not field or not equals:
        lines.append(f"{path} must be 'section.name=value', got {text!r}")
        return
    if field in ("seed", "num_seeds"):
        lines.append(f"{path} must not set {field}: a study has its seeds in seeds")
        return
    *sections, last = field.split(".")
    for name, run in runs.items():
        for part in sections:
            run = run.get(part) if isinstance(run, dict) else None
        if not isinstance(run, dict) or last not in run:
            lines.append(f"{path} sets {field}, a field that runs.{name} does not have")
            continue
        try:
            run[last] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            run[last] = value


def _within_run(name: str, line: str) -> str:
    """A line about a training, with the path of the run in the study."""
    path = f"runs.{name}"
    if line.startswith("the configuration"):
        return path + line.removeprefix("the configuration")
    first = line.replace("[", ".").replace(" ", ".").replace(":", ".").partition(".")[0]
    is_path = first in {field.name for field in dataclasses.fields(TrainingConfig)}
    return f"{path}.{line}" if is_path else f"{path}: {line}"


def _metric_faults(chosen: Any, num_samples: Any) -> list[str]:
    """Faults of the metrics' names and options, and of a sample that is too small for them."""
    lines: list[str] = []
    for name, options in chosen.items() if isinstance(chosen, dict) else ():
        try:
            if metrics.kind(name) == "runs":
                raise ValueError("compares several runs: score them with deft_jax.evaluate")
            if isinstance(options, Mapping):
                validation.options_of(metrics.get(name), options, f"metrics.{name}", metrics.CALLER_ARGUMENTS)
        except ConfigErrors as error:
            lines += error.lines
        except ValueError as error:
            lines.append(f"metrics.{name}: {error}")
    if chosen and isinstance(num_samples, int) and 1 <= num_samples < MIN_SAMPLES:
        lines.append(f"num_samples must be at least {MIN_SAMPLES} to compute metrics, got {num_samples}")
    return lines
