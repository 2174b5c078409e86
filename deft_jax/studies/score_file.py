"""Scores of one sample as they come: kept in a results file metric by metric, and reported on the terminal."""

import json
import multiprocessing
import pathlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from deft_jax.runtime.files import read_object, to_jsonable, write_atomically

_QUIET = 10.0  # seconds between two lines about one metric, where no terminal is attached
_SAMPLE = ("step", "stage", "num_samples", "num_images", "seed", "digest")  # what tells one sample from another


class Scores:
    """The scores of one sample as they come; written to a results file after each.

    path: of the file. moved: whether the file held scores of another sample under 'evaluation'.
    """

    def __init__(self, path: pathlib.Path, variants: Sequence[str], about: Mapping, names: Sequence[str]):
        """about: how the scores are obtained. names: of the metrics to come."""
        self.path, self.moved, self._names = path, False, tuple(names)
        self._result = {
            **about,
            "scores": {variant: {} for variant in variants},
            "refused": {variant: {} for variant in variants},
            "seconds": {},
        }

    def add(self, variant: str, name: str, compute: Callable[[], Mapping]) -> None:
        """Takes the dict that compute() returns, or the reason why it raises."""
        begin = time.perf_counter()
        try:
            found = compute()
            if not isinstance(found, Mapping):
                raise ValueError(f"a metric must return a dict of scores, got {type(found).__name__}")
            found = dict(found)
            json.dumps(to_jsonable(found))
        except Exception as error:  # of a metric, perhaps a user's own: it must not take the others with it
            self.refuse(variant, name, _reason(error))
        else:
            self._result["scores"][variant][name] = found
            self._result["seconds"][f"{name}, {variant}"] = time.perf_counter() - begin
        self.write()

    def refuse(self, variant: str, name: str, reason: str) -> None:
        """Notes why a metric has no score."""
        self._result["refused"][variant][name] = reason

    def copy(self, variant: str, other: str, name: str) -> None:
        """Gives another variant what this one has, a score or a reason."""
        for kept in ("scores", "refused"):
            if name in self._result[kept][variant]:
                self._result[kept][other][name] = self._result[kept][variant][name]

    def write(self) -> None:
        """Adds what there is so far to the file."""
        self.moved = _write(self.path, self._result, self._names) or self.moved

    def result(self) -> dict:
        """All of it. Raises ValueError with the reasons where there are metrics and none has a score."""
        if self._names and not any(self._result["scores"].values()):
            raise ValueError("no metric could be computed: " + "; ".join(not_scored(self._result["refused"])))
        return self._result


def _reason(error: Exception) -> str:
    """An exception in one line; one that is not a refusal, with its type."""
    text = " ".join(str(error).split())[:500]
    return text if type(error) is ValueError and text else f"{type(error).__name__}: {text}"


def _write(path: pathlib.Path, result: Mapping, names: Sequence[str]) -> bool:
    """Adds an evaluation to a results file and leaves its other entries.

    Scores of the same sample stay beside the new ones; an evaluation of another sample, or of the same one with other
    options of a metric in `names`, goes to the list 'earlier_evaluations'.

    Returns whether the entry 'evaluation' went there.
    """
    held = read_object(path) or {}
    result = json.loads(json.dumps(to_jsonable(result)))  # tuples and keys as they come back from the file

    def is_same(entry):
        before, now = entry.get("options", {}), result.get("options", {})
        scored = {name for scores in entry.get("scores", {}).values() for name in scores}
        alike = all(before.get(name) == now.get(name) for name in scored.intersection(names))
        return alike and all(entry.get(field) == result.get(field) for field in _SAMPLE)

    newest, earlier = held.get("evaluation"), held.get("earlier_evaluations")
    earlier = earlier if isinstance(earlier, list) else []
    entries = [entry for entry in (newest, *earlier) if isinstance(entry, dict)]
    others = [entry for entry in entries if not is_same(entry)]
    merged = result
    for entry in entries:
        if is_same(entry):
            merged = _merged(entry, merged)
    held |= {"evaluation": merged} | ({"earlier_evaluations": others} if others or earlier else {})
    write_atomically(path, json.dumps(held, indent=2) + "\n")
    return isinstance(newest, dict) and not is_same(newest)


def _merged(old: Mapping, new: Mapping) -> dict:
    """An evaluation with what an older one of the same sample has beside it; a score outlives a refusal."""
    made = dict(new)
    for kept in ("scores", "refused"):
        before, now = old.get(kept, {}), new[kept]
        made[kept] = {variant: before.get(variant, {}) | now.get(variant, {}) for variant in {**before, **now}}
    made["refused"] = {
        variant: {name: reason for name, reason in reasons.items() if name not in made["scores"].get(variant, {})}
        for variant, reasons in made["refused"].items()
    }
    for kept in ("options", "seconds"):
        made[kept] = old.get(kept, {}) | new.get(kept, {})
    return made


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


class Progress:
    """Which metric is being computed, on stderr: a bar where a terminal is attached, plain lines where not."""

    def __init__(self, total: int, label: str):
        """total: how many there are to compute. label: of the run; several may be scored side by side."""
        self._stream, self._total, self._label = sys.stderr, total, label
        self._done, self._what, self._last, self._bar = 0, "", 0.0, None
        if self._stream.isatty() and multiprocessing.parent_process() is None:
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit="score", file=self._stream, dynamic_ncols=True, leave=False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._bar is not None:
            self._bar.close()

    def say(self, text: str) -> None:
        """One line, above the bar."""
        if self._bar is None:
            print(text, file=self._stream, flush=True)
        else:
            self._bar.write(text, file=self._stream)

    def start(self, what: str) -> None:
        """Names what is computed next."""
        self._what = what
        self._show(what)

    def within(self, done: int, total: int | None = None) -> None:
        """How many parts of it are done, such as factors, of how many if that is known; called by the metric."""
        if self._bar is not None or time.monotonic() - self._last >= _QUIET:
            self._show(f"{self._what}: {done}" + (f" of {total}" if total is not None else ""))

    def finish(self) -> None:
        """It is done."""
        self._done += 1
        if self._bar is not None:
            self._bar.update()

    def _show(self, text: str) -> None:
        if self._bar is None:
            self.say(f"{self._label}: {self._done + 1}/{self._total}  {text}")
        else:
            self._bar.set_postfix_str(text)
        self._last = time.monotonic()
