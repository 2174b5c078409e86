"""Bad input to any command: one line per fault on stderr, status 2, and every file as it was."""

import json
import subprocess
import sys

import faulty_commands
import pytest
import tiny

from deft_jax.runtime import cli
from deft_jax.runtime.signals import Interrupted

CASES = list(faulty_commands.cases())


@pytest.fixture(scope="module")
def outcomes(trained_once, tmp_path_factory):
    """What each case did: its status, its stdout and stderr, and which files it changed."""
    folder = tmp_path_factory.mktemp("bad_input")
    faulty_commands.fill(folder, trained_once)
    done = subprocess.run(
        [sys.executable, faulty_commands.__file__],
        cwd=folder, env=tiny.devices(2), capture_output=True, text=True, timeout=3000,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("number", range(len(CASES)), ids=[" ".join((name, *parts)) for name, _, parts in CASES])
def test_a_line_per_fault_status_2_and_nothing_changed(outcomes, number):
    name, _, parts = CASES[number]
    outcome = outcomes[number]
    assert "Traceback" not in outcome["stderr"], outcome["stderr"]
    lines = outcome["stderr"].splitlines()
    assert len(lines) == len(parts), lines
    assert all(line.startswith(f"deft_jax.{name}: ") for line in lines)
    for part in parts:
        assert any(part in line for line in lines), (part, lines)
    assert outcome["status"] == 2
    assert outcome["stdout"] == ""
    assert outcome["changed"] == []


@pytest.mark.parametrize(("name", "arguments"), [
    ("train", ("--config=training.py:0", "--workdir=run")),
    ("evaluate", ("--codes", "missing.npz")),
])
def test_the_same_as_separate_programs(tmp_path, name, arguments):
    (tmp_path / "training.py").write_text(faulty_commands.FILES["training.py"])
    before = faulty_commands.contents(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", f"deft_jax.{name}", *arguments],
        cwd=tmp_path, env=tiny.ENVIRONMENT, capture_output=True, text=True, timeout=3000,
    )  # fmt: skip
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"deft_jax.{name}: ")
    assert done.stdout == ""
    assert faulty_commands.contents(tmp_path) == before


@pytest.mark.parametrize(("error", "status"), [
    (ValueError("of two\nlines"), 2),
    (FloatingPointError("the loss is not finite"), 1),
    (OSError(28, "No space left on device"), 1),
    (ChildProcessError("a process died"), 1),
    (Interrupted("SIGTERM: saved step 3 of 8"), 143),
])
def test_status_by_kind_of_error(error, status, capsys):
    with pytest.raises(SystemExit) as ended, cli.cli_errors("deft_jax.train"):
        raise error
    assert ended.value.code == status
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_faults_of_the_program_keep_their_traceback():
    with pytest.raises(ZeroDivisionError), cli.cli_errors("deft_jax.train"):
        raise ZeroDivisionError
