"""A study: many trainings described at once, and the tables of what came out of them.

A study has `runs`, name -> configuration of a training; `seeds`; `metrics` to score the finished models with, names or
name -> the metric's own fields, of posterior means of `num_samples` images; and `scales`, name -> what that scale
changes, of which `scale` chooses one. A scale's fields set something anew in all runs ('total_steps', 'model/width',
...; to a value, or to a multiple of the one there, '*0.25'; one that ends in '?' only where it is there), or give what
the study itself leaves open ('study/seeds', 'study/metrics', 'study/num_samples'). `set`, if given, lists such fields
of the runs once more, as 'model.width=16' or 'batch_size=*2', and has the last word. `only`, if given, names the runs
to do and to show.

Each training of a study has a folder NAME/seed_S: `run`, its workdir; cell.json, its scores; log.txt, what it said.
"""

import ast
import copy
import json
import pathlib
from collections.abc import Mapping, Sequence

_FIELDS = ("runs", "seeds", "metrics", "num_samples", "scale", "scales")


_OWN = ("seeds", "metrics", "num_samples")


_OPTIONAL = ("pack", "only", "set")


def resolve_scale(config: Mapping) -> dict:
    """The study with all that it leaves open, None, taken from its scale. Raises ValueError where it does not fit."""
    missing = [field for field in _FIELDS if field not in config]
    unknown = [field for field in config if field not in _FIELDS + _OPTIONAL]
    if missing:
        raise ValueError(f"the study lacks {', '.join(missing)}; it needs {', '.join(_FIELDS)}")
    if unknown:
        raise ValueError(f"the study has no field {unknown[0]!r}; it has {', '.join(_FIELDS + _OPTIONAL)}")
    if config["scale"] not in config["scales"]:
        raise ValueError(f"unknown scale {config['scale']!r}; known: {', '.join(config['scales'])}")
    made = dict(config)
    for field, value in config["scales"][config["scale"]].items():
        section, _, name = field.partition("/")
        if section == "study" and name not in _OWN:
            raise ValueError(f"the scale sets {field!r}; of the study itself it may set {', '.join(_OWN)}")
        if section == "study" and made[name] is None:
            made[name] = value
    still = [field for field in _OWN if made[field] is None]
    if still:
        raise ValueError(f"neither the study nor its scale {config['scale']!r} sets {', '.join(still)}")
    return made


def metric_options(config: Mapping) -> dict[str, dict]:
    """Each metric of a study and its own fields."""
    chosen = config["metrics"]
    return {name: dict(chosen[name]) if isinstance(chosen, Mapping) else {} for name in chosen}


def expand_runs(config: Mapping) -> dict[str, dict]:
    """Every training of a study: 'NAME/seed_S' -> its configuration. Raises ValueError where the study does not fit."""
    config = resolve_scale(config)
    seeds = list(config["seeds"])
    if not config["runs"] or not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"a study needs at least one run and one seed, each seed once, got seeds {tuple(seeds)}")
    only = config.get("only")
    unknown = [name for name in only or () if name not in config["runs"]]
    if unknown:
        raise ValueError(f"only names {unknown[0]!r}, which is no run of the study; it has {', '.join(config['runs'])}")
    fields = {k: v for k, v in config["scales"][config["scale"]].items() if not k.startswith("study/")}
    changes = _changes(config.get("set") or ())
    made = {}
    for name, run in config["runs"].items():
        if only and name not in only:
            continue
        scaled = copy.deepcopy(dict(run))
        if scaled.get("num_seeds") is not None:
            raise ValueError(f"the run {name!r} sets num_seeds; a study has its seeds in `seeds`")
        for field, value in fields.items():
            _set(scaled, field, value, f"the scale sets {field!r}", name)
        for field, value in changes.items():
            _set(scaled, field, value, f"`set` has {field.replace('/', '.')!r}", name)
        for seed in seeds:
            made[f"{name}/seed_{seed}"] = copy.deepcopy(scaled) | {"seed": seed}
    return made


def _changes(given: Sequence[str]) -> dict:
    """'section.name=value' -> the value of each field 'section/name', as Python reads it, or else the text."""
    made = {}
    for text in given:
        field, equals, value = (part.strip() for part in str(text).partition("="))
        if not field or not equals:
            raise ValueError(f"`set` lists fields as 'section.name=value', got {text!r}")
        if field.removesuffix("?") in ("seed", "num_seeds"):
            raise ValueError(f"`set` has {field!r}; a study has its seeds in `seeds`")
        try:
            made[field.replace(".", "/")] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            made[field.replace(".", "/")] = value
    return made


def _set(run: dict, field: str, value, told: str, name: str) -> None:
    """Sets a field 'section/name' of a configuration anew; one that ends in '?' only where it is there.

    A factor leaves a field that ends in '?' and is None as it is.

    told: who sets it, for the message that refuses it. name: of the run.
    """
    *sections, last = field.removesuffix("?").split("/")
    for section in sections:
        run = run.get(section, {})
    factor = isinstance(value, str) and value[:1] == "*"
    if last in run and not (factor and run[last] is None and field.endswith("?")):
        run[last] = _times(run[last], value, told) if factor else value
    elif not field.endswith("?"):
        raise ValueError(f"{told}, which the run {name!r} does not have")


def _times(held, factor: str, told: str):
    """A number, or each of a sequence, times '*FACTOR'; integers stay integers, and at least 1."""
    if isinstance(held, (list, tuple)):
        return [_times(entry, factor, told) for entry in held]
    try:
        number = held * float(factor[1:])
    except (TypeError, ValueError):
        raise ValueError(f"{told} to {factor!r} of {held!r}, which is no number") from None
    return max(1, round(number)) if isinstance(held, int) else number


def finished(directory: pathlib.Path, metrics: Sequence[str]) -> bool:
    """Whether a run needs nothing more: it has diverged, or is trained and scored."""
    try:
        cell = json.loads((directory / "cell.json").read_text())
    except (OSError, ValueError):
        return False
    return "diverged" in cell or set(metrics) <= set(cell.get("scores", {}))


def merged(held: Mapping, summary: Mapping) -> dict:
    """A summary with what an earlier one says of other runs and seeds.

    Args:
      held: the earlier summary of the same study, {} without any.
      summary: as of `summarise`; it has the last word on its runs and seeds.
    """
    now = {str(seed) for seed in summary["seeds"]}

    def others(values):
        kept = [seed for seed in values if str(seed) not in now]
        return {seed: values[seed] for seed in kept} if isinstance(values, Mapping) else kept

    runs = dict(held.get("runs", {}))
    for name, entry in summary["runs"].items():
        before = runs.get(name, {"scores": {}, "seconds": {}, "diverged": [], "missing": []})
        numbers = dict.fromkeys([*before["scores"], *entry["scores"]])
        runs[name] = {
            "scores": {n: others(before["scores"].get(n, {})) | entry["scores"].get(n, {}) for n in numbers},
            "seconds": others(before["seconds"]) | entry["seconds"],
            "diverged": others(before["diverged"]) + entry["diverged"],
            "missing": others(before["missing"]) + entry["missing"],
        }
    seeds = list(dict.fromkeys([*held.get("seeds", []), *summary["seeds"]]))
    return {**held, "scale": summary["scale"], "seeds": seeds, "runs": runs}
