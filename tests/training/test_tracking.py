"""A tracker receives every step once, whatever interrupts the run, and never changes or ends a training."""

import collections
import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import runs
import tiny

from deft_jax.training import session, tracking
from deft_jax.training.metrics_log import read_records, scalars_of

LIBRARIES = ("wandb", "mlflow")


class Memory:
    """A tracker in memory, which keeps what it receives by the key of the run."""

    def __init__(self, fails=()):
        self.runs, self.rows = {}, collections.defaultdict(list)
        self.scores, self.ended, self.figures = {}, {}, collections.defaultdict(list)
        self._fails = list(fails)  # whether the next calls of `log` fail

    def __call__(self, name):
        return self

    def open(self, run, sent):
        self.runs[run.key] = run
        self._key = run.key
        return sent

    def log(self, step, scalars, figures):
        if self._fails and self._fails.pop(0):
            raise ConnectionError("no route to host")
        if scalars:
            self.rows[self._key].append((step, dict(scalars)))
        self.figures[self._key] += [path.name for path in figures]

    def summarise(self, step, scores):
        self.scores[self._key] = dict(scores)

    def close(self, status):
        self.ended[self._key] = status


class Broken:
    """A tracker that cannot be opened."""

    def __init__(self, name):
        pass

    def open(self, run, sent):
        raise SystemExit("not today")


@pytest.fixture
def every_library(monkeypatch):
    """No library is looked for, so that trackers of the tests stand for it."""
    monkeypatch.setattr(tracking, "_check_library", lambda name, workdirs: None)


def expected_rows(workdir):
    """(step, numbers) of all records in metrics.jsonl, without those that depend on the machine."""
    rows = {}
    for record in read_records(workdir / "metrics.jsonl"):
        values = {name: value for name, value in record.items() if name not in ("kind", "step")}
        rows.setdefault(record["step"], {}).update(scalars_of(record["kind"], values))
    return [(step, without_timing(row)) for step, row in rows.items()]


def without_timing(row):
    return {name: value for name, value in row.items() if not name.endswith(runs.TIMING)}


def record(step, kind="train", **values):
    return {"kind": kind, "step": step, "stage": 0, **values}


def test_every_step_is_sent_once_whatever_was_written_when_the_process_was_killed(every_library, tmp_path):
    memory = Memory()
    first = tracking.Tracking("wandb", tmp_path, {}, create=memory)
    log = [record(step, loss=float(step)) for step in (1, 2, 3, 4)]
    first.publish(log[:2], 2)
    first.publish(log[:3], 3)
    first.close("interrupted")  # as if killed at step 4, of which nothing was sent; its checkpoint is of step 2
    resumed = tracking.Tracking("wandb", tmp_path, {}, create=memory)
    log = [*log[:2], record(3, loss=3.0), record(4, loss=4.0), record(4, "eval", mig=0.5)]
    for step in (2, 3, 4):
        resumed.publish(log, step)
    resumed.summarise(4, {"mig": 0.5, "ledger": {"foreign": 0.1}, "factor_names": ["x"]})
    resumed.close("finished")
    [rows] = memory.rows.values()
    assert [step for step, _ in rows] == [1, 2, 3, 4]
    assert rows[-1][1] == {"train/stage": 0, "train/loss": 4.0, "eval/stage": 0, "eval/mig": 0.5}
    assert list(memory.scores.values()) == [{"final/mig": 0.5, "final/ledger/foreign": 0.1}]
    assert tracking.start("wandb", tmp_path, {}) is None  # it is finished
    assert tracking.start("none", tmp_path, {}) is None


def test_rows_that_fail_are_sent_later_in_their_order_after_one_warning(every_library, tmp_path, capsys):
    memory = Memory(fails=[False, True, True])
    tracked = tracking.Tracking("mlflow", tmp_path, {}, create=memory)
    log = [record(step, loss=1.0) for step in range(1, 6)]
    for step in range(1, 6):
        tracked.publish(log, step)
    tracked.close("finished")
    [rows] = memory.rows.values()
    assert [step for step, _ in rows] == [1, 2, 3, 4, 5]
    assert capsys.readouterr().err.count("no route to host") == 1


def test_tracked_run_goes_on_after_an_interruption_and_trains_to_the_same_state(
    shared_programs, every_library, whole, stop_at, monkeypatch, tmp_path
):
    memory = Memory()
    monkeypatch.setattr(tracking.Tracking.__init__, "__defaults__", (None, memory))
    config = tiny.config(tracking="wandb")
    stop_at(config, tmp_path / "run", runs.STOP)
    assert list(memory.ended.values()) == ["interrupted"]
    session.run(config, tmp_path / "run")
    assert list(memory.ended.values()) == ["finished"]
    [rows] = memory.rows.values()
    assert [(step, without_timing(row)) for step, row in rows] == expected_rows(whole[0])
    assert runs.state_of(tmp_path / "run") == runs.state_of(whole[0])
    [scores] = memory.scores.values()
    assert scores["final/mig"] == whole[1]["mig"]
    [run] = memory.runs.values()
    assert run.config["model"]["latents"] == 4
    session.run(tiny.config(), tmp_path / "run")  # may be left out on resuming


