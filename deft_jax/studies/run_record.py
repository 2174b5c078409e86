"""run.json: the state, times and scores that a study keeps of one of its runs."""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from deft_jax.runtime.files import write_atomically

NAME = "run.json"


@dataclasses.dataclass
class RunRecord:
    """The state of one run of a study."""

    training_seconds: float = 0.0
    """Time spent on training so far; runs that share a program share its time."""
    scoring_seconds: float = 0.0
    """Time spent on scoring so far."""
    step: int | None = None
    """Steps of the scored model; None until it is scored."""
    scores: Mapping[str, Mapping[str, float]] | None = None
    """Metric -> its single numbers, {} of a metric that could not be computed; None until the model is scored."""
    diverged: str | None = None
    """Why training stopped, where the loss was no longer finite."""

    @classmethod
    def read(cls, directory: pathlib.Path) -> "RunRecord | None":
        """The summary in the folder of a run; None where there is none that can be read."""
        try:
            values = json.loads((directory / NAME).read_text())
            return cls(
                values["seconds"]["training"], values["seconds"]["scoring"], values.get("step"), values.get("scores"),
                values.get("diverged"),
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def write(self, directory: pathlib.Path) -> None:
        """Writes run.json in the folder of a run."""
        values: dict[str, Any] = {"seconds": {"training": self.training_seconds, "scoring": self.scoring_seconds}}
        optional = {"diverged": self.diverged, "step": self.step, "scores": self.scores}
        values |= {name: value for name, value in optional.items() if value is not None}
        write_atomically(directory / NAME, json.dumps(values, indent=2) + "\n")

    def headline(self) -> str:
        """The first number of each metric and the time of the training, or why it diverged, in one line."""
        if self.diverged is not None:
            return f"diverged: {self.diverged}"
        headlines = [next(iter(numbers.items())) for numbers in (self.scores or {}).values() if numbers]
        return "  ".join([*(f"{score} {value:.3f}" for score, value in headlines), f"{self.training_seconds:.0f} s"])

    def is_finished(self, metrics: Iterable[str]) -> bool:
        """Whether the run has diverged, or is trained and scored by all these metrics."""
        return self.diverged is not None or (self.scores is not None and set(metrics) <= set(self.scores))


def is_finished(directory: pathlib.Path, metrics: Iterable[str]) -> bool:
    """Whether the run in a folder has diverged, or is trained and scored by all these metrics."""
    summary = RunRecord.read(directory)
    return summary is not None and summary.is_finished(metrics)
