"""Several processes that share a batch get the numbers of one, end together, and resume."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tiny

import deft_jax
from deft_jax.training import distributed, session
from deft_jax.training.metrics_log import read_records

CONFIG = """
import tiny
from ml_collections import ConfigDict

def get_config():
    return ConfigDict(tiny.config(data={"name": "tiny:squares"}))
"""


def free_port():
    with socket.socket() as listening:
        listening.bind(("localhost", 0))
        return listening.getsockname()[1]


def start(tmp_path, workdir, *overrides, count=2, devices=2):
    """Processes of one training, each with so many forced devices."""
    (tmp_path / "config.py").write_text(CONFIG)
    port, started = free_port(), []
    for own in range(count):
        environment = tiny.devices(devices) | {
            "DEFT_JAX_COORDINATOR": f"localhost:{port}",
            "DEFT_JAX_NUM_PROCESSES": str(count),
            "DEFT_JAX_PROCESS_ID": str(own),
        }
        command = [sys.executable, "-m", "deft_jax.train", "--config", str(tmp_path / "config.py")]
        command += ["--workdir", str(workdir), *overrides]
        started.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    return started


def end(started, timeout=3000):
    """(status, stdout, stderr) of each."""
    ended = []
    for process in started:
        out, err = process.communicate(timeout=timeout)
        ended.append((process.returncode, out, err))
    return ended


@pytest.mark.slow
def test_two_processes_with_two_devices_each_get_the_numbers_of_one_device(tmp_path):
    ended = end(start(tmp_path, tmp_path / "two"))
    assert [status for status, _, _ in ended] == [0, 0], ended[0][2] + ended[1][2]
    assert "MIG" in ended[0][1]
    assert "MIG" not in ended[1][1]  # process 0 alone speaks
    session.run(tiny.config(data={"name": "tiny:squares"}), tmp_path / "one")
    two, one = (read_records(tmp_path / name / "metrics.jsonl") for name in ("two", "one"))
    for got, want in zip(two, one, strict=True):
        assert (got["kind"], got["step"]) == (want["kind"], want["step"])
        for name in ("loss", "reconstruction", "kl_per_latent"):
            if name in want:
                np.testing.assert_allclose(got[name], want[name], rtol=2e-3, atol=2e-3)
    assert len(json.loads((tmp_path / "two" / "results.json").read_text())["devices"]) == 4


@pytest.mark.slow
def test_a_signal_to_one_stops_all_with_the_state_saved_and_the_same_start_goes_on(tmp_path):
    long = ("--config.total_steps=200000", "--config.log_every=50", "--config.evaluation.every=100000",
            "--config.checkpoints.every=50")  # fmt: skip
    started = start(tmp_path, tmp_path / "run", *long)
    wait_for_records(tmp_path / "run", started)
    started[1].send_signal(signal.SIGTERM)
    ended = end(started)
    assert [status for status, _, _ in ended] == [143, 143], ended[0][2]
    saved = max(checkpoints(tmp_path / "run"))
    again = start(tmp_path, tmp_path / "run", *long)
    wait_for_records(tmp_path / "run", again, after=saved)
    again[0].send_signal(signal.SIGTERM)
    ended = end(again)
    assert [status for status, _, _ in ended] == [143, 143]
    assert f"resuming at step {saved}" in ended[0][2]


def checkpoints(workdir):
    """The steps that are saved in full."""
    folder = workdir / "checkpoints"
    return [int(path.name) for path in folder.iterdir() if path.name.isdigit()] if folder.is_dir() else []


def wait_for_records(workdir, started, after=0, seconds=3000):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        records = read_records(workdir / "metrics.jsonl")
        if records and records[-1]["step"] > after:
            return
        for process in started:
            assert process.poll() is None, process.stderr.read()
        time.sleep(0.2)
    raise AssertionError("no record came")


@pytest.mark.slow
def test_a_killed_process_ends_the_others_within_a_bounded_time(tmp_path):
    started = start(tmp_path, tmp_path / "run", "--config.total_steps=10000000", "--config.log_every=50",
                    "--config.evaluation.every=10000000", "--config.checkpoints.every=50")  # fmt: skip
    wait_for_records(tmp_path / "run", started)
    deadline = time.monotonic() + 3000
    while not checkpoints(tmp_path / "run") and time.monotonic() < deadline:
        time.sleep(0.2)
    saved = checkpoints(tmp_path / "run")
    started[1].kill()
    (status, _, err), _ = end(started, timeout=600)  # what is left to train takes days
    assert status != 0
    assert err.strip()
    # What was saved is there, and a single process goes on with it.
    assert saved
    assert max(checkpoints(tmp_path / "run")) >= max(saved)
    assert deft_jax.load(tmp_path / "run").step == max(checkpoints(tmp_path / "run"))


@pytest.mark.parametrize(
    ("environment", "want"),
    [
        ({}, None),
        ({"DEFT_JAX_DISTRIBUTED": ""}, None),
        ({"DEFT_JAX_DISTRIBUTED": "auto"}, {}),
        (
            {"DEFT_JAX_COORDINATOR": "host:1234", "DEFT_JAX_NUM_PROCESSES": "3", "DEFT_JAX_PROCESS_ID": "2"},
            {"coordinator_address": "host:1234", "num_processes": 3, "process_id": 2},
        ),
        ({"DEFT_JAX_COORDINATOR": "host:1", "DEFT_JAX_NUM_PROCESSES": "1", "DEFT_JAX_PROCESS_ID": "0"}, None),
    ],
)
def test_the_environment_says_who_takes_part(environment, want):
    assert distributed._arguments(environment) == want


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"DEFT_JAX_DISTRIBUTED": "yes"}, "must be auto or not set, got 'yes'"),
        ({"DEFT_JAX_PROCESS_ID": "0"}, "DEFT_JAX_PROCESS_ID without DEFT_JAX_COORDINATOR, DEFT_JAX_NUM_PROCESSES"),
        (
            {"DEFT_JAX_COORDINATOR": "h:1", "DEFT_JAX_NUM_PROCESSES": "2", "DEFT_JAX_PROCESS_ID": "2"},
            "must be from 0 to DEFT_JAX_NUM_PROCESSES - 1, got '2' of '2'",
        ),
        (
            {"DEFT_JAX_COORDINATOR": "h:1", "DEFT_JAX_NUM_PROCESSES": "x", "DEFT_JAX_PROCESS_ID": "0"},
            "got '0' of 'x'",
        ),
    ],
)
def test_an_environment_that_does_not_fit_is_refused(environment, told):
    with pytest.raises(ValueError, match=told):
        distributed._arguments(environment)


def test_alone_a_process_is_the_first_and_asks_nobody():
    assert "DEFT_JAX_COORDINATOR" not in os.environ
    distributed.initialize()
    assert distributed.is_first_process()
    assert distributed.any_process(True)
    assert not distributed.any_process(False)
    assert distributed.broadcast_from_first({"a": 1}) == {"a": 1}
