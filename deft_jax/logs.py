"""What a run writes while it trains: config.json, metrics.jsonl, TensorBoard events, lines or a bar on the terminal."""

import json
import os
import pathlib
import sys
from collections.abc import Iterable, Mapping, Sequence

import numpy as np


def write_atomically(path: pathlib.Path, content: str | bytes) -> None:
    """Writes a file so that a reader sees the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(temporary, path)


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
    read or written to.
    """
    wanted = json.loads(json.dumps(plain(config.to_dict() if hasattr(config, "to_dict") else config)))
    path = workdir / "config.json"
    held = read_object(path)
    if held is not None:
        different = sorted(_differences(held, wanted, free))
        if different:
            raise ValueError(
                f"{workdir} holds a run of another configuration ({'; '.join(different)}); "
                "choose another workdir, or the configuration in its config.json"
            )
    try:
        write_atomically(path, json.dumps(wanted, indent=2) + "\n")
    except OSError as error:
        raise ValueError(f"cannot write into the workdir {workdir}: {error.strerror or error}") from None


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
            yield f"{prefix}{name} is {before} there and {after} here"


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

    Every record has 'kind' ('train' or 'eval'), 'step' and 'stage'. A vector becomes one TensorBoard scalar an
    entry; a matrix is kept in metrics.jsonl alone.
    """

    def __init__(self, workdir: pathlib.Path, step: int):
        """step: where the run stands; records of later steps, from an interrupted run, are dropped."""
        from tensorboardX import SummaryWriter

        self.path = workdir / "metrics.jsonl"
        self.records = [record for record in read_records(self.path) if record["step"] <= step]
        write_atomically(self.path, "".join(json.dumps(record) + "\n" for record in self.records))
        self._file = self.path.open("a")
        self._writer = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1 if step else None)

    def write(self, kind: str, step: int, stage: int, values: Mapping) -> None:
        """Adds one record; `values` are numbers and arrays by name."""
        record = {"kind": kind, "step": step, "stage": stage, **plain(values)}
        self.records.append(record)
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        for name, value in values.items():
            value = np.asarray(value)
            if value.ndim == 0:
                self._writer.add_scalar(f"{kind}/{name}", float(value), step)
            elif value.ndim == 1:
                for index, entry in enumerate(value):
                    self._writer.add_scalar(f"{kind}/{name}/{index}", float(entry), step)

    def close(self) -> None:
        """Writes out what is buffered."""
        self._file.close()
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
