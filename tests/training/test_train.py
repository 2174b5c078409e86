"""The command: a signal ends it in a saved state, and the same command resumes."""

import json
import signal
import subprocess
import sys

import pytest
import tiny

CONFIG = """
import tiny
from ml_collections import ConfigDict

def get_config():
    tiny.draw_nothing()
    return ConfigDict(tiny.config({changes}))
"""


@pytest.fixture
def config(tmp_path):
    def write(changes=""):
        path = tmp_path / "config.py"
        path.write_text(CONFIG.format(changes=changes))
        return f"--config={path}"

    return write


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "deft_jax.train", *map(str, arguments)],
        env=tiny.ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=3000)
    return process.returncode, out, err


def test_sigterm_saves_and_the_same_command_ends_the_run(config, tmp_path):
    """A run that is interrupted, resumed and finished has every record once."""
    workdir = tmp_path / "run"
    total, stage, every = 1000, 500, 50
    arguments = (
        config("evaluation={'every': 1000}, checkpoints={'every': 1000}"),
        f"--workdir={workdir}",
        f"--config.total_steps={total}",
        f"--config.stages.steps={stage}",
        f"--config.log_every={every}",
    )
    process = start(*arguments)
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith("step"):
            process.send_signal(signal.SIGTERM)
            break
    code, _, err = finish(process)
    assert code == 143, "".join(lines) + err
    [message] = [line for line in err.splitlines() if line.startswith("deft_jax.train:")]
    assert message.startswith("deft_jax.train: SIGTERM: saved step ")
    step = int(message.split("saved step ")[1].split()[0])
    assert 0 < step < total
    assert [path.name for path in (workdir / "checkpoints").iterdir()] == [str(step)]
    assert not (workdir / "results.json").exists()

    code, out, err = finish(start(*arguments))
    assert code == 0, err
    assert f"resuming at step {step} of {total}" in err
    results = json.loads((workdir / "results.json").read_text())
    assert f"MIG {results['mig']:.3f} after {total} steps" in out
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    trained = [record["step"] for record in records if record["kind"] == "train"]
    assert trained == list(range(every, total + 1, every))
    progress = [line for line in err.splitlines() if line.startswith("step ")]
    assert len(progress) == (total - step) // every
    assert all(f"/{total}  beta " in line and "\r" not in line and "\x1b" not in line for line in progress)
