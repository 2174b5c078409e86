"""One process at a time writes to a workdir, and a lock ends with its process."""

import errno
import fcntl
import os
import subprocess
import sys
import threading

import pytest
import tiny

from deft_jax.runtime.locks import WorkdirLock

HOLDER = """
import pathlib, sys, time
from deft_jax.runtime.locks import WorkdirLock
lock = WorkdirLock(pathlib.Path(sys.argv[1]))
print("locked", flush=True)
time.sleep(100)
"""


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_second_lock_is_refused_until_the_first_is_released(tmp_path):
    lock = WorkdirLock(tmp_path)
    with pytest.raises(ValueError, match=rf"in use by process {os.getpid()} on "):
        WorkdirLock(tmp_path)
    lock.release()
    assert names(tmp_path) == set()
    WorkdirLock(tmp_path).release()


def test_a_lock_may_be_waited_for(tmp_path):
    first, released = WorkdirLock(tmp_path), []
    timer = threading.Timer(0.2, lambda: released.append(first.release()))
    timer.start()
    second = WorkdirLock(tmp_path, wait=600)
    timer.join()
    assert released
    second.release()


def test_lock_of_a_killed_process_is_free(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    process = subprocess.Popen(command, env=tiny.ENVIRONMENT, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"locked\n"
    with pytest.raises(ValueError, match=f"in use by process {process.pid} on"):
        WorkdirLock(tmp_path)
    process.kill()
    process.wait()
    assert names(tmp_path) == {".lock"}
    WorkdirLock(tmp_path).release()
    assert names(tmp_path) == set()


def test_lock_on_a_file_that_was_removed_meanwhile_is_not_the_lock(tmp_path, monkeypatch):
    """A opens the file, its holder removes it and ends, B creates a new one: A must not take its file for the lock."""
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


def test_file_system_without_locks_gets_a_warning(tmp_path, monkeypatch, capsys):
    def unsupported(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    WorkdirLock(tmp_path).release()
    [warning] = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"warning: {tmp_path} cannot be locked (No locks available)")
