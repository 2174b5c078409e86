"""Nothing is lost: damaged checkpoints, full disks, second starts, runs that diverge, kills."""

import errno
import fcntl
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import types

import jax
import numpy as np
import pytest
import tiny

import deft_jax
from deft_jax.evaluation import figures
from deft_jax.runtime import files
from deft_jax.runtime.errors import CannotWrite, reraise_as_cannot_write
from deft_jax.runtime.locks import WorkdirLock
from deft_jax.runtime.signals import Interrupted
from deft_jax.training import build as training_build
from deft_jax.training import checkpoint, run_writer, session
from deft_jax.training.checkpoint import Checkpoints, Damaged
from deft_jax.training.config import RESUMABLE_CHANGES, parse_training
from deft_jax.training.metrics_log import read_records
from deft_jax.training.runner import Runner
from deft_jax.training.step import init_state, state_shapes

STOP = 7  # where the run that is damaged was stopped: it has checkpoints of 4, 6 and 7
_BUILT = tiny.experiment()
_RUNNER = Runner(_BUILT, jax.devices()[:1])


@pytest.fixture(autouse=True)
def shared(monkeypatch):
    """Runs of the one configuration share their programs, and draw no figures."""
    build = training_build.build
    plain = {
        name: value
        for name, value in files.to_jsonable(tiny.config()).items()
        if name not in RESUMABLE_CHANGES
    }

    def ours(config):
        return {
            name: value
            for name, value in files.to_jsonable(config).items()
            if name not in RESUMABLE_CHANGES
        } == plain

    monkeypatch.setattr(
        training_build, "build", lambda config, source=None: _BUILT if ours(config) else build(config, source)
    )

    def runner(built, devices, replicas=None):
        return _RUNNER if built is _BUILT else Runner(built, devices, replicas)

    monkeypatch.setattr(session, "Runner", runner)
    monkeypatch.setattr(figures, "figures", lambda **_: {})
    monkeypatch.setattr(figures, "history_figures", lambda *_, **__: {})


def state_of(workdir, step=None):
    like = state_shapes(_BUILT)
    return tiny.fingerprint(Checkpoints(workdir / "checkpoints", 3).restore(like, step))


def records(workdir):
    timing = ("steps_per_second", "images_per_second")
    found = read_records(workdir / "metrics.jsonl")
    return [{name: value for name, value in one.items() if name not in timing} for one in found]


def names(workdir):
    return {path.name for path in workdir.iterdir()}


def times(workdir):
    return {path: path.stat().st_mtime_ns for path in [workdir, *workdir.rglob("*")]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Workdirs of a run in one go, and of one that was stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "figures", lambda **_: {})
        patch.setattr(figures, "history_figures", lambda *_, **__: {})
        whole, stopped = (tmp_path_factory.mktemp(name) for name in ("whole", "stopped"))
        session.run(tiny.config(), whole, jax.devices()[:1])
        run = Runner.run

        def stops(self, stage, state, steps):
            state, metrics = run(self, stage, state, steps)
            if int(np.asarray(state.step)) == STOP:
                signal.raise_signal(signal.SIGTERM)
            return state, metrics

        patch.setattr(Runner, "run", stops)
        with pytest.raises(Interrupted):
            session.run(tiny.config(), stopped, jax.devices()[:1])
    assert Checkpoints(stopped / "checkpoints", 3).steps == [4, 6, STOP]
    return whole, stopped


@pytest.fixture
def stopped(runs, tmp_path):
    """A copy of the workdir that was stopped."""
    return shutil.copytree(runs[1], tmp_path / "run")


# ---- damaged checkpoints ----


def spoil(path, how):
    content = path.read_bytes()
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "zeroed":
        path.write_bytes(bytes(len(content)))
    elif how == "flipped":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :])
    else:
        path.unlink()


def file_in(folder, name):
    """A file of a checkpoint; 'numbers' is the largest of those that hold the arrays."""
    if name == "numbers":
        return max((folder / "default" / "d").iterdir(), key=lambda path: path.stat().st_size)
    return folder / name


