"""Several processes that share a batch get the numbers of one process, end together, and resume."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import runs
import tiny
from jax.experimental import multihost_utils

import deft_jax
from deft_jax.runtime import package
from deft_jax.training import distributed, session
from deft_jax.training.metrics_log import read_records

# The command with a shorter wait for a process that died.
COMMAND = """
import runpy, sys
from deft_jax.training import distributed
distributed._HEARTBEAT = 10
runpy.run_module("deft_jax.train", run_name="__main__", alter_sys=True)
"""
LONG = ("--config.total_steps=10000000", "--config.log_every=50", "--config.evaluation.every=10000000",
        "--config.checkpoints.every=50")  # fmt: skip


def free_port():
    with socket.socket() as listening:
        listening.bind(("localhost", 0))
        return listening.getsockname()[1]


def start(tmp_path, workdir, *overrides, count=2, devices=1):
    """Starts the processes of one training, each with so many forced devices."""
    tiny.write_config(tmp_path / "config.py", total_steps=4, stages=runs.ONE_STAGE)
    port, processes = free_port(), []
    for index in range(count):
        environment = tiny.devices(devices) | {
            "DEFT_JAX_COORDINATOR": f"localhost:{port}",
            "DEFT_JAX_NUM_PROCESSES": str(count),
            "DEFT_JAX_PROCESS_ID": str(index),
        }
        command = [sys.executable, "-c", COMMAND, "--config", str(tmp_path / "config.py")]
        command += ["--workdir", str(workdir), *overrides]
        processes.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    return processes


def finish(processes, timeout=3000):
    """(status, stdout, stderr) of each."""
    outputs = []
    for process in processes:
        out, err = process.communicate(timeout=timeout)
        outputs.append((process.returncode, out, err))
    return outputs


def checkpoints(workdir):
    """The steps that are saved completely."""
    folder = workdir / "checkpoints"
    return [int(path.name) for path in folder.iterdir() if path.name.isdigit()] if folder.is_dir() else []


def wait_until(condition, processes, seconds=3000):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        for process in processes:
            assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)


def has_trained(workdir, after):
    records = read_records(workdir / "metrics.jsonl")
    return bool(records) and records[-1]["step"] > after


@pytest.mark.slow
def test_two_processes_with_two_devices_each_get_the_numbers_of_one_device(shared_programs, tmp_path):
    outputs = finish(start(tmp_path, tmp_path / "two", devices=2))
    assert [status for status, _, _ in outputs] == [0, 0], outputs[0][2] + outputs[1][2]
    assert "MIG" in outputs[0][1]
    assert "MIG" not in outputs[1][1]  # only process 0 prints
    session.run(tiny.config(total_steps=4, stages=runs.ONE_STAGE), tmp_path / "one")
    two, one = (read_records(tmp_path / name / "metrics.jsonl") for name in ("two", "one"))
    for got, want in zip(two, one, strict=True):
        assert (got["kind"], got["step"]) == (want["kind"], want["step"])
        for name in ("loss", "reconstruction", "kl_per_latent"):
            if name in want:
                np.testing.assert_allclose(got[name], want[name], rtol=2e-3, atol=2e-3)
    assert len(json.loads((tmp_path / "two" / "results.json").read_text())["devices"]) == 4


@pytest.mark.slow
def test_signal_to_one_process_saves_and_stops_all_and_a_killed_one_ends_the_others(tmp_path):
    workdir = tmp_path / "run"
    processes = start(tmp_path, workdir, *LONG)
    wait_until(lambda: has_trained(workdir, 0), processes)
    processes[1].send_signal(signal.SIGTERM)
    outputs = finish(processes)
    assert [status for status, _, _ in outputs] == [143, 143], outputs[0][2]
    saved = max(checkpoints(workdir))

    processes = start(tmp_path, workdir, *LONG)
    wait_until(lambda: max(checkpoints(workdir)) > saved, processes)
    newer = max(checkpoints(workdir))
    processes[1].kill()
    (status, _, err), _ = finish(processes, timeout=600)  # the rest of the training would take days
    assert status not in (0, 143)
    assert f"resuming at step {saved}" in err
    assert deft_jax.load(workdir).step >= newer


@pytest.mark.parametrize(("environment", "arguments"), [
    ({}, None),
    ({"DEFT_JAX_DISTRIBUTED": ""}, None),
    ({"DEFT_JAX_DISTRIBUTED": "auto"}, {}),
    (
        {"DEFT_JAX_COORDINATOR": "host:1234", "DEFT_JAX_NUM_PROCESSES": "3", "DEFT_JAX_PROCESS_ID": "2"},
        {"coordinator_address": "host:1234", "num_processes": 3, "process_id": 2},
    ),
    ({"DEFT_JAX_COORDINATOR": "host:1", "DEFT_JAX_NUM_PROCESSES": "1", "DEFT_JAX_PROCESS_ID": "0"}, None),
])
def test_environment_names_the_processes(environment, arguments):
    assert distributed._arguments(environment) == arguments


@pytest.mark.parametrize(("environment", "message"), [
    ({"DEFT_JAX_DISTRIBUTED": "yes"}, "DEFT_JAX_DISTRIBUTED must be .*, got 'yes'"),
    ({"DEFT_JAX_PROCESS_ID": "0"}, "DEFT_JAX_PROCESS_ID without DEFT_JAX_COORDINATOR, DEFT_JAX_NUM_PROCESSES"),
    (
        {"DEFT_JAX_COORDINATOR": "h:1", "DEFT_JAX_NUM_PROCESSES": "2", "DEFT_JAX_PROCESS_ID": "2"},
        "DEFT_JAX_PROCESS_ID must be .*, got '2' of '2'",
    ),
    (
        {"DEFT_JAX_COORDINATOR": "h:1", "DEFT_JAX_NUM_PROCESSES": "x", "DEFT_JAX_PROCESS_ID": "0"},
        "got '0' of 'x'",
    ),
])
def test_invalid_environment_is_refused(environment, message):
    with pytest.raises(ValueError, match=message):
        distributed._arguments(environment)


def test_single_process_is_the_first_and_does_not_communicate():
    assert "DEFT_JAX_COORDINATOR" not in os.environ
    distributed.initialize()
    assert distributed.is_first_process()
    assert distributed.any_process(True)
    assert not distributed.any_process(False)
    assert distributed.broadcast_from_first({"a": 1}) == {"a": 1}


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are listed on Linux only")
def test_narrow_send_buffers_are_widened_and_wide_ones_left():
    with socket.socket() as listening, socket.socket() as narrow:
        listening.bind(("localhost", 0))
        listening.listen()
        narrow.connect(listening.getsockname())
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 336)
        before = narrow.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        assert distributed.widen_send_buffers() >= 1
        assert narrow.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) > 10 * before
        narrow.send(b"still open")
        assert distributed.widen_send_buffers() == 0


def test_processes_of_different_code_or_configuration_are_refused(monkeypatch):
    """They would train different programs, and wait for one another for ever."""
    of_first = {}

    def allgather(digests):
        of_first.setdefault(len(digests), digests)  # of the code, or of the fields
        return np.stack([of_first[len(digests)], digests])

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(multihost_utils, "process_allgather", allgather)
    config = {"seed": 0, "log_every": 10, "model": {"width": 2, "groups": (1, 2)}}
    distributed.check_alike(config)  # process 0
    distributed.check_alike(config | {"model": {"groups": (1, 2), "width": 2}})
    with pytest.raises(ValueError, match="different configurations, in log_every, model;"):
        distributed.check_alike(config | {"log_every": 20, "model": {"width": 3, "groups": (1, 2)}})
    monkeypatch.setattr(package, "source_digest", lambda: "other")
    with pytest.raises(ValueError, match=r"same code .*\(files other\)"):
        distributed.check_alike(config)
