"""Tasks of a study on a cluster of one thread: who is tried again, and what is refused."""

import functools
import os
import pathlib
import signal
import threading
import time

import dask
import pytest
from distributed import Event, LocalCluster, get_client

import deft_jax
from deft_jax import sweep
from deft_jax.runtime import package
from deft_jax.runtime.signals import TERMINATED, Signals
from deft_jax.studies import cluster, task


@pytest.fixture(scope="module")
def address():
    """The address of a cluster of one thread of this process."""
    with LocalCluster(n_workers=1, processes=False, threads_per_worker=1, dashboard_address=":0") as workers:
        yield workers.scheduler_address


@pytest.fixture
def workdir(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    return str(tmp_path)


def run_packs(address, workdir, packs, signals):
    """What is reported, in its order."""
    reported = []
    with cluster.joined_client(address, workdir) as client:
        cluster.run_packs(client, ({}, workdir), packs, signals, lambda *ended: reported.append(ended))
    return reported


def test_a_run_that_fails_is_tried_by_itself_and_given_up_at_the_third_time(address, workdir, monkeypatch):
    def train_pack(study, workdir, names, shares, stop, version):
        with pathlib.Path(workdir, "tried").open("a+") as file:
            print(*names, file=file)
            file.seek(0)
            tried = file.read().splitlines()
        if "a" in names:
            raise ChildProcessError("a is\nnot well")
        return names != ["c"] or tried.count("c") > 1  # the first time it is stopped, by whom is not known

    monkeypatch.setattr(task, "train_pack", train_pack)
    with Signals() as signals:
        reported = run_packs(address, workdir, [["a", "b"], ["c"]], signals)
    assert sorted(pathlib.Path(workdir, "tried").read_text().splitlines()) == ["a", "a", "a b", "b", "c", "c"]
    assert sorted(reported) == [("a", "a is not well"), ("b", None), ("c", None)]


def test_a_signal_ends_a_study_that_no_worker_can_begin(address, workdir, capsys):
    with Signals() as signals, cluster.joined_client(address, workdir, {"GPU": 1}) as client:
        assert "no worker offers GPU=1" in capsys.readouterr().err
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
        cluster.run_packs(client, ({}, workdir), [["a"], ["b"]], signals, lambda *ended: None, resources={"GPU": 1})
    assert signals.received == signal.SIGTERM


def test_a_file_that_names_no_scheduler_is_refused(monkeypatch, workdir):
    monkeypatch.setattr(cluster, "_WRITTEN", 0.0)
    with pytest.raises(ValueError, match="no scheduler file"), cluster.joined_client(f"{workdir}/config.json", workdir):
        pass


def test_runs_begin_in_the_order_of_the_study(address, workdir, monkeypatch):
    def train_pack(study, workdir, names, shares, stop, version):
        with pathlib.Path(workdir, "begun").open("a") as file:
            print(*names, file=file)
        return True

    monkeypatch.setattr(task, "train_pack", train_pack)
    names = [f"{method}/seed_{seed}" for method in ("devae", "beta_vae", "deft") for seed in range(6)]
    with Signals() as signals:
        run_packs(address, workdir, [[name] for name in names], signals)
    assert pathlib.Path(workdir, "begun").read_text().splitlines() == names


def test_at_a_signal_runs_under_way_are_stopped_and_no_other_begins(address, workdir, monkeypatch):
    signals = Signals()
    signals.received = None

    def train_pack(study, workdir, names, shares, stop, version):
        event = Event(stop, client=get_client())
        if event.is_set():
            return False
        pathlib.Path(workdir, names[0]).touch()
        event.wait()
        return False

    def send():
        while not {"a", "b", "c"} & set(os.listdir(workdir)):
            time.sleep(0.05)
        signals.received = signal.SIGTERM

    monkeypatch.setattr(task, "train_pack", train_pack)
    threading.Thread(target=send).start()
    assert run_packs(address, workdir, [["a"], ["b"], ["c"]], signals) == []
    assert len({"a", "b", "c"} & set(os.listdir(workdir))) == 1


def test_a_worker_must_see_the_workdir(address, workdir, tmp_path):
    with Signals() as signals:
        with pytest.raises(ValueError, match="does not see the workdir"):
            run_packs(address, str(tmp_path / "elsewhere"), [["a"]], signals)
        with cluster.joined_client(address, workdir) as client:
            (tmp_path / "config.json").unlink()
            with pytest.raises(task.UnfitWorker):
                cluster.run_packs(client, ({}, workdir), [["a"], ["b"]], signals, print)


def test_a_worker_must_have_the_version_of_the_study(address, workdir, monkeypatch, capsys):
    with Signals() as signals, cluster.joined_client(address, workdir) as client:
        assert "warning" not in capsys.readouterr().err
        monkeypatch.setattr(task, "train_pack", functools.partial(of_version, task.train_pack, "0.0.9"))
        with pytest.raises(task.UnfitWorker, match=f"must have deft_jax 0.0.9, .* has {deft_jax.__version__}$"):
            cluster.run_packs(client, ({}, workdir), [["a"], ["b"]], signals, print)
    with pytest.raises(ValueError, match=r"must have .* the worker b has 0.0.9$"):
        task.check_version("0.1.0", {"a": "0.1.0", "b": "0.0.9"})
    digests = iter("ab")
    monkeypatch.setattr(package, "source_digest", lambda: next(digests))
    with cluster.joined_client(address, workdir):
        assert "the files of deft_jax are others" in capsys.readouterr().err


def of_version(train_pack, version, *arguments):
    return train_pack(*arguments[:-1], version)


def test_the_end_of_the_process_of_a_run():
    assert task._is_finished(0, "")
    assert not task._is_finished(TERMINATED, "")
    with pytest.raises(ChildProcessError, match="why"):
        task._is_finished(1, "why")
    with pytest.raises(ChildProcessError, match="signal 9"):
        task._is_finished(-signal.SIGKILL, "")


def test_trainings_have_as_many_threads_as_cores_whatever_dask_sets(monkeypatch):
    limit = dask.config.get("distributed.nanny.pre-spawn-environ.OMP_NUM_THREADS")
    monkeypatch.setenv("OMP_NUM_THREADS", str(limit))
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    environment = task._environment()
    assert ("OMP_NUM_THREADS" in environment, environment["MKL_NUM_THREADS"]) == (False, "7")


def test_resources_are_names_and_amounts():
    assert sweep._amounts(["GPU=1", "memory=2.5"]) == {"GPU": 1.0, "memory": 2.5}
    with pytest.raises(ValueError, match="--resources"):
        sweep._amounts(["GPU"])