@pytest.mark.parametrize("name", ["numbers", "default/_METADATA", "default/manifest.ocdbt", "_CHECKPOINT_METADATA"])
@pytest.mark.parametrize("how", ["cut", "zeroed", "flipped", "removed"])
def test_a_damaged_checkpoint_is_never_restored_as_a_good_one(stopped, runs, name, how, capfd):
    spoil(file_in(stopped / "checkpoints" / str(STOP), name), how)
    with pytest.raises(Damaged, match="checkpoints/7 cannot be read"):
        state_of(stopped, STOP)
    assert state_of(stopped) == state_of(runs[1], 6)
    time.sleep(0.05)
    told = capfd.readouterr().err.splitlines()
    assert len(told) == 1, told
    assert told[0].startswith("warning: the checkpoint ")
    assert told[0].endswith("; going back to step 6")


def emptied(folder):
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize(
    ("spoiled", "back"),
    [
        ({7: emptied}, 6),
        ({7: lambda folder: spoil(file_in(folder, "numbers"), "cut")}, 6),
        ({7: emptied, 6: lambda folder: spoil(file_in(folder, "default/_METADATA"), "zeroed")}, 4),
        ({6: lambda folder: spoil(folder / "_CHECKPOINT_METADATA", "removed"), 4: emptied}, 7),  # not needed
    ],
)
def test_training_goes_on_from_the_newest_that_is_readable_to_the_same_end(stopped, runs, spoiled, back, capfd):
    for step, act in spoiled.items():
        act(stopped / "checkpoints" / str(step))
    session.run(tiny.config(), stopped)
    err = capfd.readouterr().err
    assert f"resuming at step {back} of 8" in err
    newer = [step for step in spoiled if step > back]
    assert err.count("warning: ") == len(newer)
    assert state_of(stopped) == state_of(runs[0])
    assert records(stopped) == records(runs[0])
    assert {f"damaged_{step}" for step in newer} <= names(stopped / "checkpoints")
    if newer:
        assert state_of(stopped, 7 if back == 7 else 6) == state_of(runs[0], 6)  # saved anew


def test_without_a_readable_checkpoint_nothing_starts_over(stopped, runs):
    for step in (4, 6, 7):
        spoil(file_in(stopped / "checkpoints" / str(step), "default/manifest.ocdbt"), "zeroed")
    before = times(stopped / "checkpoints")
    with pytest.raises(ValueError, match=r"checkpoints/7 cannot be read .*, nor 2 older; nothing was changed") as error:
        session.run(tiny.config(), stopped)
    assert "\n" not in str(error.value)
    assert times(stopped / "checkpoints") == before
    assert records(stopped) == records(runs[1])
    with pytest.raises(ValueError, match="nothing was changed"):
        deft_jax.load(stopped)


def test_what_is_loaded_is_the_newest_readable_and_nothing_is_changed(stopped, capfd):
    spoil(file_in(stopped / "checkpoints" / "7", "numbers"), "cut")
    (stopped / "checkpoints" / "9.orbax-checkpoint-tmp").mkdir()  # a run is saving there
    before = times(stopped)
    assert deft_jax.load(stopped).step == 6
    assert "going back to step 6" in capfd.readouterr().err
    with pytest.raises(ValueError, match="checkpoints/7 cannot be read"):
        deft_jax.load(stopped, 7)
    assert times(stopped) == before


def test_numbers_other_than_those_saved_are_noticed_and_old_checkpoints_without_a_digest_read(tmp_path, monkeypatch):
    state = jax.tree.map(np.asarray, init_state(_BUILT))
    digest = checkpoint._digest
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_digest", lambda copy: digest(copy.replace(key=copy.key + 1)))
        kept = Checkpoints(tmp_path, 1)
        kept.save(state)
        kept.close()
    with pytest.raises(Damaged, match="its numbers are not those that were saved"):
        Checkpoints(tmp_path, 1).restore(state, 0)
    path = tmp_path / "0" / "_CHECKPOINT_METADATA"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"custom_metadata": {}}))
    assert tiny.fingerprint(Checkpoints(tmp_path, 1).restore(state, 0)) == tiny.fingerprint(state)


