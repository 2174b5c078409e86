"""Runs in a bucket, against servers on this machine that speak the protocols of S3 and of Google Cloud Storage."""

import contextlib
import importlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import runs
import tiny

import deft_jax
from deft_jax import encode, evaluate, report
from deft_jax.annealing import measure
from deft_jax.runtime.cli import _read_value_from_file
from deft_jax.training import session

SERVERS = {
    "s3": (["s3fs", "moto.server"], "import sys; from moto.server import main; main(['-p', sys.argv[1]])"),
    "gs": (
        ["gcsfs", "gcp_storage_emulator.server"],
        "import sys; from gcp_storage_emulator.server import create_server; "
        "create_server('127.0.0.1', int(sys.argv[1]), in_memory=True).run()",
    ),
}
CHANGES = {
    "total_steps": 80,
    "stages": {"rule": "steps", "betas": (8.0, 2.0), "steps": 40},
    "log_every": 10,
    "evaluation": {"every": 40},
    "checkpoints": {"every": 20, "keep": 2},
}
SOON = 120
# A line of the log takes SECONDS, in which what was saved is uploaded.
QUICKLY_UPLOADED = """
import os, time
from deft_jax.runtime import mirrors
from deft_jax.training.loop import TrainingLoop

mirrors._POLL = 0.02

def _log(self, *arguments, _log=TrainingLoop._log):
    _log(self, *arguments)
    time.sleep(float(os.environ.get("SECONDS", "0")))

TrainingLoop._log = _log
"""


def environment(scheme, port):
    if scheme == "gs":
        return {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}"}
    return {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "none",
            "AWS_DEFAULT_REGION": "us-east-1"}  # fmt: skip


@pytest.fixture(scope="module", params=SERVERS)
def store(request):
    """A file system with an empty bucket; what this process and its children open is there."""
    modules, program = SERVERS[request.param]
    for module in modules:
        pytest.importorskip(module, reason="the extras s3-test and gs-test have the servers")
    fsspec = importlib.import_module("fsspec")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([sys.executable, "-c", program, str(port)], **quiet)
    try:
        deadline = time.monotonic() + SOON
        while server.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment(request.param, port).items():
                patch.setenv(name, value)
            filesystem = fsspec.filesystem(request.param, skip_instance_cache=True, use_listings_cache=False)
            filesystem.mkdir("bucket")
            yield filesystem
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def whole(shared_programs, tmp_path_factory):
    """The workdir of the same training in a local folder."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    session.run(tiny.config(data={"name": "tiny:squares"}, **CHANGES), workdir)
    return workdir


@pytest.fixture(scope="module")
def finished(store, whole, tmp_path_factory):
    """The address of a run that was killed and has resumed, what was in the bucket when it was killed, and stderr."""
    folder = tmp_path_factory.mktemp("config")
    tiny.write_config(folder / "config.py", **CHANGES)
    with (folder / "config.py").open("a") as file:
        file.write(QUICKLY_UPLOADED)
    address = store.unstrip_protocol("bucket/runs/a")
    command = [sys.executable, "-m", "deft_jax.train", "--config", folder / "config.py", "--workdir", address]
    servers = {name: os.environ[name] for scheme in SERVERS for name in environment(scheme, 0) if name in os.environ}
    variables = tiny.ENVIRONMENT | servers | {"TMPDIR": str(folder)}  # where the killed process leaves its copy
    process = subprocess.Popen(command, env=variables | {"SECONDS": "0.5"}, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not steps(store):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.communicate()[1].count("resuming") == 0
    assert process.returncode == -signal.SIGKILL, "it ended before it was killed"
    left = steps(store)
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=SOON)
    assert done.returncode == 0, done.stderr
    return address, left, done


def steps(store):
    """The steps whose checkpoints are complete in the bucket."""
    found = store.find("bucket/runs/a")
    return sorted(int(path.split("/")[-2]) for path in found if path.endswith("/_CHECKPOINT_METADATA"))


def download(store, folder):
    store.get("bucket/runs/a/", str(folder) + "/", recursive=True)
    return folder


@pytest.mark.slow
def test_run_that_is_killed_resumes_from_the_bucket_and_ends_like_a_local_one(store, finished, whole, tmp_path):
    address, left, done = finished
    assert left
    assert f"resuming at step {left[-1]} of 80" in done.stderr
    assert address in done.stdout
    assert "deft_jax_" not in done.stdout + done.stderr, "the local copy is named"
    workdir = download(store, tmp_path / "run")
    assert runs.state_of(workdir) == runs.state_of(whole)
    assert runs.records(workdir) == runs.records(whole)
    assert runs.names(workdir) == runs.names(whole)  # and no lease
    assert runs.saved_steps(workdir) == runs.saved_steps(whole)


# One of them is enough: what is scored and shown is a local copy.
@pytest.mark.slow
@pytest.mark.parametrize("store", ["s3"], indirect=True, scope="module")
def test_run_in_a_bucket_is_loaded_scored_and_shown(store, finished, whole, tmp_path, capsys):
    address = finished[0]
    images = np.zeros((2, 16, 16, 1))
    model = deft_jax.load(address)
    np.testing.assert_array_equal(model.encode(images).mean, deft_jax.load(whole).encode(images).mean)
    np.savez(tmp_path / "images.npz", images=images)
    encode.main(["--workdir", address, "--images", str(tmp_path / "images.npz"), "--out", "s3://bucket/codes.npz"])
    codes = np.load(io.BytesIO(store.cat_file("bucket/codes.npz")))
    np.testing.assert_array_equal(codes["mean"], model.encode(images).mean)
    twice = [address, address + "/"]  # is one
    evaluate.main(["--workdir", *twice, "--metrics", "nmi", "--num_samples", "30", "--jobs", "1"])
    assert address in capsys.readouterr().out
    results = json.loads(store.cat_file("bucket/runs/a/results.json"))
    assert "nmi" in results["evaluation"]["scores"]["mean"]
    assert results["mig"] == json.loads((whole / "results.json").read_text())["mig"]
    report.main([address])
    assert f"{address}/report.html" in capsys.readouterr().out
    assert store.cat_file("bucket/runs/a/report.html").lower().startswith(b"<!doctype html")
    assert deft_jax.load(address).step == 80  # the evaluation has changed nothing else
    with pytest.raises(ValueError, match="of another configuration") as error:
        session.run(tiny.config(data={"name": "tiny:squares"}, **CHANGES, seed=9), address)
    assert address in str(error.value)
    with pytest.raises(ValueError, match="no such bucket or object"):
        session.run(tiny.config(), address.replace("bucket", "nowhere"))


@pytest.mark.parametrize("store", ["s3"], indirect=True, scope="module")
def test_annealing_test_in_a_bucket_gives_betas_to_a_training(store):
    address = "s3://bucket/ifp"
    betas = {"source": "spectrum", "last": 1.0, "separation": 1.1, "max_stages": 2}
    results = measure.run(tiny.annealing(instruments=("spectrum",), betas=betas), address)
    assert json.loads(store.cat_file("bucket/ifp/freezing.json"))["spectrum"]["points"] == results["spectrum"]["points"]
    read = json.loads(store.cat_file("bucket/ifp/betas.json"))["betas"]
    assert _read_value_from_file(f"--config.stages.betas=@{address}/betas.json").endswith(repr(tuple(read)))
