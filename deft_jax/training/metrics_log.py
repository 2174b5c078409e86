"""metrics.jsonl and TensorBoard events of a run."""

import json
import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deft_jax.runtime.errors import reraise_as_cannot_write
from deft_jax.runtime.files import to_jsonable, write_atomically

_BINS = 40  # of a histogram


def read_records(path: pathlib.Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl, without an incomplete last line; [] if there is no file."""
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


def scalars_of(kind: str, values: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a record: KIND/NAME, of a vector KIND/NAME/INDEX; matrices are left out.

    Example:
      >>> scalars_of("train", {"loss": 2.5, "kl_per_latent": [1.0, 0.5]})
      {'train/loss': 2.5, 'train/kl_per_latent/0': 1.0, 'train/kl_per_latent/1': 0.5}
    """
    scalars = {}
    for name, value in values.items():
        value = np.asarray(value)
        if value.ndim == 0:
            scalars[f"{kind}/{name}"] = float(value)
        elif value.ndim == 1:
            scalars |= {f"{kind}/{name}/{index}": float(entry) for index, entry in enumerate(value)}
    return scalars


class MetricsLog:
    """Appends records to metrics.jsonl and their scalars to TensorBoard.

    Every record has 'kind' ('train', 'eval', 'score' or 'rotation'), 'step' and 'stage'. A vector becomes one
    TensorBoard scalar per entry; a matrix is written to metrics.jsonl only.
    """

    def __init__(self, workdir: pathlib.Path, step: int):
        """step: of the run now; records of later steps, from an interrupted run, are dropped."""
        self.path = workdir / "metrics.jsonl"
        self.records = [record for record in read_records(self.path) if record["step"] <= step]
        write_atomically(self.path, "".join(json.dumps(record) + "\n" for record in self.records))
        with reraise_as_cannot_write(self.path):
            self._file = self.path.open("a")
        self._events = Events(workdir / "tensorboard", step)

    def write(self, kind: str, step: int, stage: int, values: Mapping[str, Any]) -> None:
        """Adds one record; `values` are numbers and arrays by name. Raises CannotWrite."""
        record = {"kind": kind, "step": step, "stage": stage, **to_jsonable(values)}
        self.records.append(record)
        with reraise_as_cannot_write(self.path):
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
        self._events.write(step, scalars_of(kind, values))

    def show(self, step: int, images: Mapping[str, np.ndarray], histograms: Mapping[str, np.ndarray]) -> None:
        """Adds images, uint8 [H, W, 3], and histograms of numbers, by tag, to TensorBoard. Raises CannotWrite."""
        self._events.show(step, images, histograms)

    def sync(self) -> None:
        """Flushes the records to the disk: after a power failure no checkpoint must be ahead of them."""
        with reraise_as_cannot_write(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flushes and closes the files. Raises CannotWrite."""
        try:
            with reraise_as_cannot_write(self.path):
                self._file.close()
        finally:
            self._events.close()


class Events:
    """A TensorBoard file, written synchronously.

    tensorboardX's SummaryWriter writes in a thread. A full disk would end it silently, and the run would wait forever.
    """

    def __init__(self, folder: pathlib.Path, step: int):
        """step: of the run now; TensorBoard no longer shows later steps of earlier files."""
        from tensorboardX.event_file_writer import EventsWriter

        self._folder = folder
        with reraise_as_cannot_write(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # The name has the second in it; the number of files distinguishes two starts within one second.
            count = len(list(folder.iterdir()))
            self._writer = EventsWriter(str(folder / "events"), f".{count}")
        if step:
            self._write(step + 1, session_log=True)

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Adds numbers by tag. Raises CannotWrite."""
        from tensorboardX.proto.summary_pb2 import Summary

        self._write(step, [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()])

    def show(self, step: int, images: Mapping[str, np.ndarray], histograms: Mapping[str, np.ndarray]) -> None:
        """Adds images, uint8 [H, W, 3], and histograms of numbers, by tag. Raises CannotWrite."""
        from tensorboardX import summary

        parts = [summary.image(tag, pixels, dataformats="HWC") for tag, pixels in images.items()]
        parts += [summary.histogram(tag, numbers, bins=_BINS) for tag, numbers in histograms.items()]
        self._write(step, [value for part in parts for value in part.value])

    def _write(self, step: int, values: Sequence[Any] = (), session_log: bool = False) -> None:
        """values: of a summary, as messages of protobuf."""
        from tensorboardX.proto import event_pb2

        event = event_pb2.Event(wall_time=time.time(), step=step)
        if session_log:
            event.session_log.status = event_pb2.SessionLog.START
        event.summary.value.extend(values)
        with reraise_as_cannot_write(self._folder):
            self._writer.write_event(event)
            self._writer.flush()

    def close(self) -> None:
        """Raises CannotWrite."""
        with reraise_as_cannot_write(self._folder):
            self._writer.close()
