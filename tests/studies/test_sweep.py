"""A study trains and scores every run once, and grows; its tables."""

import contextlib
import json
import os
import pathlib
import shutil

import jax
import numpy as np
import pytest
import tiny

from deft_jax.runtime.locks import lock_workdir
from deft_jax.runtime.signals import Signals
from deft_jax.studies import cluster, runner, tables, worker
from deft_jax.studies.config import parse_study

pytestmark = pytest.mark.usefixtures("programs_stay")

STAGES = {"rule": "steps", "betas": (4.0,), "steps": 4}
BETA_VAE, DIVERGES = "squares/beta_vae", "squares/diverges"
RUNS = {
    BETA_VAE: tiny.config(total_steps=4, stages=STAGES),
    DIVERGES: tiny.config(total_steps=4, stages=STAGES, optimizer={"learning_rate": 1e30}),
}
STUDY = {"runs": RUNS, "seeds": (0, 1), "metrics": {"mig": {"num_bins": 5}}, "num_samples": 64}
SMALLER = STUDY | {"runs": {BETA_VAE: RUNS[BETA_VAE]}}


def work(study, workdir):
    """Does a study in this process."""
    study = parse_study(study)
    with Signals() as signals:
        for names in runner.packs(study.expand_runs(), study.pack or 1):
            worker.work(study, workdir, names, signals)


