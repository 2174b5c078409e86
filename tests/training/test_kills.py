"""A run that is killed again and again ends like the run that was not."""

import random
import signal
import subprocess
import sys
import time

import pytest
import runs
import tiny

from deft_jax.training import session
from deft_jax.training.metrics_log import read_records

CHANGES = {
    "data": {"name": "tiny:squares"},
    "total_steps": 300,
    "stages": {"rule": "steps", "betas": (8.0, 2.0), "steps": 150},
    "log_every": 10,
    "evaluation": {"every": 100},
    "checkpoints": {"every": 10, "keep": 2},
}
CONFIG = f"""
import tiny
from ml_collections import ConfigDict

def get_config():
    tiny.draw_nothing()
    return ConfigDict(tiny.config(**{CHANGES!r}))
"""


@pytest.mark.slow
def test_run_that_is_killed_repeatedly_ends_like_the_whole_one(shared_programs, tmp_path):
    (tmp_path / "config.py").write_text(CONFIG)
    rng = random.Random(0)

    def start():
        command = [sys.executable, "-m", "deft_jax.train", "--config", tmp_path / "config.py"]
        command += ["--workdir", tmp_path / "killed"]
        streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=tiny.ENVIRONMENT, **streams)

    def last():
        return max([record["step"] for record in read_records(tmp_path / "killed" / "metrics.jsonl")], default=0)

    session.run(tiny.config(**CHANGES), tmp_path / "whole")
    statuses = []
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        before, process = last(), start()
        while process.poll() is None and last() <= before:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.1))
        process.send_signal(number)
        errors = process.communicate(timeout=3000)[1]
        assert process.returncode in (-number, 143, 0), errors
        assert "Traceback" not in errors
        statuses.append(process.returncode)
    assert statuses[0] != 0
    process = start()
    errors = process.communicate(timeout=3000)[1]
    assert process.returncode == 0, errors
    assert runs.state_of(tmp_path / "killed") == runs.state_of(tmp_path / "whole")
    assert runs.records(tmp_path / "killed") == runs.records(tmp_path / "whole")
    assert runs.names(tmp_path / "killed") == runs.names(tmp_path / "whole")