def test_seeds_are_runs_of_one_group(shared_programs, every_library, monkeypatch, tmp_path):
    memories = []

    def create(name):
        memories.append(Memory())
        return memories[-1]

    monkeypatch.setattr(tracking.Tracking.__init__, "__defaults__", (None, create))
    session.run(tiny.config(tracking="mlflow", **runs.SEEDS), tmp_path / "seeds")
    tracked = [run for memory in memories for run in memory.runs.values()]
    assert sorted((run.group, run.name, run.config["seed"]) for run in tracked) == [
        ("seeds", "seed_3", 3),
        ("seeds", "seed_4", 4),
    ]
    assert len({run.key for run in tracked}) == 2
    for memory in memories:
        [run] = memory.runs.values()
        [(_, rows)] = memory.rows.items()
        assert [(step, without_timing(row)) for step, row in rows] == expected_rows(run.workdir)


def test_tracker_that_cannot_start_ends_no_training(
    shared_programs, every_library, whole, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(tracking.Tracking.__init__, "__defaults__", (None, Broken))
    session.run(tiny.config(tracking="mlflow"), tmp_path / "run")
    assert capsys.readouterr().err.count("not today") == 1
    assert runs.state_of(tmp_path / "run") == runs.state_of(whole[0])


def test_missing_library_is_refused_before_anything_is_written_and_only_warned_of_later(
    shared_programs, stopped, monkeypatch, tmp_path, capsys
):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in LIBRARIES else find(name))
    for name in LIBRARIES:
        with pytest.raises(ValueError, match=rf"deft_jax\[{name}\]"):
            session.run(tiny.config(tracking=name), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    session.run(tiny.config(tracking="wandb"), stopped)
    assert capsys.readouterr().err.count("deft_jax[wandb]") == 1
    assert runs.saved_steps(stopped)[-1] == runs.TOTAL


# ---- with the libraries, which the extra tracking-test installs; nothing of them needs a network ----


@pytest.fixture(params=LIBRARIES)
def library(request, monkeypatch, tmp_path):
    """The name of a library that is installed; nobody is logged in, and the current folder is empty."""
    pytest.importorskip(request.param, reason="the extra tracking-test has the libraries")
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    (tmp_path / "current").mkdir()
    monkeypatch.chdir(tmp_path / "current")
    yield request.param
    assert not list((tmp_path / "current").iterdir())


def steps_of(library, store):
    """Name of each tracked run -> the steps at which it has a loss, in the order in which they were sent."""
    found = collections.defaultdict(list)
    if library == "mlflow":
        from mlflow.tracking import MlflowClient

        client = MlflowClient(f"sqlite:///{store}/mlflow.db")
        for run in client.search_runs([experiment.experiment_id for experiment in client.search_experiments()]):
            history = client.get_metric_history(run.info.run_id, "train/loss")
            found[run.info.run_name] += [metric.step for metric in history]
        return dict(found)
    from wandb.proto.wandb_internal_pb2 import Record

    from deft_jax.training.wandb_tracker import _messages

    for path in sorted(store.glob("**/wandb/offline-run-*/run-*.wandb")):
        name = None
        for message in _messages(path.read_bytes()):
            content = Record.FromString(message)
            if content.HasField("run"):
                name = content.run.display_name
            names = {item.key or "/".join(item.nested_key): item.value_json for item in content.history.item}
            if "train/loss" in names:
                found[name].append(json.loads(names["_step"]))
    return dict(found)


@pytest.mark.slow
def test_library_has_every_step_of_an_interrupted_run_once(shared_programs, drawn, library, stop_at, tmp_path):
    config = tiny.config(tracking=library)
    stop_at(config, tmp_path / "run", runs.STOP)
    session.run(config, tmp_path / "run")
    assert steps_of(library, tmp_path / "run") == {"run": list(range(1, runs.TOTAL + 1))}
    [names] = [entry["figures"] for entry in json.loads((tmp_path / "run" / tracking.FILE).read_text()).values()]
    assert set(names) == {path.name for path in (tmp_path / "run" / "figures").iterdir()}
    tracking.log_scores(library, tmp_path / "run", config, None, runs.TOTAL, {"dci": {"disentanglement": np.pi}})
    if library == "mlflow":
        from mlflow.tracking import MlflowClient

        client = MlflowClient(f"sqlite:///{tmp_path}/run/mlflow.db")
        [run] = client.search_runs([client.get_experiment_by_name("deft_jax").experiment_id])
        assert run.info.status == "FINISHED"
        assert run.data.metrics["final/dci/disentanglement"] == np.pi
        assert run.data.params["model.latents"] == "4"
        kept = {pathlib.PurePath(file.path).name for file in client.list_artifacts(run.info.run_id, "figures")}
        assert kept == set(names)


@pytest.mark.slow
def test_killed_run_is_continued_in_the_library(library, tmp_path):
    changes = {"total_steps": 60, "stages": {"rule": "steps", "betas": (8.0, 2.0), "steps": 30}, "tracking": library}
    tiny.write_config(tmp_path / "config.py", **changes, evaluation={"every": 60}, checkpoints={"every": 10})
    command = [sys.executable, "-m", "deft_jax.train", "--config", tmp_path / "config.py"]
    command += ["--workdir", tmp_path / "run"]
    environment = tiny.ENVIRONMENT | os.environ | {"PYTHONPATH": tiny.ENVIRONMENT["PYTHONPATH"]}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list((tmp_path / "run" / "checkpoints").glob("[2-4]0")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "resuming" in done.stderr
    assert "warning" not in done.stderr
    assert steps_of(library, tmp_path / "run") == {"run": list(range(1, 61))}


def test_user_who_is_not_logged_in_is_told_before_the_training(shared_programs, library, monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_MODE")
    if library == "wandb":
        sys.modules["wandb"].teardown()  # it has read the variables
        with pytest.raises(ValueError, match="WANDB_MODE=offline"):
            session.run(tiny.config(tracking=library), tmp_path / "run")
        assert not (tmp_path / "run").exists()
