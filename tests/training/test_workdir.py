"""A workdir holds everything there is to know of one run, and another run or an invalid configuration is refused."""

import json
import os
import shutil

import jax
import pytest
import runs
import tiny

import deft_jax
from deft_jax import data
from deft_jax.runtime.locks import WorkdirLock
from deft_jax.training import session
from deft_jax.training.config import parse_training
from deft_jax.training.workdirs import exclusive_workdirs


def test_workdir_holds_configuration_records_events_checkpoints_figures_and_results(trained_once):
    files = {"config.json", "source.json", "sample.npz", "metrics.jsonl", "results.json"}
    assert runs.names(trained_once) == files | {"tensorboard", "checkpoints", "figures"}
    assert json.loads((trained_once / "config.json").read_text())["stages"]["betas"] == [8.0, 2.0]
    assert list((trained_once / "tensorboard").glob("events.out.tfevents.*"))
    figures = {path.name: path.read_bytes() for path in (trained_once / "figures").iterdir()}
    drawn = ("traversals", "reconstructions", "nmi")
    assert set(figures) == {
        *(f"{name}{suffix}.png" for name in drawn for suffix in ("", "_stage_0", "_stage_1")),
        *(f"{name}.png" for name in ("nmi1", "nmi2", "kl", "ledger")),
    }
    for content in figures.values():
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        assert content.endswith(b"IEND\xaeB`\x82")


@pytest.mark.parametrize(("changes", "field"), [
    ({"seed": 1}, "seed is 0 there and 1 here"),
    ({"model": {"width": 3}}, "model.width is 2 there and 3 here"),
    ({"optimizer": {"gamma": 0.5}}, "optimizer.gamma is 0.1 there and 0.5 here"),
])
def test_workdir_of_another_configuration_is_refused_and_not_changed(trained_once, changes, field):
    before = runs.times(trained_once)
    with pytest.raises(ValueError, match=field):
        session.run(tiny.config(**changes), trained_once)
    assert runs.times(trained_once) == before


def test_workdir_in_use_is_refused_and_not_changed_and_can_be_read(trained_once, tmp_path):
    workdir = shutil.copytree(trained_once, tmp_path / "run")
    lock = WorkdirLock(workdir)
    before = runs.times(workdir)
    with pytest.raises(ValueError, match=rf"run is in use by process {os.getpid()} on "):
        session.run(tiny.config(), workdir)
    assert deft_jax.load(workdir).step == 8
    assert runs.times(workdir) == before
    lock.release()
    session.run(tiny.config(), workdir, jax.devices()[:1])
    assert runs.names(workdir) == runs.names(trained_once)


def test_workdirs_of_several_seeds_are_locked_each_and_released_at_a_refusal(tmp_path):
    config = parse_training(tiny.config())
    source = data.get("squares")
    workdirs = {tmp_path / "run": config, tmp_path / "run" / "seed_3": config.with_seed(3)}
    with exclusive_workdirs(workdirs, source), pytest.raises(ValueError, match="seed_3 is in use by process"):
        WorkdirLock(tmp_path / "run" / "seed_3")
    lock = WorkdirLock(tmp_path / "run" / "seed_3")
    with pytest.raises(ValueError, match="seed_3 is in use"), exclusive_workdirs(workdirs, source):
        pass
    lock.release()
    WorkdirLock(tmp_path / "run").release()


def test_damaged_results_are_refused_before_the_first_step(tmp_path):
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(ValueError, match=r"cannot read .*results\.json"):
        session.run(tiny.config(), tmp_path)
    assert runs.names(tmp_path) == {"results.json"}


def periodic(name, **options):
    return {"periodic_metrics": {name: {"every": 4} | options}}


@pytest.mark.parametrize(("name", "options"), [
    ("sap", {"num_train": 63}),
    ("sap", {"continuous": [True, False, False]}),
    ("factor_vae", {"num_train": 100_000, "batch_size": 1000}),
    ("infomec", {"estimator": "knn", "num_neighbors": 60, "continuous": [True] * 3}),
    ("mig", {"num_bins": 100}),
    ("gaussian_total_correlation", {}),
])
def test_valid_options_of_a_metric_are_accepted(name, options):
    parsed = parse_training(tiny.config(**periodic(name, **options)))
    assert set(parsed.periodic_metrics[name].options) == set(options)
