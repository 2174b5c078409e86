"""python -m deft_jax.sweep --config configs/studies/X.py --workdir DIR [--jobs N] [--config.FIELD=VALUE ...]

Trains and scores every run of a study with every seed, and ends with a table. The same command again goes on where it
was: what is finished is skipped, what was interrupted resumes. Started on several machines that share DIR, each takes
what no other has; a run is never done twice.

A study has `runs`, name -> configuration of a training; `seeds`; `metrics` to score the finished models with, of
posterior means of `num_samples` images; and `scales`, name -> fields to set anew in all runs ('total_steps',
'model/width', ...; to a value, or to a multiple of the one there, '*0.25'), of which `scale` chooses one. Runs called
SET/OBJECTIVE make a table of objectives by sets.
"""

import contextlib
import copy
import json
import multiprocessing
import os
import pathlib
import socket
import statistics
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from queue import Empty

from deft_jax import commands
from deft_jax.interruption import Interrupted, Signals
from deft_jax.logs import claim, plain, write_atomically

_FIELDS = ("runs", "seeds", "metrics", "num_samples", "scale", "scales")
_CLAIM = "claim.json"
_HEARTBEAT = 15.0  # seconds between two signs of life of whoever holds a claim
_STALE = 120.0  # seconds without one after which the claim is up for grabs


# ---- what is to be done ----


def cells(config: Mapping) -> dict[str, dict]:
    """Every training of a study: 'NAME/seed_S' -> its configuration. Raises ValueError where the study does not fit."""
    missing = [field for field in _FIELDS if field not in config]
    if missing:
        raise ValueError(f"the study lacks {', '.join(missing)}; it needs {', '.join(_FIELDS)}")
    if config["scale"] not in config["scales"]:
        raise ValueError(f"unknown scale {config['scale']!r}; known: {', '.join(config['scales'])}")
    seeds = list(config["seeds"])
    if not config["runs"] or not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"a study needs at least one run and one seed, each seed once, got seeds {tuple(seeds)}")
    made = {}
    for name, run in config["runs"].items():
        scaled = copy.deepcopy(dict(run))
        if scaled.get("num_seeds") is not None:
            raise ValueError(f"the run {name!r} sets num_seeds; a study has its seeds in `seeds`")
        for field, value in config["scales"][config["scale"]].items():
            _set(scaled, field, value, name)
        for seed in seeds:
            made[f"{name}/seed_{seed}"] = copy.deepcopy(scaled) | {"seed": seed}
    return made


def _set(run: dict, field: str, value, name: str) -> None:
    """Sets a field 'section/name' of a configuration anew; a field that ends in '?' only where it is there."""
    *sections, last = field.removesuffix("?").split("/")
    for section in sections:
        run = run.get(section, {})
    if last in run:
        run[last] = _times(run[last], value, field) if isinstance(value, str) and value[:1] == "*" else value
    elif not field.endswith("?"):
        raise ValueError(f"the scale sets {field!r}, which the run {name!r} does not have")


def _times(held, factor: str, field: str):
    """A number, or each of a sequence, times '*FACTOR'; integers stay integers, and at least 1."""
    if isinstance(held, (list, tuple)):
        return [_times(entry, factor, field) for entry in held]
    try:
        number = held * float(factor[1:])
    except (TypeError, ValueError):
        raise ValueError(f"the scale sets {field!r} to {factor!r} of {held!r}, which is no number") from None
    return max(1, round(number)) if isinstance(held, int) else number


# ---- who does it ----


