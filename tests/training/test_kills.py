"""The command, killed again and again, ends like the run that was not; a signal leaves a saved state."""

import json
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
    "total_steps": 400,
    "stages": {"rule": "steps", "betas": (8.0, 2.0), "steps": 200},
    "log_every": 10,
    "evaluation": {"every": 100},
    "checkpoints": {"every": 10, "keep": 2},
}


@pytest.mark.slow
def test_run_that_is_killed_repeatedly_ends_like_the_whole_one(shared_programs, tmp_path):
    tiny.write_config(tmp_path / "config.py", **CHANGES)
    rng = random.Random(0)

    def start():
        command = [sys.executable, "-m", "deft_jax.train", "--config", tmp_path / "config.py"]
        command += ["--workdir", tmp_path / "killed"]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=tiny.ENVIRONMENT, **streams)

    def last():
        return max([record["step"] for record in read_records(tmp_path / "killed" / "metrics.jsonl")], default=0)

    session.run(tiny.config(data={"name": "tiny:squares"}, **CHANGES), tmp_path / "whole")
    statuses = []
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        before, process = last(), start()
        while process.poll() is None and last() <= before:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.1))
        process.send_signal(number)
        errors = process.communicate(timeout=3000)[1]
        assert "Traceback" not in errors
        assert process.returncode in (-number, 143, 0), errors  # 0: it was quicker than the signal
        statuses.append(process.returncode)
        if process.returncode == 143:
            [message] = [line for line in errors.splitlines() if line.startswith("deft_jax.train: ")]
            step = runs.saved_steps(tmp_path / "killed")[-1]
            assert f"saved step {step} of 400" in message
    assert statuses[:2] == [-signal.SIGKILL, 143]
    process = start()
    out, errors = process.communicate(timeout=3000)
    assert process.returncode == 0, errors
    assert "resuming at step " in errors
    assert not {"\r", "\x1b"} & set(errors)  # stderr is no terminal
    mig = json.loads((tmp_path / "killed" / "results.json").read_text())["mig"]
    assert f"MIG {mig:.3f} after 400 steps" in out
    for read in (runs.state_of, runs.records, runs.names):
        assert read(tmp_path / "killed") == read(tmp_path / "whole")
