"""Runs every training of a study that is not finished, in processes of this machine."""

import contextlib
import json
import multiprocessing
import os
import pathlib
import time
import traceback
from collections.abc import Mapping, Sequence
from queue import Empty

from deft_jax.runtime import cli
from deft_jax.runtime.config_file import save_or_check_config
from deft_jax.runtime.files import read_object, to_jsonable, write_atomically
from deft_jax.runtime.paths import local_path
from deft_jax.runtime.signals import Interrupted, Signals
from deft_jax.studies import study, tables
from deft_jax.studies.lease import Lease


def work(config: Mapping, workdir: pathlib.Path, say) -> None:
    """Does every run of the study that is not finished and that nobody else has. say: receives a line for each."""
    todo = study.expand_runs(config)

    def left(name):
        return not study.finished(workdir / name, config["metrics"])

    with Signals() as signals:
        for names in _packs(config, todo):
            if signals.received is not None:
                raise signals.interrupted(0, 0)
            leases = {name: Lease(workdir / name) for name in names if left(name)}
            leases = {name: lease for name, lease in leases.items() if lease.take()}
            try:
                # Another may have finished one a moment ago. Those that stand at different steps cannot go on together.
                steps = {name: _progress(workdir / name) for name in leases if left(name)}
                for step in dict.fromkeys(steps.values()):
                    together = {name: todo[name] for name in steps if steps[name] == step}
                    _do(config, together, workdir, say)
            finally:
                for lease in leases.values():
                    lease.release()


def _packs(config: Mapping, todo: Mapping) -> list[list[str]]:
    """The runs by what may share a program: the same but for consecutive seeds, at most `pack` of them."""
    size = config.get("pack")
    if size is None:
        import jax

        size = 1 if jax.default_backend() == "cpu" else len(todo)
    packs: list[list[str]] = []
    before = None
    for name, run in todo.items():
        own = (name.rpartition("/")[0], run["seed"])
        if before == (own[0], own[1] - 1) and len(packs[-1]) < size:
            packs[-1].append(name)
        else:
            packs.append([name])
        before = own
    return packs


def _progress(directory: pathlib.Path) -> int:
    """The step of a run's newest checkpoint, -1 without any."""
    saved = (path.name for path in (directory / "run" / "checkpoints").glob("*"))
    return max((int(name) for name in saved if name.isdigit()), default=-1)


def _do(config: Mapping, runs: Mapping[str, Mapping], workdir: pathlib.Path, say) -> None:
    """Trains runs in one program and scores each; what they say goes to their log.txt, a line for each to `say`."""
    import jax

    cells = {name: {"seconds": {"training": 0.0, "scoring": 0.0}} for name in runs}
    for name in runs:
        with contextlib.suppress(FileNotFoundError):
            cells[name] = json.loads((workdir / name / "cell.json").read_text())
        if name != next(iter(runs)):
            with (workdir / name / "log.txt").open("a") as log:
                print(f"trained in one program with {next(iter(runs))}: see the log there", file=log)

    def keep(name):
        write_atomically(workdir / name / "cell.json", json.dumps(cells[name], indent=2) + "\n")

    with _saying(workdir / next(iter(runs))):
        begin = time.perf_counter()
        try:
            results = _train(runs, workdir)
        finally:
            for name in runs:
                cells[name]["seconds"]["training"] += (time.perf_counter() - begin) / len(runs)
                keep(name)
    jax.clear_caches()  # the scoring, and the next run, have programs of their own
    for name in runs:
        if "diverged" in results[name]:
            cells[name]["diverged"] = results[name]["diverged"]
            keep(name)
            say(f"{name}: diverged: {results[name]['diverged']}")
            continue
        begin = time.perf_counter()
        with _saying(workdir / name):
            scored = _scores(config, workdir / name / "run")
        cells[name]["seconds"]["scoring"] += time.perf_counter() - begin
        cells[name] |= {"step": results[name]["step"], "scores": scored}
        keep(name)
        first = [next(iter(found.items())) for found in scored.values() if found]
        told = "  ".join(f"{number} {value:.3f}" for number, value in first)
        say(f"{name}: {told}  {cells[name]['seconds']['training']:.0f} s")


@contextlib.contextmanager
def _saying(directory: pathlib.Path):
    """What is printed within goes to the run's log."""
    with (directory / "log.txt").open("a") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        yield


def _train(runs: Mapping[str, Mapping], workdir: pathlib.Path) -> dict[str, dict]:
    """The results of each run, {'diverged': why} of one that has none; several are trained together."""
    from deft_jax.training import session

    if len(runs) == 1:
        ((name, run),) = runs.items()
        try:
            return {name: session.run(run, workdir / name / "run")}
        except FloatingPointError as error:
            return {name: {"diverged": str(error)}}
    first = next(iter(runs.values()))
    by_seed = {run["seed"]: name for name, run in runs.items()}
    found = session.run_together(first, {seed: workdir / name / "run" for seed, name in by_seed.items()})
    return {by_seed[seed]: results for seed, results in found.items()}


def _scores(config: Mapping, directory: pathlib.Path) -> dict[str, dict]:
    """metric -> its single numbers."""
    from deft_jax.studies import scoring

    if not config["metrics"]:
        return {}
    found = scoring.evaluate(
        directory, study.metric_options(config), num_samples=config["num_samples"], variants=("mean",)
    )
    scores = found["scores"]["mean"]  # without a metric that could not be computed: its reason is in results.json
    return to_jsonable({name: _numbers(scores.get(name, {})) for name in config["metrics"]})


