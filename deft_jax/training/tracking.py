"""Runs tracked by Weights & Biases or MLflow: a thread that sends what metrics.jsonl holds, step by step.

A tracker follows metrics.jsonl. All records of a step are sent together, when nothing more is written at that step, and
the workdir holds in tracking.json the id of the tracked run and the last step that was sent. A run that resumes sends
the steps that its tracker lacks, from metrics.jsonl, and leaves out those that it trains again; so one run goes on,
and no step is sent twice. What a tracker does, it does in a thread: a server that is slow, or not there, neither
delays nor ends the training.
"""

import collections
import contextlib
import dataclasses
import importlib.util
import numbers
import pathlib
import queue
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from deft_jax.runtime.files import read_object, write_json
from deft_jax.runtime.paths import shown
from deft_jax.runtime.progress import warn
from deft_jax.training.metrics_log import scalars_of

FILE = "tracking.json"
Status = Literal["finished", "interrupted", "failed"]

_WAIT = 30.0  # seconds that the end of a training waits for its tracker


class Group(NamedTuple):
    """Runs that belong together, those of a study or of several seeds: their name, and the folder they are in."""

    name: str
    folder: pathlib.Path


class TrackedRun(NamedTuple):
    """A run as its tracker knows it.

    Attributes:
      key: that identifies the run for ever.
      name: of the run, within its group if it has one.
      group: its name; None for a run of its own.
      workdir: of the run, where a library keeps its files.
      store: folder of the whole group, or the workdir: where a library keeps what runs share.
      config: as in config.json.
    """

    key: str
    name: str
    group: str | None
    workdir: pathlib.Path
    store: pathlib.Path
    config: Mapping[str, Any]


class Tracker(Protocol):
    """A library that tracks runs. All methods are called from one thread, and may raise anything."""

    def open(self, run: TrackedRun, sent: int) -> int:
        """Creates the run or continues it.

        Args:
          run: to track.
          sent: the last step that was sent, -1 before the first.

        Returns:
          The last step that need not be sent again, -1 for none.
        """

    def log(self, step: int, scalars: Mapping[str, float], figures: Sequence[pathlib.Path]) -> None:
        """Sends what was written at a step: numbers by name, and PNG files."""

    def summarise(self, step: int, scores: Mapping[str, float]) -> None:
        """Sends final scores; the second time they replace those of the first."""

    def close(self, status: Status) -> None:
        """Ends the run, until it is continued."""


def check(name: str, workdirs: Sequence[pathlib.Path]) -> None:
    """Checks that the library can track new runs, before they begin.

    Runs that have begun are not checked: if their tracker fails, they go on without it.

    Args:
      name: as in the field `tracking`.
      workdirs: of the runs.

    Raises:
      ValueError: the library is missing, or it lacks what only the user can give.
    """
    if name != "none" and any(not (workdir / "checkpoints").exists() for workdir in workdirs):
        _check_library(name, workdirs)


def _check_library(name: str, workdirs: Sequence[pathlib.Path]) -> None:
    """`check` for runs of any age."""
    missing = [module for module in _MODULES[name] if importlib.util.find_spec(module) is None]
    if missing:
        raise ValueError(f"tracking = {name!r} needs {', '.join(missing)}: pip install 'deft_jax[{name}]'")
    if name == "wandb":
        from deft_jax.training import wandb_tracker

        wandb_tracker.check()
    else:
        from deft_jax.training import mlflow_tracker

        mlflow_tracker.check(any(shown(workdir) != str(workdir) for workdir in workdirs))


_MODULES = {"wandb": ("wandb",), "mlflow": ("mlflow",)}


def create_tracker(name: str) -> Tracker:
    """The tracker of this name, without a run. Raises ImportError where its library is missing."""
    if name == "wandb":
        from deft_jax.training.wandb_tracker import WandbTracker

        return WandbTracker()
    from deft_jax.training.mlflow_tracker import MlflowTracker

    return MlflowTracker()


