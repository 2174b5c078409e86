"""Fixtures of the tests that train: a whole run, an interrupted one."""

import shutil
import signal

import numpy as np
import pytest
import runs
import shared_programs as programs
import tiny

from deft_jax.runtime.signals import Interrupted
from deft_jax.training import session
from deft_jax.training.runner import Runner


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """(workdir, results) of a run that was not interrupted. Not to be written to."""
    workdir = tmp_path_factory.mktemp("whole")
    with programs.shared():
        return workdir, session.run(tiny.config(), workdir)


@pytest.fixture(scope="session")
def stopped_once(tmp_path_factory):
    """The workdir of a run that was interrupted at step runs.STOP. Not to be written to."""
    workdir = tmp_path_factory.mktemp("stopped")
    with programs.shared():
        stop_run(tiny.config(), workdir, runs.STOP)
    assert runs.saved_steps(workdir) == [4, 6, runs.STOP]
    return workdir


@pytest.fixture
def stopped(stopped_once, tmp_path):
    """A copy of the workdir of the interrupted run."""
    return shutil.copytree(stopped_once, tmp_path / "run")


def act_after_dispatch(patch, act):
    """Calls `act(step, state, metrics) -> (state, metrics)` after each dispatch of a run."""
    run = Runner.run

    def patched(self, stage, state, steps):
        state, metrics = run(self, stage, state, steps)
        return act(int(np.ravel(state.step)[0]), state, metrics)

    patch.setattr(Runner, "run", patched)


def stop_run(config, workdir, stop, number=signal.SIGTERM):
    """Trains in a workdir until a signal that arrives after step `stop`."""

    def act(step, state, metrics):
        if step == stop:
            signal.raise_signal(number)
        return state, metrics

    with pytest.MonkeyPatch.context() as patch:
        act_after_dispatch(patch, act)
        with pytest.raises(Interrupted, match=f"{number.name}: saved step {stop} of "):
            session.run(config, workdir)


@pytest.fixture
def stop_at():
    return stop_run


@pytest.fixture
def after_dispatch(monkeypatch):
    """Installs a function that is called after each dispatch of a run, see act_after_dispatch."""
    return lambda act: act_after_dispatch(monkeypatch, act)