def _numbers(found: Mapping) -> dict[str, float]:
    """The single numbers of a metric's dict, counts left out, and the means over factors of NMI1 and NMI2."""
    import numpy as np

    from deft_jax.evaluation import scores as evaluation_scores

    means = {name: float(np.mean(found[name])) for name in ("nmi1", "nmi2") if np.ndim(found.get(name)) == 1}
    return evaluation_scores.headlines({"": found}) | means


def _worker(config, workdir, cores, queue) -> None:
    """One of several processes; tells its lines, and at last None, or what went wrong, to the queue."""
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    try:
        cli.keep_programs()
        work(config, workdir, queue.put)
        queue.put(None)
    except Interrupted:
        queue.put(("interrupted", ""))
    except Exception as error:
        told = " ".join(str(error).split()) or type(error).__name__
        if not isinstance(error, ValueError | OSError):
            traceback.print_exc()
        queue.put(("failed", told))


def _share(cores: Sequence[int], jobs: int) -> list[list[int]]:
    """The cores of each of so many processes, as evenly as possible."""
    return [list(cores[index::jobs]) for index in range(jobs)] if jobs <= len(cores) else [list(cores)] * jobs


def run(config, workdir: str | pathlib.Path, jobs: int | None = None) -> dict:
    """Runs a study to its end and returns its summary, as of `study.summarise`.

    study.json and table.md hold it too, with the runs and seeds of earlier calls.

    jobs: processes on this machine, each with its share of the cores; as many as there are cores unless told, or one
      on an accelerator.
    Raises ValueError where the study or one of its runs does not fit, before anything is trained; Interrupted after
    SIGTERM or SIGINT, when every run under way has saved its state.
    """
    from deft_jax import data, metrics
    from deft_jax.evaluation import scores as evaluation_scores
    from deft_jax.runtime import validation
    from deft_jax.studies import scoring
    from deft_jax.training import build

    config = study.resolve_scale(to_jsonable(config.to_dict() if hasattr(config, "to_dict") else config))
    todo = study.expand_runs(config)
    if config.get("pack") is not None:
        validation.check(validation.Count, config["pack"], "pack")
    least = scoring.LEAST if config["metrics"] else 1
    validation.check(validation.count_from(least), config["num_samples"], "num_samples")
    for name, fields in study.metric_options(config).items():
        if metrics.kind(name) == "runs":
            raise ValueError(f"the metric {name!r} compares several runs: score them with deft_jax.evaluate")
        validation.options_of(metrics.get(name), fields, f"metrics.{name}", metrics.CALLER_ARGUMENTS)
    for name, run_config in todo.items():
        if name.endswith(f"/seed_{config['seeds'][0]}"):
            try:
                source = build.build(run_config).source
                for metric in config["metrics"]:
                    evaluation_scores.check_metric(metric, source)
            except ValueError as error:
                raise ValueError(f"{name.rpartition('/')[0]}: {error}") from None
    workdir = local_path(workdir, "--workdir")
    held = read_object(workdir / "study.json") or {}
    config["runs"] = {
        name: dict(run) | {"data": data.with_absolute_paths(run["data"]["name"], run["data"])}
        for name, run in config["runs"].items()
    }
    todo = study.expand_runs(config)
    # Which runs, which seeds and how many at once may change from call to call, and so may scales that are not used.
    unused = [f"scales.{scale}" for scale in config["scales"] if scale != config["scale"]]
    save_or_check_config(workdir, config, ("only", "pack", "seeds", *unused, *_of_scores(workdir, config)))

    left = [name for name in todo if not study.finished(workdir / name, config["metrics"])]
    print(f"{len(todo)} runs, {len(todo) - len(left)} finished", flush=True)
    if left:
        _run_workers(config, workdir, min(_jobs(jobs), len(left)), len(todo))
    summary = tables.summarise(config, workdir)
    everything = study.merged(held, summary)
    write_atomically(workdir / "study.json", json.dumps(everything, indent=2) + "\n")
    write_atomically(workdir / "table.md", tables.table(everything) + "\n")
    print(f"\n{tables.table(summary)}")
    return summary


def _of_scores(workdir: pathlib.Path, config: Mapping) -> tuple[str, ...]:
    """The fields that tell the metrics, where those shared by this study and that in the workdir are scored alike."""
    held = read_object(workdir / "config.json")
    if held is None or "metrics" not in held:
        return ()
    before, now = study.metric_options(held), study.metric_options(to_jsonable(config))
    alike = all(before.get(name, fields) == fields for name, fields in now.items())
    return ("metrics", f"scales.{config['scale']}.study/metrics") if alike else ()


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
                done = sum(study.finished(workdir / name, config["metrics"]) for name in study.expand_runs(config))
                print(f"[{done}/{total}] {line}", flush=True)
            else:
                open_processes -= 1
                if line is not None:
                    faults.append(line)
        for process in processes:
            process.join()
        if signals.received is not None:
            done = sum(study.finished(workdir / name, config["metrics"]) for name in study.expand_runs(config))
            raise Interrupted(f"stopped with {done} of {total} runs finished; the same command goes on")
    failed = [told for kind, told in faults if kind == "failed"]
    died = [process.exitcode for process in processes if process.exitcode]
    if failed or died:
        raise ChildProcessError(failed[0] if failed else f"a process of the study ended with status {died[0]}")