@pytest.fixture(scope="module")
def programs_stay(shared_programs):
    """Runs share their programs: a process of a study drops them after each run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "clear_caches", lambda: None)
        yield


@pytest.fixture(scope="module")
def trained(programs_stay, tmp_path_factory):
    """The workdir of a finished study of two runs and two seeds."""
    workdir = tmp_path_factory.mktemp("study")
    work(STUDY, workdir)
    return workdir


@pytest.fixture
def workdir(trained, tmp_path):
    """A copy of the finished study."""
    return shutil.copytree(trained, tmp_path / "study")


def run_json(workdir, seed, name=BETA_VAE):
    return json.loads((workdir / name / f"seed_{seed}" / "run.json").read_text())


def test_every_run_is_trained_and_scored(trained):
    summary, directory = run_json(trained, 1), trained / BETA_VAE / "seed_1"
    evaluation = json.loads((directory / "run" / "results.json").read_text())["evaluation"]
    assert summary["step"] == evaluation["step"] == 4
    assert summary["scores"] == {"mig": {"mig": evaluation["scores"]["mean"]["mig"]["mig"]}}
    assert summary["seconds"]["training"] > 0
    assert json.loads((directory / "run" / "config.json").read_text())["seed"] == 1
    assert "step 4/4" in (directory / "log.txt").read_text()


def test_a_run_that_diverges_is_finished_and_stops_no_other(trained):
    for seed in (0, 1):
        assert "not finite" in run_json(trained, seed, DIVERGES)["diverged"]


def test_seeds_at_the_same_step_share_a_program_and_have_the_scores_of_single_runs(trained, tmp_path, monkeypatch):
    shutil.copytree(trained / BETA_VAE / "seed_1/run", tmp_path / BETA_VAE / "seed_1/run")  # trained, not scored
    packs, train = [], worker._train
    monkeypatch.setattr(worker, "_train", lambda runs, workdir: packs.append(list(runs)) or train(runs, workdir))
    work(SMALLER | {"seeds": (0, 1, 2), "pack": 3}, tmp_path)
    assert [[int(name[-1]) for name in names] for names in packs] == [[0, 2], [1]]
    for seed in (0, 1):
        scores = run_json(tmp_path, seed)["scores"]["mig"]
        assert scores == pytest.approx(run_json(trained, seed)["scores"]["mig"], abs=1e-3)
    assert f"with {BETA_VAE}/seed_0" in (tmp_path / BETA_VAE / "seed_2/log.txt").read_text()


@pytest.fixture
def in_this_process(monkeypatch):
    """Studies are done in this process instead of on a cluster."""

    def run_packs(client, order, packs, signals, report, **_):
        for names in packs:
            worker.work(parse_study(order[0]), pathlib.Path(order[1]), names, signals)
            for name in names:
                report(name, None)

    monkeypatch.setattr(cluster, "local_client", lambda jobs: contextlib.nullcontext())
    monkeypatch.setattr(cluster, "run_packs", run_packs)


@pytest.mark.usefixtures("in_this_process")
def test_a_study_grows_by_seeds_and_metrics_but_not_into_another(workdir, capsys):
    paths = {path: path.stat().st_mtime_ns for path in workdir.rglob("run.json")}
    runner.run(STUDY, workdir)
    assert "4 runs, 4 finished" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("run.json")} == paths, "finished runs stay as is"
    mig = run_json(workdir, 0)["scores"]["mig"]

    grown = STUDY | {"only": (BETA_VAE,), "seeds": (0, 2), "metrics": {"nmi": {}, "mig": {"num_bins": 5}}}
    assert list(runner.run(grown, workdir)["runs"]) == [BETA_VAE]
    assert "2 runs, 0 finished" in capsys.readouterr().out
    assert set(run_json(workdir, 2)["scores"]) == {"mig", "nmi"}
    assert run_json(workdir, 0)["scores"]["mig"] == mig
    everything = json.loads((workdir / "study.json").read_text())
    assert (everything["seeds"], list(everything["runs"])) == ([0, 1, 2], [BETA_VAE, DIVERGES])
    assert list(json.loads((workdir / "config.json").read_text())["runs"]) == [BETA_VAE, DIVERGES]

    with pytest.raises(ValueError, match=r"metrics\.mig\.num_bins is 5 there and 6 here"):
        runner.run(STUDY | {"metrics": {"mig": {"num_bins": 6}}}, workdir)
    longer = STUDY | {"only": (BETA_VAE,), "set": ("total_steps=8",)}
    with pytest.raises(ValueError, match=r"runs\.squares/beta_vae\.total_steps is 4 there and 8 here"):
        runner.run(longer, workdir)


def test_one_command_at_a_time_runs_a_study(tmp_path):
    with lock_workdir(tmp_path), pytest.raises(ValueError, match=f"process {os.getpid()}"):
        runner.run(STUDY, tmp_path)


def test_options_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match="--jobs"):
        runner.run(STUDY, tmp_path, 2, scheduler="tcp://localhost:1")
    with pytest.raises(ValueError, match="--resources"):
        runner.run(STUDY, tmp_path, resources={"GPU": 1})
    assert list(tmp_path.iterdir()) == []


def test_a_study_goes_on_if_one_of_its_metrics_cannot_be_computed(monkeypatch, tmp_path):
    result = {"scores": {"mean": {"mig": {"mig": 0.5}}}, "refused": {"mean": {"dci": "too few"}}}
    monkeypatch.setattr("deft_jax.studies.scoring.evaluate", lambda *_, **__: result)
    study = parse_study(STUDY | {"metrics": ("mig", "dci")})
    assert worker._scores(study, tmp_path) == {"mig": {"mig": 0.5}, "dci": {}}


def test_a_summary_holds_single_numbers_without_counts_and_the_means_of_nmi_over_factors():
    scores = {"infom": 0.5, "estimator": "knn", "num_distinct_train": 3, "mig_per_factor": np.ones(3),
              "nmi": np.ones((2, 3)), "nmi1": np.array([0.5, 0.7, 0.9]), "nmi1_latent": np.arange(3)}  # fmt: skip
    assert worker.single_numbers(scores) == pytest.approx({"infom": 0.5, "nmi1": 0.7})


def test_the_tables_hold_the_mean_and_every_seed(trained):
    summary = tables.summarise(parse_study(STUDY), trained)
    values = summary["runs"][BETA_VAE]["scores"]["mig"]
    assert set(values) == {"0", "1"}
    assert summary["runs"][DIVERGES]["diverged"] == ["0", "1"]
    text = tables.markdown_tables(summary)
    mean, deviation = np.mean(list(values.values())), np.std(list(values.values()), ddof=1)
    for entry in (f"{mean:.3f} ± {deviation:.3f}", "2 diverged", f"{values['1']:.3f}"):
        assert entry in text


def test_runs_of_several_sets_make_a_table_of_objectives_by_sets():
    entry = {"scores": {"mig": {"0": 0.25}}, "seconds": {"0": 7.4}, "diverged": [], "missing": []}
    missing = {"scores": {}, "seconds": {}, "diverged": [], "missing": ["0"]}
    runs = {"one/x": entry, "two/x": entry | {"scores": {"mig": {"0": 0.5}}}, "one/y": missing}
    text = tables.markdown_tables({"scale": "full", "seeds": [0], "runs": runs})
    rows = [[entry.strip() for entry in line.strip("|").split("|")] for line in text.splitlines()]
    assert [rows[0], *rows[2:4]] == [["mig", "one", "two"], ["x", "0.250", "0.500"], ["y", "-", ""]]
    assert rows[7] == ["x", "7", "7"]
