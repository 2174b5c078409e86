"""Several trainings side by side: the scores of their results.json as violins and tables."""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from deft_jax.reporting.elements import figure, note, plainly, table
from deft_jax.reporting.runs import Run


def scores_of(results: Mapping, prefix: str = "") -> dict[str, float]:
    """Every float of a results.json by its name; those inside an entry as entry.name."""
    found = {}
    for name, value in results.items():
        if isinstance(value, float):
            found[prefix + name] = value
        elif isinstance(value, Mapping):
            found |= scores_of(value, f"{prefix}{name}.")
    return found


def groups_of(configs: Sequence[Mapping]) -> list[list[int]]:
    """Indices of the configurations that share everything but the seed, in the order of their first."""
    groups: dict[str, list[int]] = {}
    for index, config in enumerate(configs):
        alike = {name: value for name, value in config.items() if name != "seed"}
        groups.setdefault(json.dumps(alike, sort_keys=True), []).append(index)
    return list(groups.values())


def differences(configs: Sequence[Mapping]) -> list[str]:
    """What tells each configuration from the others, seed aside: 'objective.name beta_vae, batch_size 64'."""
    flat = [_flat({name: value for name, value in config.items() if name != "seed"}) for config in configs]
    fields = list(dict.fromkeys(field for entries in flat for field in entries))
    apart = [field for field in fields if len({json.dumps(entries.get(field)) for entries in flat}) > 1]
    return [
        ", ".join(f"{field} {plainly(entries[field])}" for field in apart if field in entries) for entries in flat
    ]


def _flat(section: Mapping, prefix: str = "") -> dict:
    flat = {}
    for name, value in section.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def letters(count: int) -> list[str]:
    """A, B, ..., Z, AA, AB, ..."""
    made: list[str] = []
    for index in range(count):
        name, rest = "", index + 1
        while rest:
            rest, digit = divmod(rest - 1, 26)
            name = chr(ord("A") + digit) + name
        made.append(name)
    return made


def comparison(runs: Sequence[Run], steps: Sequence[int]) -> str:
    """The scores of trainings side by side: violins, a table of runs, means and deviations of groups.

    steps: that each run has reached.
    """
    from deft_jax.reporting import figures

    groups = groups_of([run.config for run in runs])
    names = letters(len(groups))
    scores = [scores_of(run.results) for run in runs]
    found = list(dict.fromkeys(name for of in scores for name in of))
    letter_of = {index: name for name, group in zip(names, groups, strict=True) for index in group}
    apart = differences([runs[group[0]].config for group in groups])
    each = table(
        ["run", "group", "step", "seed", *found],
        [
            [run.title, letter_of[index], steps[index], run.config["seed"], *(score.get(name) for name in found)]
            for index, (run, score) in enumerate(zip(runs, scores, strict=True))
        ],
        "Runs, with the scores of their results.json.",
    )
    rows = []
    for name, group, told in zip(names, groups, apart, strict=True):
        row = [name, len(group)]
        for score in found:
            values = [scores[index][score] for index in group if score in scores[index]]
            row.append(float(np.mean(values)) if values else None)
            row.append(float(np.std(values, ddof=1)) if len(values) > 1 else None)
        rows.append([*row, told or "one configuration"])
    head = [part for score in found for part in (score, "deviation")]
    summary = table(
        ["group", "runs", *head, "what sets it apart"], rows,
        "Groups of runs that share everything but the seed: mean and standard deviation between runs.",
    )
    if not found:
        return note("No run has a results.json with scores yet.") + each + summary
    values = {score: [[scores[i][score] for i in group if score in scores[i]] for group in groups] for score in found}
    shown = figure(
        figures.violins(values, names),
        f"Violins of {', '.join(found)} for the groups {', '.join(names)}; the tables below hold the numbers.",
        "A point a run, a line at the mean; a group of one run has no violin.",
    )
    return f'<div class="violins">{shown}</div>' + each + summary