@dataclasses.dataclass
class _Position:
    """The entry of a tracker in tracking.json."""

    run: str
    sent: int = -1
    figures: list[str] = dataclasses.field(default_factory=list)
    finished: bool = False

    @classmethod
    def read(cls, path: pathlib.Path, name: str) -> "_Position":
        """The entry; a new one, with a new id, where there is none that can be read."""
        with contextlib.suppress(ValueError, KeyError, TypeError):
            entry = (read_object(path) or {})[name]
            return cls(str(entry["run"]), int(entry["sent"]), list(entry["figures"]), bool(entry["finished"]))
        return cls(uuid.uuid4().hex)

    def write(self, path: pathlib.Path, name: str) -> None:
        """Writes the entry. Raises CannotWrite, or ValueError where another entry cannot be read."""
        write_json(path, (read_object(path) or {}) | {name: dataclasses.asdict(self)})


class _Row(NamedTuple):
    """What was written at a step."""

    step: int
    scalars: dict[str, float]
    figures: list[pathlib.Path]


class _Scores(NamedTuple):
    """Final scores."""

    step: int
    scores: dict[str, float]


class Tracking:
    """The thread that sends the records of one run to its tracker; its methods neither wait for it nor raise."""

    def __init__(
        self,
        name: str,
        workdir: pathlib.Path,
        config: Mapping[str, Any],
        group: Group | None = None,
        create: Callable[[str], Tracker] = create_tracker,
    ):
        """Starts the thread, which creates the run or continues it.

        Args:
          name: 'wandb' or 'mlflow'.
          workdir: of the run.
          config: as in config.json.
          group: to which the run belongs.
          create: name -> tracker.
        """
        self._name, self._create, self._path = name, create, workdir / FILE
        self._position = _Position.read(self._path, name)
        self._run = TrackedRun(
            self._position.run,
            run_name(workdir, group),
            group and group.name,
            workdir,
            group.folder if group else workdir,
            config,
        )
        self._next = 0  # record that is published next
        self._queue: queue.SimpleQueue[_Row | _Scores | Status] = queue.SimpleQueue()
        self._has_warned = False
        self._thread = threading.Thread(target=self._work, name=f"tracking {self._run.name}", daemon=True)
        self._thread.start()

    def publish(self, records: Sequence[Mapping[str, Any]], step: int) -> None:
        """Sends the records up to a step, at which nothing more will be written, and the figures that are new.

        Args:
          records: of the whole run so far, as in metrics.jsonl.
          step: of the run now.
        """
        rows = rows_of(records[self._next :], step)
        self._next += sum(record["step"] <= step for record in records[self._next :])
        figures = sorted((self._run.workdir / "figures").glob("*.png"))
        if figures:
            rows = [*rows[:-1], rows[-1]._replace(figures=figures)] if rows else [_Row(step, {}, figures)]
        for row in rows:
            self._queue.put(row)

    def summarise(self, step: int, results: Mapping[str, Any]) -> None:
        """Sends the final scores: the numbers in `results`, which may be nested."""
        self._queue.put(_Scores(step, {f"final/{name}": value for name, value in numbers_of(results).items()}))

    def close(self, status: Status) -> None:
        """Ends the run after what was published is sent; gives up after half a minute, with a warning."""
        self._queue.put(status)
        self._thread.join(_WAIT)
        if self._thread.is_alive():
            self._warn("it does not answer")

    def _warn(self, reason: object) -> None:
        if not self._has_warned:
            text = " ".join(str(reason).split()) or type(reason).__name__
            text = text if len(text) <= 300 else f"{text[:297]}..."
            warn(f"{self._run.name} is not tracked by {self._name} ({text}); the training goes on, and the next start "
                 "of the same command sends what is missing")  # fmt: skip
        self._has_warned = True

    def _work(self) -> None:
        """What the thread does."""
        try:
            _check_library(self._name, [self._run.store])
            tracker = self._create(self._name)
            self._position.finished = False
            self._position.write(self._path, self._name)  # first, so that whatever is created is found again
            sent = tracker.open(self._run, self._position.sent)
        except BaseException as error:  # a library may call sys.exit
            self._warn(error)
            return
        left: collections.deque[_Row | _Scores] = collections.deque()
        status = None
        while status is None:
            item = self._queue.get()
            if isinstance(item, str):
                status = item
            elif isinstance(item, _Scores) or item.step > sent or item.figures:
                left.append(item if isinstance(item, _Scores) or item.step > sent else item._replace(scalars={}))
            try:
                while left:
                    self._send(tracker, left[0])
                    left.popleft()
                if status is not None:
                    tracker.close(status)
                    self._position.finished = status == "finished"
                    self._position.write(self._path, self._name)
            except BaseException as error:
                self._warn(error)

    def _send(self, tracker: Tracker, item: _Row | _Scores) -> None:
        """Sends one item; what is sent is noted before: after a power failure, rather one is missing than twice there.

        Raises any exception of the tracker; the item is then noted as not sent.
        """
        if isinstance(item, _Scores):
            tracker.summarise(item.step, item.scores)
            return
        position, before = self._position, self._position
        new = [path for path in item.figures if path.name not in position.figures and path.is_file()]
        if not (new or item.scalars):
            return
        names = [*position.figures, *(path.name for path in new)]
        self._position = dataclasses.replace(position, sent=max(item.step, position.sent), figures=names)
        if self._position != before:
            self._position.write(self._path, self._name)
        try:
            tracker.log(item.step, item.scalars, new)
        except BaseException:
            self._position = before
            self._position.write(self._path, self._name)
            raise


