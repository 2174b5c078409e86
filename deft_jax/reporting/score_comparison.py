"""Several trainings side by side: the scores of their results.json as violins and tables."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deft_jax.reporting.elements import Image, Table, image_of
from deft_jax.reporting.run_summary import value_text
from deft_jax.reporting.runs import Run


@dataclasses.dataclass(frozen=True)
class ScoreComparison:
    """Scores of several trainings, in groups that share everything but the seed.

    Attributes:
      violins: None where no run has a score.
      scores: names of the scores.
      groups: letters of the groups.
      runs_table: one row per run.
      groups_table: one row per group: what sets it apart and, where a group has several runs, means and standard
        deviations between its runs.
    """

    violins: Image | None
    scores: Sequence[str]
    groups: Sequence[str]
    runs_table: Table
    groups_table: Table


def compare_scores(runs: Sequence[Run], steps: Sequence[int | None]) -> ScoreComparison:
    """The scores of trainings side by side.

    Args:
      runs: trainings.
      steps: that each run has reached; None where it is not known.
    """
    from deft_jax.reporting import figures

    groups = group_by_configuration([run.config for run in runs])
    letters = group_letters(len(groups))
    scores = [scores_of(run.results) for run in runs]
    names = list(dict.fromkeys(name for run_scores in scores for name in run_scores))
    values = {
        name: [[scores[index][name] for index in group if name in scores[index]] for group in groups] for name in names
    }
    letter_of_run = {index: letter for letter, group in zip(letters, groups, strict=True) for index in group}
    runs_table = Table(
        ["run", "group", "step", "seed", *names],
        [
            [run.title, letter_of_run[index], steps[index], run.config["seed"], *map(scores[index].get, names)]
            for index, run in enumerate(runs)
        ],
    )
    distinctions = differing_fields([runs[group[0]].config for group in groups])
    rows: list[list[Any]] = []
    described = names if len(groups) < len(runs) else []  # of single runs, the table above has all numbers
    for place, (letter, group) in enumerate(zip(letters, groups, strict=True)):
        statistics = [number for name in described for number in _mean_and_deviation(values[name][place])]
        rows.append([letter, len(group), *statistics, distinctions[place] or "one configuration"])
    columns = [column for name in described for column in (name, "deviation")]
    groups_table = Table(["group", "runs", *columns, "differs in"], rows)
    panels = {name.replace(", ", "\n"): values[name] for name in names}  # titles are narrow
    violins = image_of(figures.violins(panels, letters)) if names else None
    return ScoreComparison(violins, names, letters, runs_table, groups_table)


def scores_of(results: Mapping[str, Any]) -> dict[str, float]:
    """The scores of a results.json by their names.

    Floats of the training are named as they are, those inside an entry as entry.name, and headlines of an evaluation
    as 'name, variant of the codes'. Standard errors, biases and what was fitted ('..._train') are left out.

    Example:
      >>> scores_of({"mig": 0.5, "step": 8, "sap": {"score": 0.25}})
      {'mig': 0.5, 'sap.score': 0.25}
      >>> scores_of({"evaluation": {"scores": {"mean": {"mig": {"mig": 0.5}}}, "seconds": {"mig, mean": 0.1}}})
      {'mig, mean': 0.5}
    """
    from deft_jax.evaluation.scores import headlines

    scores = _floats({name: value for name, value in results.items() if name != "evaluation"})
    for variant, by_metric in results.get("evaluation", {}).get("scores", {}).items():
        numbers = {metric: _without_lists(entry) for metric, entry in by_metric.items()}
        scores |= {f"{name}, {variant}": value for name, value in headlines(numbers, labelled=True).items()}
    left_out = ("_standard_error", "_bias", "_train")
    return {name: value for name, value in scores.items() if not name.partition(",")[0].endswith(left_out)}


def _without_lists(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if not isinstance(value, list)}


def _floats(entry: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    floats = {}
    for name, value in entry.items():
        if isinstance(value, float):
            floats[prefix + name] = value
        elif isinstance(value, Mapping):
            floats |= _floats(value, f"{prefix}{name}.")
    return floats


def group_by_configuration(configs: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Indices of the configurations that share everything but the seed, in the order of their first."""
    groups: dict[str, list[int]] = {}
    for index, config in enumerate(configs):
        groups.setdefault(json.dumps(_without_seed(config), sort_keys=True), []).append(index)
    return list(groups.values())


def differing_fields(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The fields of each configuration in which they differ, seed aside.

    Returns:
      One text per configuration, for example 'objective.name beta_vae, batch_size 64'.
    """
    flat = [_flatten(_without_seed(config)) for config in configs]
    fields = list(dict.fromkeys(field for values in flat for field in values))
    differing = [field for field in fields if len({json.dumps(values.get(field)) for values in flat}) > 1]
    return [
        ", ".join(f"{field} {value_text(values[field])}" for field in differing if field in values) for values in flat
    ]


def group_letters(count: int) -> list[str]:
    """A, B, ..., Z, AA, AB, ..."""
    letters = []
    for index in range(count):
        letter, rest = "", index + 1
        while rest:
            rest, digit = divmod(rest - 1, 26)
            letter = chr(ord("A") + digit) + letter
        letters.append(letter)
    return letters


def _mean_and_deviation(values: Sequence[float]) -> tuple[float | None, float | None]:
    mean = float(np.mean(values)) if values else None
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else None


def _without_seed(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != "seed"}


def _flatten(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in section.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat
