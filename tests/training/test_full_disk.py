"""A full disk ends a run with the name of the file; with space again, the run resumes to the same end."""

import errno
import os
import resource
import subprocess
import types

import pytest
import runs
import tiny
from refusals import refused

from deft_jax.evaluation import figures
from deft_jax.runtime.errors import CannotWrite
from deft_jax.training import run_writer, session

pytestmark = pytest.mark.usefixtures("shared_programs")

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def small_disk(tmp_path, whole):
    """(folder on a file system with 3/4 of the space that the run needs, a function that enlarges it)."""
    folder = tmp_path / "small"
    folder.mkdir()
    needed = sum(path.stat().st_blocks * 512 for path in whole[0].rglob("*"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={3 * needed // 4}", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield folder, lambda: subprocess.run(["mount", "-o", "remount,size=100m", folder], check=True)
    subprocess.run(["umount", folder], check=True)


def test_full_disk_ends_a_run_in_one_line_and_the_run_resumes_with_space(small_disk, whole, capfd):
    folder, enlarge = small_disk
    with refused(r"cannot write .*run/.*: No space left on device", CannotWrite):
        session.run(tiny.config(), folder / "run")
    assert "Traceback" not in capfd.readouterr().err
    assert not list((folder / "run").rglob("*orbax-checkpoint-tmp*"))
    last = runs.saved_steps(folder / "run")[-1]
    enlarge()
    session.run(tiny.config(), folder / "run")
    assert f"resuming at step {last} of 8" in capfd.readouterr().err
    assert runs.state_of(folder / "run") == runs.state_of(whole[0])
    assert runs.records(folder / "run") == runs.records(whole[0])


def test_limit_on_file_sizes_ends_a_run_in_one_line(stopped, stopped_once):
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, old[1]))
    try:
        with pytest.raises(CannotWrite, match=r"cannot write a checkpoint into .*: File too large"):
            session.run(tiny.config(), stopped)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert runs.state_of(stopped) == runs.state_of(stopped_once)


class FullFile:
    """A file that takes the first `room` characters."""

    def __init__(self, file, room):
        self._file, self._room = file, room

    def write(self, text):
        self._file.write(text[: self._room])
        self._file.flush()
        raise FULL

    def __getattr__(self, name):
        return getattr(self._file, name)


def test_record_that_cannot_be_written_leaves_no_half_line(stopped, whole, monkeypatch):
    original_init = run_writer.MetricsLog.__init__

    def full(self, workdir, step):
        original_init(self, workdir, step)
        self._file = FullFile(self._file, 10)

    with monkeypatch.context() as patch:
        patch.setattr(run_writer.MetricsLog, "__init__", full)
        with pytest.raises(CannotWrite, match=r"cannot write .*metrics.jsonl: No space left on device"):
            session.run(tiny.config(), stopped)
    session.run(tiny.config(), stopped)
    assert runs.records(stopped) == runs.records(whole[0])


def test_each_file_that_cannot_be_written_is_named_and_the_run_resumes(stopped, whole, monkeypatch):
    replace = os.replace

    def raise_full(*_):
        raise FULL

    for name in ("config.json", "results.json", "metrics.jsonl", "figures"):

        def replace_unless_full(source, target, name=name):
            return raise_full() if str(target).endswith(name) else replace(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replace_unless_full)
            if name == "figures":
                patch.setattr(figures, "save_figures", raise_full)
                (stopped / "results.json").unlink(missing_ok=True)
            with pytest.raises(CannotWrite, match=rf"cannot write .*{name}: No space left on device"):
                session.run(tiny.config(), stopped)
        assert not list(stopped.rglob("*.tmp"))
    session.run(tiny.config(), stopped)
    assert runs.state_of(stopped) == runs.state_of(whole[0])
    assert runs.names(stopped) == runs.names(whole[0])


def test_first_error_is_raised_after_all_writers_are_closed():
    closed = []

    def fail(text):
        closed.append(text)
        raise ValueError(text)

    writers = [types.SimpleNamespace(close=lambda: fail("second")), types.SimpleNamespace(close=lambda: fail("third"))]
    with pytest.raises(ValueError, match="first"), session._closing(writers):
        fail("first")
    with pytest.raises(ValueError, match="second"), session._closing(writers):
        pass
    assert closed == ["first", "second", "third", "second", "third"]