def test_several_seeds_go_back_together(runs, tmp_path, capfd):
    made = [
        types.SimpleNamespace(diverged=None, checkpoints=Checkpoints(place / "checkpoints", 3))
        for place in (shutil.copytree(runs[1], tmp_path / name) for name in "abc")
    ]
    made[2].diverged = "long ago"
    emptied(tmp_path / "b" / "checkpoints" / "7")
    emptied(tmp_path / "a" / "checkpoints" / "6")
    emptied(tmp_path / "c" / "checkpoints" / "4")
    start = jax.tree.map(np.asarray, init_state(_BUILT))
    step, states = run_writer.restore_common_step(made, [start] * 3)
    assert step == 4
    assert [int(state.step) for state in states] == [4, 4, 0]
    assert capfd.readouterr().err.count("going back to step 4") == 2
    made[0].checkpoints.drop_after(4)
    assert made[0].checkpoints.steps == [4]
    assert names(tmp_path / "a" / "checkpoints") >= {"4", "damaged_6"}


# ---- a full disk ----


@pytest.fixture
def small(tmp_path):
    """(folder on a file system that is too small for the run, a function that makes it large)."""
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield place, lambda: subprocess.run(["mount", "-o", "remount,size=100m", place], check=True)
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_ends_a_run_in_one_line_and_with_space_again_it_goes_on(small, runs, capfd):
    place, enlarge = small
    with pytest.raises(CannotWrite, match=r"cannot write a checkpoint into .*: No space left on device") as error:
        session.run(tiny.config(), place / "run")
    assert "\n" not in str(error.value)
    assert "Traceback" not in capfd.readouterr().err
    assert not list((place / "run").rglob("*orbax-checkpoint-tmp*"))
    last = Checkpoints(place / "run" / "checkpoints", 3).latest
    assert last is not None
    assert state_of(place / "run", last) == state_of(runs[1] if last == 4 else runs[0], last) or last == 3
    enlarge()
    session.run(tiny.config(), place / "run")
    assert f"resuming at step {last} of 8" in capfd.readouterr().err
    assert state_of(place / "run") == state_of(runs[0])
    assert records(place / "run") == records(runs[0])


def test_a_file_that_may_not_grow_ends_a_run_in_one_line(stopped, runs):
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, old[1]))
    try:
        with pytest.raises(CannotWrite, match=r"cannot write a checkpoint into .*: File too large"):
            session.run(tiny.config(), stopped)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert state_of(stopped) == state_of(runs[1])
    session.run(tiny.config(), stopped)
    assert state_of(stopped) == state_of(runs[0])


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class _Full:
    """A file on a device without space."""

    def __init__(self, file, room):
        self._file, self._room = file, room

    def write(self, text):
        self._file.write(text[: self._room])
        self._file.flush()
        raise FULL

    def __getattr__(self, name):
        return getattr(self._file, name)


def test_records_that_cannot_be_written_end_the_run_and_leave_no_half_line(stopped, runs, monkeypatch):
    opened = run_writer.MetricsLog.__init__

    def full(self, workdir, step):
        opened(self, workdir, step)
        self._file = _Full(self._file, 10)

    with monkeypatch.context() as patch:
        patch.setattr(run_writer.MetricsLog, "__init__", full)
        with pytest.raises(CannotWrite, match=r"cannot write .*metrics.jsonl: No space left on device"):
            session.run(tiny.config(), stopped)
    session.run(tiny.config(), stopped)
    assert records(stopped) == records(runs[0])


@pytest.mark.parametrize("name", ["config.json", "results.json", "metrics.jsonl", "figures"])
def test_every_file_that_cannot_be_written_is_named_and_the_run_goes_on_later(stopped, runs, name, monkeypatch):
    replace = os.replace

    def full(source, target):
        if str(target).endswith(name):
            raise FULL
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        if name == "figures":
            patch.setattr(figures, "save_figures", lambda *_: (_ for _ in ()).throw(FULL))
        with pytest.raises(CannotWrite, match=rf"cannot write .*{name}: No space left on device"):
            session.run(tiny.config(), stopped)
    assert not list(stopped.rglob("*.tmp"))
    session.run(tiny.config(), stopped)
    assert state_of(stopped) == state_of(runs[0])
    assert names(stopped) == names(runs[0])