class Claim:
    """The right to work in a directory, for one process on one of several machines that share it.

    A file that only one can create, touched every few seconds; a file that nobody touches any more, because its owner
    was killed, may be taken over. Times are those of the file system, so clocks need not agree.
    """

    def __init__(self, directory: pathlib.Path, stale: float = _STALE, heartbeat: float = _HEARTBEAT):
        self._path, self._stale, self._heartbeat = directory / _CLAIM, stale, heartbeat
        self._over = threading.Event()

    def take(self) -> bool:
        """Whether the claim is ours now."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        told = json.dumps({"host": socket.gethostname(), "process": os.getpid()})
        mine = self._path.with_name(f".{_CLAIM}.{socket.gethostname()}.{os.getpid()}")
        mine.write_text(told)
        try:
            with contextlib.suppress(FileNotFoundError):
                if mine.stat().st_mtime - self._path.stat().st_mtime > self._stale:
                    # Renaming succeeds for one of those who try, and the others find the next claim fresh.
                    os.rename(self._path, mine.with_name(mine.name + ".stale"))
                    os.unlink(mine.with_name(mine.name + ".stale"))
            try:
                os.link(mine, self._path)
            except FileExistsError:
                return False
        finally:
            mine.unlink()
        threading.Thread(target=self._beat, daemon=True).start()
        return True

    def _beat(self):
        while not self._over.wait(self._heartbeat):
            with contextlib.suppress(OSError):
                os.utime(self._path)

    def release(self) -> None:
        """Gives the claim back."""
        self._over.set()
        self._path.unlink(missing_ok=True)


def _finished(directory: pathlib.Path, metrics: Sequence[str]) -> bool:
    """Whether a run needs nothing more: it has diverged, or is trained and scored."""
    try:
        cell = json.loads((directory / "cell.json").read_text())
    except (OSError, ValueError):
        return False
    return "diverged" in cell or set(metrics) <= set(cell.get("scores", {}))


def work(config: Mapping, workdir: pathlib.Path, say) -> None:
    """Does every run of the study that is not finished and that nobody else has. say: receives a line for each."""
    with Signals() as signals:
        for name, run in cells(config).items():
            if signals.received is not None:
                raise signals.interrupted(0, 0)
            directory = workdir / name
            if _finished(directory, config["metrics"]):
                continue
            claimed = Claim(directory)
            if not claimed.take():
                continue
            try:
                if not _finished(directory, config["metrics"]):  # by another, a moment ago
                    say(f"{name}: {_do(config, run, directory)}")
            finally:
                claimed.release()


def _do(config: Mapping, run: Mapping, directory: pathlib.Path) -> str:
    """Trains and scores one run, what it says goes to its log.txt; -> one line."""
    import jax

    from deft_jax import evaluate, loop

    path = directory / "cell.json"
    cell = json.loads(path.read_text()) if path.exists() else {"seconds": {"training": 0.0, "scoring": 0.0}}
    with (directory / "log.txt").open("a") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        begin = time.perf_counter()
        try:
            results = loop.run(run, directory / "run")
        except FloatingPointError as error:
            cell["diverged"] = str(error)
            return f"diverged: {error}"
        finally:
            cell["seconds"]["training"] += time.perf_counter() - begin
            write_atomically(path, json.dumps(cell, indent=2) + "\n")
        begin = time.perf_counter()
        scored = {}
        if config["metrics"]:
            found = evaluate.evaluate(
                directory / "run", tuple(config["metrics"]), num_samples=config["num_samples"], variants=("mean",)
            )
            scored = found["scores"]["mean"]
        cell["seconds"]["scoring"] += time.perf_counter() - begin
        cell["step"], cell["scores"] = results["step"], plain({name: _numbers(found) for name, found in scored.items()})
        write_atomically(path, json.dumps(cell, indent=2) + "\n")
    jax.clear_caches()  # the next run has programs of its own
    first = [next(iter(found.items())) for found in cell["scores"].values() if found]
    told = "  ".join(f"{number} {value:.3f}" for number, value in first)
    return f"{told}  {cell['seconds']['training']:.0f} s"


def _numbers(found: Mapping) -> dict[str, float]:
    """The single numbers of a metric's dict."""
    import numpy as np

    return {name: float(value) for name, value in found.items() if np.ndim(value) == 0}


def _worker(config, workdir, cores, queue) -> None:
    """One of several processes; tells its lines, and at last None, or what went wrong, to the queue."""
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    try:
        commands.keep_programs()
        work(config, workdir, queue.put)
        queue.put(None)
    except Interrupted:
        queue.put(("interrupted", ""))
    except Exception as error:
        told = " ".join(str(error).split()) or type(error).__name__
        if not isinstance(error, ValueError):
            traceback.print_exc()
        queue.put(("failed", told))


