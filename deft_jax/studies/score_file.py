"""Scores of one sample, written to a results file metric by metric."""

import json
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deft_jax.runtime.files import to_jsonable
from deft_jax.runtime.locks import update_object

_SAMPLE = ("step", "stage", "num_samples", "num_images", "seed", "digest")  # fields that identify a sample


class ScoreFile:
    """The scores of one sample; the results file is written after each metric.

    Attributes:
      path: of the file.
      moved: whether the file had scores of another sample under 'evaluation'.
    """

    def __init__(self, path: pathlib.Path, variants: Sequence[str], about: Mapping[str, Any], names: Sequence[str]):
        """Has no scores yet, and writes nothing.

        Args:
          path: of the file.
          variants: of the codes.
          about: how the scores are obtained.
          names: of the metrics that will be added.
        """
        self.path, self.moved, self._names = path, False, tuple(names)
        self._result: dict[str, Any] = {
            **about,
            "scores": {variant: {} for variant in variants},
            "refused": {variant: {} for variant in variants},
            "seconds": {},
        }

    def add(self, variant: str, name: str, compute: Callable[[], Mapping[str, Any]]) -> None:
        """Adds the dict that compute() returns, or the reason why it raises."""
        begin = time.perf_counter()
        try:
            scores = compute()
            if not isinstance(scores, Mapping):
                raise ValueError(f"a metric must return a dict of scores, got {type(scores).__name__}")
            json.dumps(to_jsonable(dict(scores)))
        except Exception as error:  # of a metric, perhaps of the user's: the other metrics are computed all the same
            self.refuse(variant, name, _reason(error))
        else:
            self._result["scores"][variant][name] = dict(scores)
            self._result["seconds"][f"{name}, {variant}"] = time.perf_counter() - begin
        self.write()

    def refuse(self, variant: str, name: str, reason: str) -> None:
        """Adds the reason why a metric has no score."""
        self._result["refused"][variant][name] = reason

    def copy(self, variant: str, other: str, name: str) -> None:
        """Gives another variant the score or the reason of this one."""
        for field in ("scores", "refused"):
            if name in self._result[field][variant]:
                self._result[field][other][name] = self._result[field][variant][name]

    def write(self) -> None:
        """Adds the scores so far to the file."""
        self.moved = _write(self.path, self._result, self._names) or self.moved

    def result(self) -> dict[str, Any]:
        """The evaluation with all scores. Raises ValueError where there are metrics and none has a score."""
        if self._names and not any(self._result["scores"].values()):
            raise ValueError("no metric could be computed: " + "; ".join(not_scored(self._result["refused"])))
        return self._result


def _reason(error: Exception) -> str:
    """An exception in one line, with its type unless it is a ValueError."""
    text = " ".join(str(error).split())[:500]
    return text if type(error) is ValueError and text else f"{type(error).__name__}: {text}"


def _write(path: pathlib.Path, evaluation: Mapping[str, Any], names: Sequence[str]) -> bool:
    """Adds an evaluation to a results file and leaves its other entries.

    Scores of the same sample stay beside the new ones; an evaluation of another sample, or of the same one with other
    options of a metric in `names`, goes to the list 'earlier_evaluations'. Others may add theirs at the same time.

    Returns whether the entry 'evaluation' went there.
    """
    is_moved = False

    def add(results: dict[str, Any]) -> dict[str, Any]:
        nonlocal is_moved
        results, is_moved = _with_evaluation(results, evaluation, names)
        return results

    update_object(path, add)
    return is_moved


def _with_evaluation(
    results: Mapping[str, Any], evaluation: Mapping[str, Any], names: Sequence[str]
) -> tuple[dict[str, Any], bool]:
    """What a results file holds with one more evaluation, and whether that moves the entry 'evaluation'."""
    result = json.loads(json.dumps(to_jsonable(evaluation)))  # tuples and keys as they come back from the file

    def is_same(entry: Mapping[str, Any]) -> bool:
        before, now = entry.get("options", {}), result.get("options", {})
        scored = {name for scores in entry.get("scores", {}).values() for name in scores}
        alike = all(before.get(name) == now.get(name) for name in scored.intersection(names))
        return alike and all(entry.get(field) == result.get(field) for field in _SAMPLE)

    newest, earlier = results.get("evaluation"), results.get("earlier_evaluations")
    earlier = earlier if isinstance(earlier, list) else []
    entries = [entry for entry in (newest, *earlier) if isinstance(entry, dict)]
    others = [entry for entry in entries if not is_same(entry)]
    merged = result
    for entry in entries:
        if is_same(entry):
            merged = _merged(entry, merged)
    added = {"evaluation": merged} | ({"earlier_evaluations": others} if others or earlier else {})
    return {**results, **added}, isinstance(newest, dict) and not is_same(newest)


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """An evaluation joined with an older one of the same sample; a score replaces a refusal."""
    merged = dict(new)
    for field in ("scores", "refused"):
        before, now = old.get(field, {}), new[field]
        merged[field] = {variant: before.get(variant, {}) | now.get(variant, {}) for variant in {**before, **now}}
    merged["refused"] = {
        variant: {name: reason for name, reason in reasons.items() if name not in merged["scores"].get(variant, {})}
        for variant, reasons in merged["refused"].items()
    }
    for field in ("options", "seconds"):
        merged[field] = old.get(field, {}) | new.get(field, {})
    return merged


def not_scored(refused: Mapping[str, Mapping[str, str]]) -> list[str]:
    """One line for each reason: 'dci, sap (why)', or 'dci of sampled (why)' where it does not hold for all variants.

    refused: variant -> metric -> reason.
    """
    variants_of: dict[tuple[str, str], list[str]] = {}
    for variant, reasons in refused.items():
        for name, reason in reasons.items():
            variants_of.setdefault((name, reason), []).append(variant)
    names_of: dict[tuple[str, str], list[str]] = {}
    for (name, reason), variants in variants_of.items():
        where = "" if len(variants) == len(refused) else f" of {', '.join(variants)}"
        names_of.setdefault((where, reason), []).append(name)
    return [f"{', '.join(names)}{where} ({reason})" for (where, reason), names in names_of.items()]
