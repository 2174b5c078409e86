"""A study does every run once, however many processes share it and however often it is stopped; its tables."""

import json
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import tiny

from deft_jax.studies import runner, tables, worker
from deft_jax.studies.config import parse_study
from deft_jax.studies.lease import Lease

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
    """The part of one process, here in this process: the lines that it reports."""
    lines = []
    worker.work(parse_study(study), workdir, lines.append)
    return lines


@pytest.fixture(scope="module")
def programs_stay(shared_programs):
    """Runs share their programs: a process of a study drops them after each run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "clear_caches", lambda: None)
        yield


@pytest.fixture(scope="module")
def trained(programs_stay, tmp_path_factory):
    """A finished study of two runs and two seeds: its workdir, and the lines that its process reported."""
    workdir = tmp_path_factory.mktemp("study")
    return workdir, work(STUDY, workdir)


@pytest.fixture
def workdir(trained, tmp_path):
    """A copy of the finished study."""
    return shutil.copytree(trained[0], tmp_path / "study")


def run_json(workdir, seed, name=BETA_VAE):
    return json.loads((workdir / name / f"seed_{seed}" / "run.json").read_text())


def test_every_run_is_trained_and_scored(trained):
    workdir, lines = trained
    assert sorted(line.split(":")[0] for line in lines) == [f"{name}/seed_{seed}" for name in RUNS for seed in (0, 1)]
    summary, directory = run_json(workdir, 1), workdir / BETA_VAE / "seed_1"
    evaluation = json.loads((directory / "run" / "results.json").read_text())["evaluation"]
    assert summary["step"] == evaluation["step"] == 4
    assert summary["scores"] == {"mig": {"mig": evaluation["scores"]["mean"]["mig"]["mig"]}}
    assert summary["seconds"]["training"] > 0
    assert json.loads((directory / "run" / "config.json").read_text())["seed"] == 1
    assert "step 4/4" in (directory / "log.txt").read_text()


def test_a_run_that_diverges_is_reported_and_stops_no_other(trained):
    workdir, lines = trained
    assert sum("diverged" in line for line in lines) == 2
    assert "not finite" in run_json(workdir, 0, DIVERGES)["diverged"]


def test_seeds_at_the_same_step_share_a_program_and_have_the_scores_of_single_runs(trained, tmp_path, monkeypatch):
    shutil.copytree(trained[0] / BETA_VAE / "seed_1/run", tmp_path / BETA_VAE / "seed_1/run")  # trained, not scored
    packs, train = [], worker._train
    monkeypatch.setattr(worker, "_train", lambda runs, workdir: packs.append(list(runs)) or train(runs, workdir))
    assert len(work(SMALLER | {"seeds": (0, 1, 2), "pack": 3}, tmp_path)) == 3
    assert [[int(name[-1]) for name in names] for names in packs] == [[0, 2], [1]]
    for seed in (0, 1):
        scores = run_json(tmp_path, seed)["scores"]["mig"]
        assert scores == pytest.approx(run_json(trained[0], seed)["scores"]["mig"], abs=1e-3)
    assert f"with {BETA_VAE}/seed_0" in (tmp_path / BETA_VAE / "seed_2/log.txt").read_text()


def test_a_run_leased_by_another_process_is_left_to_it(tmp_path):
    lease = Lease(tmp_path / BETA_VAE / "seed_0")
    assert lease.take()
    assert work(SMALLER | {"seeds": (0,)}, tmp_path) == []
    lease.release()


def test_a_study_grows_by_seeds_and_metrics_but_not_into_another(workdir, monkeypatch, capsys):
    monkeypatch.setattr(runner, "_run_processes", lambda study, workdir, *_: worker.work(study, workdir, print))
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
    summary = tables.summarise(parse_study(STUDY), trained[0])
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


CONFIG = """
import tiny
from ml_collections import ConfigDict

def run(steps):
    every = {"every": steps}
    return tiny.config(data={"name": "tiny:squares"}, total_steps=steps, checkpoints=every, evaluation=every,
                       stages={"rule": "steps", "betas": (4.0,), "steps": steps})

def get_config():
    tiny.draw_nothing()
    return ConfigDict({"runs": {"long": run(20_000), "short": run(3)}, "seeds": (0, 1), "metrics": ("mig",),
                       "num_samples": 64, "only": ("long", "short")})
"""


@pytest.mark.slow
def test_two_processes_stop_at_sigterm_and_finish_every_run_once(tmp_path):
    (tmp_path / "study.py").write_text(CONFIG)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "deft_jax.sweep", f"--config={tmp_path / 'study.py'}", f"--workdir={out}",
               "--jobs=2"]  # fmt: skip
    pipes = {"env": tiny.ENVIRONMENT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, **pipes)
    deadline, records = time.monotonic() + 3000, out / "long/seed_0/run/metrics.jsonl"
    while not (records.exists() and records.read_text()) and time.monotonic() < deadline:
        time.sleep(0.2)
        assert process.poll() is None, process.stderr.read()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=3000)
    assert process.returncode == 143, err
    assert "the same command goes on" in err
    assert list(out.rglob("lease.json")) == []
    assert any(out.rglob("checkpoints/*"))

    rest = subprocess.run([*command, "--config.only=('short',)"], timeout=3000, **pipes)
    assert rest.returncode == 0, rest.stderr
    assert "2 runs, 0 finished" in rest.stdout
    reported = [line.split("] ")[1].split(":")[0] for line in rest.stdout.splitlines() if line.startswith("[")]
    assert sorted(reported) == ["short/seed_0", "short/seed_1"]
    assert "±" in (out / "table.md").read_text()
    assert list(json.loads((out / "config.json").read_text())["runs"]) == ["long", "short"]
