"""A study does every run once, whoever works on it and however often it is stopped, and tells what came out."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tiny

from deft_jax.runtime import signals
from deft_jax.studies import lease, runner, study, tables
from deft_jax.training import session

SHARED = {"metrics": ("mig", "gaussian_total_correlation"), "num_samples": 64}


def described(runs=None, seeds=(0,), scale="full", scales=None, **changes):
    runs = {"squares/beta_vae": tiny.config(total_steps=4, stages=ONE)} if runs is None else runs
    return {"runs": runs, "seeds": seeds, "scale": scale, "scales": scales or {"full": {}}} | SHARED | changes


ONE = {"rule": "steps", "betas": (4.0,), "steps": 4}


# ---- what is to be done ----


def test_cells_are_runs_times_seeds():
    made = study.expand_runs(described({"a/x": tiny.config(), "a/y": tiny.config(batch_size=4)}, seeds=(0, 7)))
    assert list(made) == ["a/x/seed_0", "a/x/seed_7", "a/y/seed_0", "a/y/seed_7"]
    assert made["a/x/seed_7"] == tiny.config(seed=7)
    assert made["a/y/seed_0"] == tiny.config(batch_size=4)


def test_a_scale_sets_multiplies_and_leaves_out():
    scales = {
        "small": {
            "total_steps": 6, "stages/steps": "*0.5", "model/width": "*2", "optimizer/learning_rate": "*0.1",
            "objective/period?": 3, "batch_size": "*0.001",
        }
    }  # fmt: skip
    runs = {"one": tiny.config(stages={"rule": "steps", "betas": (8.0, 2.0), "steps": [4, 6]})}
    runs["two"] = tiny.config(objective={"name": "cascade_vae_c", "period": 9})
    made = study.expand_runs(described(runs, scale="small", scales=scales))
    one, two = made["one/seed_0"], made["two/seed_0"]
    assert (one["total_steps"], one["stages"]["steps"], one["model"]["width"]) == (6, [2, 3], 4)
    assert one["optimizer"]["learning_rate"] == pytest.approx(1e-3)
    assert one["batch_size"] == 1
    assert "period" not in one["objective"]
    assert two["objective"]["period"] == 3
    assert runs["one"]["total_steps"] == 8  # the study itself stays as it is


def test_a_factor_leaves_what_is_not_set_where_it_may_be_missing():
    made = study.expand_runs(described(runs={"one": {"a": None}}, scales={"full": {"a?": "*0.5"}}))
    assert made["one/seed_0"]["a"] is None
    with pytest.raises(ValueError, match=r"sets 'a' to '\*0.5' of None, which is no number"):
        study.expand_runs(described(runs={"one": {"a": None}}, scales={"full": {"a": "*0.5"}}))


def test_fields_set_for_all_runs_have_the_last_word():
    runs = {"one": tiny.config(), "two": tiny.config(batch_size=4, objective={"name": "cascade_vae_c", "period": 9})}
    given = ("model.width=5", "batch_size=*2", "objective.period?=3", "optimizer.decay=cosine", "model.groups=(3, 1)")
    made = study.expand_runs(described(runs, scales={"full": {"model/width": 3}}, set=given))
    one, two = made["one/seed_0"], made["two/seed_0"]
    assert (one["batch_size"], two["batch_size"]) == (16, 8)
    assert "period" not in one["objective"]
    assert two["objective"]["period"] == 3
    for run in (one, two):
        assert (run["model"]["width"], run["optimizer"]["decay"], run["model"]["groups"]) == (5, "cosine", (3, 1))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"scale": "huge"}, "unknown scale 'huge'; known: full"),
        ({"seeds": ()}, "at least one run and one seed"),
        ({"seeds": (1, 1)}, "each seed once"),
        ({"runs": {}}, "at least one run"),
        ({"runs": {"a": tiny.config(num_seeds=2)}}, "the run 'a' sets num_seeds; a study has its seeds in `seeds`"),
        ({"scales": {"full": {"model/depth": 3}}}, "sets 'model/depth', which the run 'squares/b"),
        ({"scales": {"full": {"model/width": "*x"}}}, "which is no number"),
        ({"set": ("model.depth=3",)}, "`set` has 'model.depth', which the run 'squares/beta_vae' does not have"),
        ({"set": ("model.width",)}, "`set` lists fields as 'section.name=value', got 'model.width'"),
        ({"set": ("model.width=*x",)}, "`set` has 'model.width' to '.x' of 2, which is no number"),
        ({"set": ("num_seeds=2",)}, "`set` has 'num_seeds'; a study has its seeds in `seeds`"),
        ({"set": ("num_seeds?=2",)}, "a study has its seeds in `seeds`"),
        ({"metrics": ("mgi",)}, "unknown metric 'mgi'"),
        ({"metrics": ("udr",)}, "compares several runs"),
        ({"metrics": {"mig": {"bins": 3}}}, "metrics.mig has no field 'bins'"),
        ({"pack": 0}, "pack must be at least 1"),
        ({"runs": {"a": tiny.config(objective={"name": "gan"})}}, "a: unknown objective 'gan'"),
        ({"runs": {"a": tiny.config(data={"name": "listed_squares", "labelled": False})}}, "a: the metric 'mig' needs"),
    ],
)
def test_a_study_that_does_not_fit_is_refused_before_anything_is_written(changes, told, tmp_path):
    with pytest.raises(ValueError, match=told):
        runner.run(described() | changes, tmp_path / "study", jobs=1)
    assert not (tmp_path / "study").exists()


def test_what_a_study_leaves_open_comes_from_its_scale():
    scales = {"small": {"study/seeds": (3, 4), "study/metrics": {"mig": {"num_bins": 5}}, "total_steps": 2}}
    left_open = described(seeds=None, metrics=None, scale="small", scales=scales)
    made = study.resolve_scale(left_open)
    assert made["seeds"] == (3, 4)
    assert study.metric_options(made) == {"mig": {"num_bins": 5}}
    assert {run["total_steps"] for run in study.expand_runs(left_open).values()} == {2}
    own = study.resolve_scale(described(seeds=(9,), metrics=None, scale="small", scales=scales))
    assert own["seeds"] == (9,)  # what is told outright holds
    assert study.resolve_scale(made) == made


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"only": ("squares/gan",)}, "only names 'squares/gan', which is no run of the study; it has squares/beta_vae"),
        ({"seeds": None}, "neither the study nor its scale 'full' sets seeds"),
        ({"scales": {"full": {"study/runs": {}}}}, "of the study itself it may set seeds, metrics, num_samples"),
        ({"sedes": (1,)}, "the study has no field 'sedes'; it has runs, seeds"),
    ],
)
def test_a_study_that_is_not_settled_is_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        study.expand_runs(described() | changes)


def test_part_of_a_study():
    runs = {"a/x": tiny.config(), "a/y": tiny.config(), "b/x": tiny.config()}
    assert list(study.expand_runs(described(runs, only=("a/y", "b/x")))) == ["a/y/seed_0", "b/x/seed_0"]


def test_packs_hold_consecutive_seeds_of_one_run():
    todo = study.expand_runs(described({"a/x": tiny.config(), "a/y": tiny.config()}, seeds=(0, 1, 2, 5, 6)))
    found = runner._packs({"pack": 2}, todo)
    numbers = [[int(name[-1]) for name in names] for names in found]
    assert numbers == [[0, 1], [2], [5, 6]] * 2
    assert {name.rpartition("/")[0] for name in found[0]} == {"a/x"}
    assert [len(names) for names in runner._packs({}, todo)] == [1] * 10  # on a CPU, unless told


def test_missing_fields_are_named():
    with pytest.raises(ValueError, match="the study lacks seeds, scales; it needs runs"):
        study.expand_runs({name: value for name, value in described().items() if name not in ("seeds", "scales")})


# ---- who does it ----


def test_a_claim_is_one_s_own_until_it_is_given_back(tmp_path):
    first, second = lease.Lease(tmp_path), lease.Lease(tmp_path)
    assert first.take()
    assert not second.take()
    first.release()
    assert second.take()
    second.release()
    assert list(tmp_path.iterdir()) == []


def test_a_claim_that_nobody_keeps_alive_is_taken_over_by_one(tmp_path):
    dead = lease.Lease(tmp_path, heartbeat=1e6)
    assert dead.take()
    long_ago = time.time() - 1000
    os.utime(tmp_path / "claim.json", (long_ago, long_ago))
    heirs = [lease.Lease(tmp_path) for _ in range(3)]
    assert [heir.take() for heir in heirs] == [True, False, False]
    heirs[0].release()


def test_a_claim_gives_signs_of_life(tmp_path):
    claim = lease.Lease(tmp_path, heartbeat=0.01)
    assert claim.take()
    os.utime(tmp_path / "claim.json", (0, 0))
    deadline = time.monotonic() + 300
    while (tmp_path / "claim.json").stat().st_mtime == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (tmp_path / "claim.json").stat().st_mtime > 0
    claim.release()


# ---- what is done ----


def work(config, workdir):
    """A worker's part in this process: the lines it says."""
    lines = []
    runner.work(json.loads(json.dumps(config)), workdir, lines.append)
    return lines


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A study of two objectives and two seeds; what its worker said, and its folder."""
    workdir = tmp_path_factory.mktemp("study")
    runs = {
        "squares/beta_vae": tiny.config(total_steps=4, stages=ONE),
        "squares/diverges": tiny.config(total_steps=4, stages=ONE, optimizer={"learning_rate": 1e30}),
    }
    config = described(runs, seeds=(0, 1))
    return config, workdir, work(config, workdir)


def test_every_run_is_trained_and_scored_as_alone(done, tmp_path):
    config, workdir, lines = done
    assert len(lines) == 4
    cell = json.loads((workdir / "squares/beta_vae/seed_1/cell.json").read_text())
    alone = session.run(tiny.config(total_steps=4, stages=ONE, seed=1), tmp_path)
    held = json.loads((workdir / "squares/beta_vae/seed_1/run/results.json").read_text())
    assert held["mig"] == alone["mig"]
    assert cell["step"] == 4
    assert set(cell["scores"]) == set(config["metrics"])
    assert cell["scores"]["mig"]["mig"] == held["evaluation"]["scores"]["mean"]["mig"]["mig"]
    assert cell["seconds"]["training"] > 0
    assert "step 4/4" in (workdir / "squares/beta_vae/seed_1/log.txt").read_text()


def test_seeds_in_one_program_come_out_as_alone(done, tmp_path):
    config, alone, _ = done
    lines = work(config | {"pack": 2}, tmp_path)
    assert len(lines) == 4
    for name in study.expand_runs(config):
        held, wanted = (json.loads((folder / name / "cell.json").read_text()) for folder in (tmp_path, alone))
        assert ("diverged" in held) == ("diverged" in wanted)
        for metric, numbers in wanted.get("scores", {}).items():
            assert held["scores"][metric] == pytest.approx(numbers, abs=1e-3)
    assert "with squares/beta_vae/seed_0" in (tmp_path / "squares/beta_vae/seed_1/log.txt").read_text()
    assert work(config, tmp_path) == []  # finished, whoever asks


def test_only_seeds_that_stand_at_one_step_go_on_together(tmp_path, monkeypatch):
    config = described(seeds=(0, 1, 2, 3), pack=4)
    run = study.expand_runs(config)["squares/beta_vae/seed_1"]
    session.run(run, tmp_path / "squares/beta_vae/seed_1/run")  # trained, but not scored
    together = []
    train = runner._train
    monkeypatch.setattr(runner, "_train", lambda runs, workdir: together.append(list(runs)) or train(runs, workdir))
    assert len(work(config, tmp_path)) == 4
    assert [[int(name[-1]) for name in names] for names in together] == [[0, 2, 3], [1]]


def test_a_cell_holds_single_numbers_and_the_means_of_nmi_over_factors():
    first = np.array([0.5, 0.7, 0.9])
    found = {"nmi": np.ones((2, 3)), "nmi1": first, "nmi2": np.zeros(3), "nmi1_latent": np.arange(3)}
    assert runner._numbers(found) == pytest.approx({"nmi1": 0.7, "nmi2": 0.0})
    assert runner._numbers({"mig": np.float32(0.5), "mig_per_factor": np.ones(3)}) == {"mig": 0.5}


def test_a_run_that_diverges_is_said_to_and_stops_no_other(done):
    _, workdir, lines = done
    assert sum("diverged" in line for line in lines) == 2
    assert "not finite" in json.loads((workdir / "squares/diverges/seed_0/cell.json").read_text())["diverged"]


def test_what_is_finished_is_not_done_again(done):
    config, workdir, _ = done
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("cell.json")}
    assert work(config, workdir) == []
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("cell.json")} == before


def test_a_study_grows_by_seeds_and_scales_but_not_into_another(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(runner, "_run_workers", lambda config, workdir, jobs, total: work(config, workdir))
    run = {"squares/beta_vae": tiny.config(total_steps=4, stages=ONE)}
    runner.run(described(run), tmp_path)
    grown = described(run, seeds=(0, 1), scales={"full": {}, "small": {"total_steps": 2}})
    assert runner.run(grown, tmp_path)["seeds"] == [0, 1]
    assert "2 runs, 1 finished" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"scales\.full\.total_steps is None there and 3 here"):
        runner.run(grown | {"scales": {"full": {"total_steps": 3}}}, tmp_path)


def test_a_study_grows_by_metrics_but_does_not_score_one_in_another_way(monkeypatch, tmp_path):
    monkeypatch.setattr(runner, "_run_workers", lambda config, workdir, jobs, total: work(config, workdir))
    run = {"squares/beta_vae": tiny.config(total_steps=4, stages=ONE)}
    runner.run(described(run, metrics={"mig": {"num_bins": 5}}), tmp_path)
    cell = tmp_path / "squares/beta_vae/seed_0/cell.json"
    first = json.loads(cell.read_text())["scores"]
    more = described(run, metrics={"nmi": {}, "mig": {"num_bins": 5}})
    runner.run(more, tmp_path)
    grown = json.loads(cell.read_text())["scores"]
    assert set(grown) == {"mig", "nmi"}
    assert grown["mig"] == first["mig"]
    with pytest.raises(ValueError, match=r"metrics\.mig\.num_bins is 5 there and 6 here"):
        runner.run(described(run, metrics={"mig": {"num_bins": 6}}), tmp_path)
    assert study.finished(cell.parent, more["metrics"])


def test_what_another_has_claimed_is_left_to_it(done, tmp_path):
    config, _, _ = done
    other = lease.Lease(tmp_path / "squares/beta_vae/seed_0")
    assert other.take()
    only = config | {"runs": {"squares/beta_vae": config["runs"]["squares/beta_vae"]}, "seeds": (0,)}
    assert work(only, tmp_path) == []
    other.release()
    assert len(work(only, tmp_path)) == 1


def test_the_summary_and_the_tables_hold_every_seed(done):
    config, workdir, _ = done
    summary = tables.summarise(config, workdir)
    values = summary["runs"]["squares/beta_vae"]["scores"]["mig"]
    assert set(values) == {"0", "1"}
    assert summary["runs"]["squares/diverges"]["diverged"] == ["0", "1"]
    told = tables.table(summary)
    spread = np.std(list(values.values()), ddof=1)
    assert f"{np.mean(list(values.values())):.3f} ± {spread:.3f}" in told
    assert "2 diverged" in told
    assert f"{values['1']:.3f}" in told


def test_runs_of_several_sets_make_a_table_of_objectives_by_sets():
    entry = {"scores": {"mig": {"0": 0.25}}, "seconds": {"0": 7.4}, "diverged": [], "missing": []}
    nothing = {"scores": {}, "seconds": {}, "diverged": [], "missing": ["0"]}
    runs = {"one/x": entry, "two/x": entry | {"scores": {"mig": {"0": 0.5}}}, "one/y": nothing}
    lines = tables.table({"scale": "full", "seeds": [0], "runs": runs}).splitlines()
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == ["mig", "one", "two"]
    assert [cell.strip() for cell in lines[2].strip("|").split("|")] == ["x", "0.250", "0.500"]
    assert [cell.strip() for cell in lines[3].strip("|").split("|")] == ["y", "-", ""]
    assert "| 7" in lines[7] or " 7 |" in lines[7]


CONFIG = """
import tiny
from ml_collections import ConfigDict