def test_what_failed_first_is_what_is_told(tmp_path):
    def fails(text):
        raise ValueError(text)

    closing = [types.SimpleNamespace(close=lambda: fails("second"))]
    with pytest.raises(ValueError, match="first"), session._closing(closing):
        fails("first")
    with pytest.raises(ValueError, match="second"), session._closing(closing):
        pass


def test_a_fault_in_writing_names_the_file_and_the_reason(tmp_path):
    with pytest.raises(CannotWrite) as error, reraise_as_cannot_write(tmp_path / "x"):
        raise FULL
    assert str(error.value) == f"cannot write {tmp_path / 'x'}: No space left on device"
    assert error.value.is_full
    assert isinstance(error.value, OSError)


# ---- two runs in one workdir ----


def test_a_second_run_is_refused_and_changes_nothing(stopped, runs):
    lock = WorkdirLock(stopped)
    before = times(stopped)
    with pytest.raises(ValueError, match=rf"run is in use by process {os.getpid()} on .*; wait for it") as error:
        session.run(tiny.config(), stopped)
    assert "\n" not in str(error.value)
    assert deft_jax.load(stopped).step == STOP  # reading is free
    assert times(stopped) == before
    lock.release()
    session.run(tiny.config(), stopped)
    assert names(stopped) == names(runs[0])
    session.run(tiny.config(), stopped)  # one after the other


def test_a_seed_of_several_is_a_workdir_of_its_own(tmp_path):
    one = {"data": {"name": "squares"}}
    seeds = {tmp_path / "run": one | {"a": 1}, tmp_path / "run" / "seed_3": one | {"b": 2}}
    with (
        session.exclusive_workdirs(seeds, _BUILT.source),
        pytest.raises(ValueError, match="seed_3 is in use by process"),
    ):
        WorkdirLock(tmp_path / "run" / "seed_3")
    lock = WorkdirLock(tmp_path / "run" / "seed_3")
    with pytest.raises(ValueError, match="seed_3 is in use"), session.exclusive_workdirs(seeds, _BUILT.source):
        pass
    lock.release()
    WorkdirLock(tmp_path / "run").release()  # which the refused start gave back


def test_a_killed_process_holds_nothing(tmp_path):
    code = "import pathlib, sys, time; from deft_jax.runtime.locks import WorkdirLock\n"
    code += "lock = WorkdirLock(pathlib.Path(sys.argv[1])); print('held', flush=True); time.sleep(100)"
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path], env=tiny.ENVIRONMENT, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(ValueError, match=f"in use by process {process.pid} on"):
        WorkdirLock(tmp_path)
    process.kill()
    process.wait()
    assert names(tmp_path) == {".lock"}
    WorkdirLock(tmp_path).release()
    assert names(tmp_path) == set()


def test_a_lock_file_that_its_holder_deletes_meanwhile_is_not_taken_for_the_lock(tmp_path, monkeypatch):
    """A opens the file, its holder deletes it and goes, B makes a new one: A must not believe it has the lock."""
    flock, others = fcntl.flock, []

    def between(file, operation):
        if not others:
            others.append(None)
            (tmp_path / ".lock").unlink()
            others.append(WorkdirLock(tmp_path))
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", between)
    with pytest.raises(ValueError, match="in use by"):
        WorkdirLock(tmp_path)
    others[1].release()