def start(
    name: str, workdir: pathlib.Path, config: Mapping[str, Any], group: Group | None = None, again: bool = False
) -> Tracking | None:
    """The tracking of a run; None where there is none, and where the tracker has the finished run already.

    Args:
      name: as in the field `tracking`.
      workdir: of the run.
      config: as in config.json.
      group: to which the run belongs.
      again: whether to continue a run that is finished.
    """
    if name == "none" or (_Position.read(workdir / FILE, name).finished and not again):
        return None
    return Tracking(name, workdir, config, group)


def log_scores(
    name: str, workdir: pathlib.Path, config: Mapping[str, Any], group: Group | None, step: int, scores: Any
) -> None:
    """Adds scores to a run that is finished.

    Args:
      name: as in the field `tracking`.
      workdir: of the run.
      config: as in config.json.
      group: to which the run belongs.
      step: of the model that was scored.
      scores: numbers by name, which may be nested.
    """
    if tracking := start(name, workdir, config, group, again=True):
        tracking.summarise(step, scores)
        tracking.close("finished")


def run_name(workdir: pathlib.Path, group: Group | None) -> str:
    """The name of a run: that of its workdir, or its path within the folder of its group.

    Example:
      >>> run_name(pathlib.Path("/runs/study/deft/seed_3/run"), Group("study", pathlib.Path("/runs/study")))
      'deft/seed_3'
    """
    path = workdir.absolute()
    if group is not None and path.is_relative_to(group.folder.absolute()):
        parts = path.relative_to(group.folder.absolute()).parts
        return "/".join(parts[:-1] if parts[-1:] == ("run",) else parts)
    return path.name


def rows_of(records: Sequence[Mapping[str, Any]], step: int) -> list[_Row]:
    """The numbers of each step in the records up to `step`; matrices are left out."""
    rows: dict[int, _Row] = {}
    for record in records:
        if record["step"] <= step:
            values = {name: value for name, value in record.items() if name not in ("kind", "step")}
            row = rows.setdefault(record["step"], _Row(record["step"], {}, []))
            row.scalars.update(scalars_of(record["kind"], values))
    return list(rows.values())


def numbers_of(values: Mapping[str, Any]) -> dict[str, float]:
    """The numbers in nested mappings, by path; lists and text are left out.

    Example:
      >>> numbers_of({"mig": 0.5, "ledger": {"foreign": 0.25, "by": [1, 2]}, "names": "x"})
      {'mig': 0.5, 'ledger/foreign': 0.25}
    """
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= {f"{name}/{inner}": number for inner, number in numbers_of(value).items()}
        elif isinstance(value, numbers.Real) and not isinstance(value, bool):
            found[str(name)] = float(value)
    return found