def get_config():
    stages = {{"rule": "steps", "betas": (4.0,), "steps": {steps}}}
    every = {{"every": {steps}}}
    run = tiny.config(data={{"name": "tiny:squares"}}, total_steps={steps}, stages=stages, checkpoints=every,
                      evaluation=every)
    return ConfigDict({{
        "runs": {{"squares/a": run, "squares/b": run}}, "seeds": (0, 1), "metrics": ("mig",), "num_samples": 64,
        "scale": "full", "scales": {{"full": {{}}}},
    }})
"""


def command(config, workdir, *arguments):
    return [sys.executable, "-m", "deft_jax.sweep", "--config", str(config), "--workdir", str(workdir), *arguments]


@pytest.mark.slow
def test_the_command_stopped_by_sigterm_goes_on_where_it_was(tmp_path):
    """Two processes; SIGTERM in the middle of a run; the same command ends it without training a step twice."""
    (tmp_path / "study.py").write_text(CONFIG.format(steps=20_000))
    arguments = command(tmp_path / "study.py", tmp_path / "out", "--jobs", "2")
    started = subprocess.Popen(
        arguments, env=tiny.ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 3000
    records = tmp_path / "out" / "squares" / "a" / "seed_0" / "run" / "metrics.jsonl"
    while not (records.exists() and records.read_text()) and time.monotonic() < deadline:
        time.sleep(0.2)
        assert started.poll() is None, started.stderr.read()
    started.send_signal(signal.SIGTERM)
    _, err = started.communicate(timeout=3000)
    assert started.returncode == 143, err
    assert "the same command goes on" in err
    assert list((tmp_path / "out").rglob("claim.json")) == []
    assert any((tmp_path / "out").rglob("checkpoints/*"))


@pytest.mark.slow
def test_the_command_with_two_processes_finishes_every_run_once(tmp_path):
    (tmp_path / "study.py").write_text(CONFIG.format(steps=3))
    first = subprocess.run(
        command(tmp_path / "study.py", tmp_path / "out", "--jobs", "2"),
        env=tiny.ENVIRONMENT, capture_output=True, text=True, timeout=3000,
    )  # fmt: skip
    assert first.returncode == 0, first.stderr
    assert "4 runs, 0 finished" in first.stdout
    for number in range(1, 5):
        assert first.stdout.count(f"[{number}/4]") <= 2
    said = [line.split("] ")[1].split(":")[0] for line in first.stdout.splitlines() if line.startswith("[")]
    assert sorted(said) == [f"squares/{name}/seed_{seed}" for name in "ab" for seed in (0, 1)]
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| squares/a" in table
    assert "±" in table
    assert json.loads((tmp_path / "out" / "study.json").read_text())["seeds"] == [0, 1]
    again = subprocess.run(
        command(tmp_path / "study.py", tmp_path / "out"), env=tiny.ENVIRONMENT, capture_output=True, text=True,
        timeout=3000,
    )  # fmt: skip
    assert "4 runs, 4 finished" in again.stdout


def test_a_study_that_is_interrupted_in_a_worker_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(signals.Signals, "__enter__", lambda self: setattr(self, "received", 15) or self)
    monkeypatch.setattr(signals.Signals, "__exit__", lambda self, *_: None)
    with pytest.raises(signals.Interrupted):
        work(described(), tmp_path)