def test_a_file_system_without_locks_gets_a_warning(tmp_path, monkeypatch, capsys):
    def none(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    WorkdirLock(tmp_path).release()
    told = capsys.readouterr().err
    assert told == f"warning: {tmp_path} cannot be locked (No locks available); let no other run write there\n"


# ---- a loss that is not finite ----


def test_a_run_that_diverged_says_so_again(tmp_path):
    config = tiny.config(optimizer={"learning_rate": 1e30, "decoder_learning_rate": 1e30})
    told = []
    for _ in range(2):
        with pytest.raises(FloatingPointError) as error:
            session.run(config, tmp_path / "run")
        told.append(str(error.value))
    assert told[0] == told[1]
    assert "there is no checkpoint" in told[0]


# ---- what is refused before anything is trained ----


@pytest.mark.parametrize(
    ("periodic_metrics", "fault"),
    [
        ({"mig": {"every": 4, "num_bins": 0}}, r"periodic_metrics\.mig\.num_bins must be"),
        ({"nmi": {"every": 4, "num_bins": 0}}, r"periodic_metrics\.nmi\.num_bins must be"),
        ({"dci": {"every": 4, "model": "forest"}}, r"periodic_metrics\.dci\.model must be"),
        ({"sap": {"every": 4, "num_train": 0}}, r"periodic_metrics\.sap\.num_train must be"),
        (
            {"sap": {"every": 4, "num_train": 64}},
            r"periodic_metrics\.sap\.num_train must be below evaluation\.num_samples = 64",
        ),
        ({"irs": {"every": 4, "difference_quantile": 1.5}}, r"periodic_metrics\.irs\.difference_quantile must be"),
        ({"infomec": {"every": 4, "estimator": "guess"}}, r"periodic_metrics\.infomec\.estimator must be"),
        ({"factor_vae": {"every": 4, "batch_size": 0}}, r"periodic_metrics\.factor_vae\.batch_size must be"),
        (
            {"factor_vae": {"every": 4, "variance_threshold": -1.0}},
            r"periodic_metrics\.factor_vae\.variance_threshold must be",
        ),
        ({"beta_vae": {"every": 4, "num_eval": -1}}, r"periodic_metrics\.beta_vae\.num_eval must be"),
    ],
)
def test_values_that_a_metric_would_refuse_are_refused_at_once(periodic_metrics, fault, tmp_path):
    with pytest.raises(ValueError, match=fault) as error:
        session.run(tiny.config(periodic_metrics=periodic_metrics), tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("sap", {"num_train": 63}),
        ("sap", {"continuous": [True, False, False]}),
        ("factor_vae", {"num_train": 100_000, "batch_size": 1000}),
        ("beta_vae", {"num_train": 100_000}),
        ("infomec", {"estimator": "knn", "num_neighbors": 60, "continuous": [True] * 3}),
        ("mig", {"num_bins": 100}),
        ("gaussian_total_correlation", {}),
    ],
)
def test_values_that_a_metric_takes_are_not_refused(name, given):
    parsed = parse_training(tiny.config(periodic_metrics={name: {"every": 4, **given}}))
    assert set(parsed.periodic_metrics[name].options) == set(given)


def test_a_field_that_nothing_reads_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"the configuration has no field 'batchsize'; known: seed, .*, num_seeds"):
        session.run(tiny.config(batchsize=3), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# ---- kills ----

CONFIG = """
import tiny
from ml_collections import ConfigDict

def get_config():
    return ConfigDict(tiny.config(
        data={"name": "tiny:squares"}, total_steps=300, stages={"rule": "steps", "betas": (8.0, 2.0), "steps": 150},
        log_every=10, evaluation={"every": 100}, checkpoints={"every": 10, "keep": 2}))
"""


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_like_the_one_that_was_not(tmp_path):
    (tmp_path / "config.py").write_text(CONFIG)
    rng = random.Random(0)

    def start(name):
        command = [sys.executable, "-m", "deft_jax.train", "--config", tmp_path / "config.py"]
        command += ["--workdir", tmp_path / name]
        to = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=tiny.ENVIRONMENT, **to)

    def last():
        return max([one["step"] for one in read_records(tmp_path / "killed" / "metrics.jsonl")], default=0)

    whole = start("whole")
    killed = 0
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM):
        before, process = last(), start("killed")
        while process.poll() is None and last() <= before:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        process.send_signal(number)
        told = process.communicate(timeout=3000)[1]
        assert process.returncode in (-number, 143, 0), told
        assert "Traceback" not in told
        killed += process.returncode != 0
    assert killed >= 3
    process = start("killed")
    told = process.communicate(timeout=3000)[1]
    assert process.returncode == 0, told
    assert whole.wait(timeout=3000) == 0, whole.stderr.read()
    assert state_of(tmp_path / "killed") == state_of(tmp_path / "whole")
    assert records(tmp_path / "killed") == records(tmp_path / "whole")
    assert names(tmp_path / "killed") == names(tmp_path / "whole")
