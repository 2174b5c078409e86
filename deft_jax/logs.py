"""What a run writes while it trains: config.json, metrics.jsonl, TensorBoard events, lines or a bar on the terminal."""

import contextlib
import json
import os
import pathlib
import sys
import time
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from deft_jax.options import shown
from deft_jax.workdir import CannotWrite, writing


def write_atomically(path: pathlib.Path, content: str | bytes) -> None:
    """Writes a file so that a reader sees the old one or the new one, never a part, also after a power failure.

    Raises CannotWrite, an OSError that names the file; the old one is there then, and nothing beside it.
    """
    temporary = path.with_name(path.name + ".tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def plain(value):
    """The same value in types that JSON knows: arrays become lists, numpy scalars numbers."""
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if hasattr(value, "tolist"):
        return np.asarray(value).tolist()
    return value


def claim(workdir: pathlib.Path, config, free: Sequence[str] = ()) -> None:
    """Writes config.json, or checks that the one there is of the same run; fields in `free` may differ.

    config: a ConfigDict or a mapping. Raises ValueError that names what is different, or why the workdir cannot be
    read or written to; CannotWrite on a full disk.
    """
    wanted = check_claim(workdir, config, free)
    try:
        write_atomically(workdir / "config.json", json.dumps(wanted, indent=2) + "\n")
    except CannotWrite as error:
        if error.is_full:
            raise
        raise ValueError(f"cannot write into the workdir {workdir}: {error.strerror}") from None


def check_claim(workdir: pathlib.Path, config, free: Sequence[str] = ()) -> dict:
    """What `claim` would write; raises ValueError as it does, and changes nothing."""
    wanted = json.loads(json.dumps(plain(config.to_dict() if hasattr(config, "to_dict") else config)))
    held = read_object(workdir / "config.json")
    if held is not None:
        different = sorted(_differences(held, wanted, free))
        if different:
            raise ValueError(
                f"{workdir} holds a run of another configuration ({'; '.join(different)}); "
                "choose another workdir, or the configuration in its config.json"
            )
    return wanted


def read_object(path: pathlib.Path) -> dict | None:
    """The object in a JSON file, None where there is no file; raises ValueError in one line where it is damaged."""
    try:
        held = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {path}: {error}") from None
    if not isinstance(held, dict):
        raise ValueError(f"cannot read {path}: it holds no JSON object")
    return held


def _differences(old, new, free, prefix=""):
    for name in sorted(set(old) | set(new)):
        if prefix + name in free:
            continue
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after, free, f"{prefix}{name}.")
        elif before != after:
            yield f"{prefix}{name} is {shown(before)} there and {shown(after)} here"


def read_records(path: pathlib.Path) -> list[dict]:
    """The records of a metrics.jsonl, without a last line that an interruption cut short."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(record, dict) or not isinstance(record.get("step"), int):
            break
        records.append(record)
    return records


class MetricsLog:
    """Appends records to metrics.jsonl and their scalars to TensorBoard.

    Every record has 'kind' ('train', 'eval', 'score' or 'turn'), 'step' and 'stage'. A vector becomes one TensorBoard
    scalar an entry; a matrix is kept in metrics.jsonl alone.
    """

    def __init__(self, workdir: pathlib.Path, step: int):
        """step: where the run stands; records of later steps, from an interrupted run, are dropped."""
        self.path = workdir / "metrics.jsonl"
        self.records = [record for record in read_records(self.path) if record["step"] <= step]
        write_atomically(self.path, "".join(json.dumps(record) + "\n" for record in self.records))
        with writing(self.path):
            self._file = self.path.open("a")
        self._events = Events(workdir / "tensorboard", step)

    def write(self, kind: str, step: int, stage: int, values: Mapping) -> None:
        """Adds one record; `values` are numbers and arrays by name. Raises CannotWrite."""
        record = {"kind": kind, "step": step, "stage": stage, **plain(values)}
        self.records.append(record)
        with writing(self.path):
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
        scalars = {}
        for name, value in values.items():
            value = np.asarray(value)
            if value.ndim == 0:
                scalars[f"{kind}/{name}"] = float(value)
            elif value.ndim == 1:
                scalars |= {f"{kind}/{name}/{index}": float(entry) for index, entry in enumerate(value)}
        self._events.write(step, scalars)

    def sync(self) -> None:
        """Has the records on the disk: a checkpoint that outlives a power failure is not to be ahead of them."""
        with writing(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Writes out what is buffered. Raises CannotWrite."""
        try:
            with writing(self.path):
                self._file.close()
        finally:
            self._events.close()


class Events:
    """A TensorBoard file of scalars, written at once.

    tensorboardX's SummaryWriter writes in a thread, which would die of a full disk unseen and leave the run waiting.
    """

    def __init__(self, folder: pathlib.Path, step: int):
        """step: where the run stands; what earlier files hold of later steps is not shown any more."""
        from tensorboardX.event_file_writer import EventsWriter

        self._folder = folder
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # The name has the second in it; a run that was interrupted and resumed within one has another step.
            taken = len(list(folder.iterdir()))
            self._writer = EventsWriter(str(folder / "events"), f".{taken}")
        if step:
            self._write(step=step + 1, session_log=True)

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Adds numbers by tag. Raises CannotWrite."""
        self._write(step=step, scalars=scalars)

    def _write(self, step, scalars=None, session_log=False):
        from tensorboardX.proto import event_pb2, summary_pb2

        event = event_pb2.Event(wall_time=time.time(), step=step)
        if session_log:
            event.session_log.status = event_pb2.SessionLog.START
        for tag, value in (scalars or {}).items():
            event.summary.value.append(summary_pb2.Summary.Value(tag=tag, simple_value=value))
        with writing(self._folder):
            self._writer.write_event(event)
            self._writer.flush()

    def close(self) -> None:
        """Raises CannotWrite."""
        with writing(self._folder):
            self._writer.close()


class Progress:
    """Steps on the terminal: a bar with the time left where one is attached, plain lines where not."""

    def __init__(self, total_steps: int, step: int, stream=None):
        self._stream = stream or sys.stderr
        self._total = total_steps
        self._bar = None
        if self._stream.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total_steps, initial=step, unit="step", file=self._stream, dynamic_ncols=True)

    def say(self, text: str) -> None:
        """A line above the bar."""
        if self._bar is None:
            print(text, file=self._stream, flush=True)
        else:
            self._bar.write(text, file=self._stream)

    def update(self, step: int, texts: Iterable[str]) -> None:
        """Moves on to `step`; `texts` say how training stands."""
        text = "  ".join(texts)
        if self._bar is None:
            print(f"step {step:>{len(str(self._total))}}/{self._total}  {text}", file=self._stream, flush=True)
        else:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(step - self._bar.n)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
