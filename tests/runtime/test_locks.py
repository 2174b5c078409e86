"""One process at a time writes to a workdir, and a lock ends with its process."""

import errno
import fcntl
import functools
import operator
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import tiny

from deft_jax.runtime.files import write_atomically
from deft_jax.runtime.locks import WorkdirLock, lock_file, update_object

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


def test_changes_of_several_writers_at_once_add_up(tmp_path):
    path, writers, changes = tmp_path / "results.json", 4, 15

    def add(writer):
        for entry in [f"{writer}.{change}" for change in range(changes)]:
            update_object(path, functools.partial(operator.or_, {entry: None}))

    with ThreadPoolExecutor(writers) as threads:
        list(threads.map(add, range(writers)))
    assert set(update_object(path, dict)) == {f"{w}.{c}" for w in range(writers) for c in range(changes)}
    assert names(tmp_path) == {"results.json"}
    with lock_file(path), pytest.raises(ValueError, match=f"results.json is in use by process {os.getpid()} on"):
        lock_file(path, wait=0.0)


def test_a_file_without_a_lock_is_the_whole_of_one_of_its_writers(tmp_path):
    path, contents = tmp_path / "report.html", [letter * 100_000 for letter in "abcd"]

    def write(content):
        for _ in range(5):
            write_atomically(path, content, several_writers=True)
            assert path.read_text() in contents

    with ThreadPoolExecutor(len(contents)) as threads:
        list(threads.map(write, contents))
    assert names(tmp_path) == {"report.html"}