def _share(cores: Sequence[int], jobs: int) -> list[list[int]]:
    """The cores of each of so many processes, as evenly as possible."""
    return [list(cores[index::jobs]) for index in range(jobs)] if jobs <= len(cores) else [list(cores)] * jobs


def run(config, workdir: str | pathlib.Path, jobs: int | None = None) -> dict:
    """Runs a study to its end and returns what study.json holds: the summary of `summarise`.

    jobs: processes on this machine, each with its share of the cores; as many as there are cores unless told, or one
      on an accelerator.
    Raises ValueError where the study or one of its runs does not fit, before anything is trained; Interrupted after
    SIGTERM or SIGINT, when every run under way has saved its state.
    """
    from deft_jax import evaluation, loop, metrics, options

    config = plain(config.to_dict() if hasattr(config, "to_dict") else config)
    todo = cells(config)
    for name in config["metrics"]:
        if options.choose(metrics.REGISTRY, name, "metric") == "runs":
            raise ValueError(f"the metric {name!r} compares several runs: score them with deft_jax.evaluate")
    for name, run_config in todo.items():
        if name.endswith(f"/seed_{config['seeds'][0]}"):
            try:
                source = loop.build(run_config).source
                for metric in config["metrics"]:
                    evaluation.check_metric(metric, source)
            except ValueError as error:
                raise ValueError(f"{name.rpartition('/')[0]}: {error}") from None
    workdir = pathlib.Path(workdir)
    claim(workdir, config)

    left = [name for name in todo if not _finished(workdir / name, config["metrics"])]
    print(f"{len(todo)} runs, {len(todo) - len(left)} finished", flush=True)
    if left:
        _run_workers(config, workdir, min(_jobs(jobs), len(left)), len(todo))
    summary = summarise(config, workdir)
    write_atomically(workdir / "study.json", json.dumps(summary, indent=2) + "\n")
    told = table(summary)
    write_atomically(workdir / "table.md", told + "\n")
    print(f"\n{told}")
    return summary


def _jobs(jobs: int | None) -> int:
    if jobs is not None:
        return jobs
    import jax

    return len(_cores()) if jax.default_backend() == "cpu" else 1


def _cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _run_workers(config, workdir, jobs: int, total: int) -> None:
    """Works through the study in `jobs` processes, and prints a line a run."""
    context = multiprocessing.get_context("spawn")  # a fork would take over threads of JAX
    queue = context.Queue()
    shares = _share(_cores(), jobs) if jobs > 1 else [[]]
    processes = [context.Process(target=_worker, args=(config, workdir, cores, queue)) for cores in shares]
    faults, open_processes = [], jobs
    with Signals() as signals:
        for process in processes:
            process.start()
        told_to_stop = False
        while open_processes:
            if signals.received is not None and not told_to_stop:
                told_to_stop = True
                for process in processes:
                    process.terminate()  # SIGTERM, at which each saves its run
            try:
                line = queue.get(timeout=1.0)
            except Empty:
                if not any(process.is_alive() for process in processes) and queue.empty():
                    break
                continue
            if isinstance(line, str):
                done = sum(_finished(workdir / name, config["metrics"]) for name in cells(config))
                print(f"[{done}/{total}] {line}", flush=True)
            else:
                open_processes -= 1
                if line is not None:
                    faults.append(line)
        for process in processes:
            process.join()
        if signals.received is not None:
            done = sum(_finished(workdir / name, config["metrics"]) for name in cells(config))
            raise Interrupted(f"stopped with {done} of {total} runs finished; the same command goes on")
    failed = [told for kind, told in faults if kind == "failed"]
    died = [process.exitcode for process in processes if process.exitcode]
    if failed or died:
        raise ChildProcessError(failed[0] if failed else f"a process of the study ended with status {died[0]}")


# ---- what came out ----


def summarise(config: Mapping, workdir: pathlib.Path) -> dict:
    """{'runs': name -> {'scores': metric.number -> {seed: value}, 'seconds': {seed: s}, 'diverged': [seeds], ...}}."""
    runs: dict[str, dict] = {}
    for name in cells(config):
        run, _, seed = name.rpartition("/seed_")
        entry = runs.setdefault(run, {"scores": {}, "seconds": {}, "diverged": [], "missing": []})
        try:
            cell = json.loads((workdir / name / "cell.json").read_text())
        except (OSError, ValueError):
            entry["missing"].append(seed)
            continue
        entry["seconds"][seed] = cell["seconds"]["training"]
        if "diverged" in cell:
            entry["diverged"].append(seed)
        elif "scores" not in cell:
            entry["missing"].append(seed)
        for found in cell.get("scores", {}).values():
            for number, value in found.items():
                entry["scores"].setdefault(number, {})[seed] = value
    return {"scale": config["scale"], "seeds": list(config["seeds"]), "runs": runs}


def _cell(entry: Mapping, number: str) -> str:
    values = list(entry["scores"].get(number, {}).values())
    if entry["diverged"]:
        return f"{len(entry['diverged'])} diverged"
    if not values:
        return "-"
    text = f"{statistics.mean(values):.3f}"
    return text + (f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else "")


def _headline(found: Mapping[str, Mapping]) -> list[str]:
    """The numbers that a table shows: all but counts and those of training votes."""
    names = dict.fromkeys(number for entry in found.values() for number in entry["scores"])
    return [name for name in names if not name.endswith(("_train", "num_active"))]


def table(summary: Mapping) -> str:
    """Markdown tables: means and deviations over seeds, and every seed's value where there are several."""
    runs, seeds = summary["runs"], summary["seeds"]
    numbers = _headline(runs)
    parts = []
    sets = list(dict.fromkeys(name.partition("/")[0] for name in runs if "/" in name))
    if sets and all(name.count("/") == 1 for name in runs) and len(sets) > 1:
        objectives = list(dict.fromkeys(name.partition("/")[2] for name in runs))
        for number in [*numbers, "seconds"]:
            rows = [[number, *sets]]
            for objective in objectives:
                row = [objective]
                for name in (f"{one}/{objective}" for one in sets):
                    entry = runs.get(name)
                    seconds = list(entry["seconds"].values()) if entry else []
                    if number == "seconds":
                        row.append(f"{statistics.mean(seconds):.0f}" if seconds else "-")
                    else:
                        row.append(_cell(entry, number) if entry else "")
                rows.append(row)
            parts.append(_markdown(rows))
    else:
        rows = [["run", *numbers, "seconds"]]
        for name, entry in runs.items():
            seconds = list(entry["seconds"].values())
            told = f"{statistics.mean(seconds):.0f}" if seconds else "-"
            rows.append([name, *(_cell(entry, number) for number in numbers), told])
        parts.append(_markdown(rows))
    if len(seeds) > 1:
        rows = [["run", "score", *(f"seed {seed}" for seed in seeds)]]
        for name, entry in runs.items():
            for number in numbers:
                values = entry["scores"].get(number, {})
                rows.append([name, number, *(f"{values[str(s)]:.3f}" if str(s) in values else "-" for s in seeds)])
        parts.append(_markdown(rows))
    return "\n\n".join(parts)


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for index, row in enumerate(rows):
        cells_ = [text.ljust(width) if not place else text.rjust(width) for place, (text, width) in
                  enumerate(zip(row, widths, strict=True))]  # fmt: skip
        lines.append("| " + " | ".join(cells_) + " |")
        if not index:
            lines.append("|" + "|".join("-" * (width + 2) if not place else "-" * (width + 1) + ":"
                                        for place, width in enumerate(widths)) + "|")  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    """The command."""
    from absl import flags

    jobs = flags.DEFINE_integer("jobs", None, "Processes on this machine; one a core unless told.", lower_bound=1)
    commands.run("deft_jax.sweep", lambda: lambda config, workdir: run(config, workdir, jobs.value))


if __name__ == "__main__":
    main()
