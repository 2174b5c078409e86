"""The command scores several workdirs side by side, and folders of seeds or studies run by run."""

import json
import os
import shutil

import jax
import pytest

from deft_jax import evaluate
from deft_jax.runtime import parallel, paths
from deft_jax.studies import scoring
from deft_jax.studies.run_folders import runs_of

FEW = ("--num_samples", "300", "--variants", "mean")


def scores_of(directory):
    return json.loads((directory / "results.json").read_text())["evaluation"]["scores"]


def assert_close(words, others, atol):
    """Equal words, and numbers equal to a tolerance."""
    for word, other in zip(words, others, strict=True):
        try:
            assert float(word) == pytest.approx(float(other), abs=atol, rel=1e-3, nan_ok=True)
        except ValueError:
            assert str(word).strip(",;") == str(other).strip(",;")


def test_workdirs_scored_side_by_side_have_the_scores_of_one_after_the_other(workdir, tmp_path, capsys):
    """A run that cannot be scored is named, and the others are scored all the same."""
    runs = [tmp_path / name for name in ("first", "second")]
    for directory in runs:
        shutil.copytree(workdir, directory)
        config = json.loads((directory / "config.json").read_text())
        config["data"]["name"] = "tiny:squares"  # which processes find that do not import this file
        (directory / "config.json").write_text(json.dumps(config))
    shutil.rmtree(runs[1] / "checkpoints" / "8")  # another step, so that the two differ
    torn = tmp_path / "torn"
    torn.mkdir()
    (torn / "config.json").write_text('{"seed":')
    arguments = ["--workdir", *map(str, (runs[0], torn, runs[1])), "--metrics", "mig,sap,udr", *FEW]

    def run(jobs):
        with pytest.raises(SystemExit) as caught:
            evaluate.main([*arguments, "--jobs", jobs])
        assert caught.value.code == 2
        printed = capsys.readouterr()
        [line] = [line for line in printed.err.splitlines() if line.startswith("deft_jax.evaluate: ")]
        assert str(torn) in line
        return printed.out, [scores_of(directory) for directory in runs]

    text, scores = run("1")
    [row] = [line.split() for line in text.splitlines() if line.startswith("mig ")]
    assert row == ["mig", *(f"{score['mean']['mig']['mig']:.3f}" for score in scores)]
    assert "udr, lasso: first " in text
    assert scores[0] != scores[1]
    for directory in runs:
        (directory / "results.json").write_text("{}")
    parallel_text, parallel_scores = run("3")
    # On other cores, programs may add in another order, and a code at the edge of a bin may change sides.
    assert_close(parallel_text.split(), text.split(), atol=0.02)
    jax.tree.map(lambda a, b: assert_close([a], [b], atol=0.02), parallel_scores, scores)


def test_a_process_that_dies_is_an_error_of_its_item_only():
    died, = parallel.map_in_processes(os._exit, [3], 1)
    assert isinstance(died, ChildProcessError)
    assert list(parallel.map_in_processes(abs, [-3, 4], 2)) == [3, 4]


def test_a_process_names_copies_as_its_parent_does(tmp_path):
    paths.register_copy(tmp_path, "gs://bucket/run")
    assert list(parallel.map_in_processes(paths.shown, [tmp_path / "results.json"], 1)) == ["gs://bucket/run/results.json"]


def test_udr_refuses_runs_on_different_data(workdir, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(workdir, other)
    config = json.loads((other / "config.json").read_text())
    config["data"] = {"name": "dsprites", "storage": "rendered"}
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="the data sets differ: "):
        scoring.compare([workdir, other])


def test_the_folder_of_several_seeds_stands_for_all_of_them(workdir, tmp_path, capsys):
    config = json.loads((workdir / "config.json").read_text())
    for seed in (0, 1, 10):
        shutil.copytree(workdir, tmp_path / f"seed_{seed}")
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_seeds": 3}))
    evaluate.main(["--workdir", str(tmp_path), "--metrics", "mig,udr", *FEW, "--jobs", "1"])
    out = capsys.readouterr().out
    assert out.splitlines()[3].split() == ["seed_0", "mean", "seed_1", "mean", "seed_10", "mean"]
    assert "udr, spearman: seed_0 " in out
    for seed in (0, 1, 10):
        assert scores_of(tmp_path / f"seed_{seed}")["mean"]["mig"]
    with pytest.raises(ValueError, match="holds 3 runs; give the workdir of one"):
        scoring.evaluate(tmp_path, ("mig",))


def test_the_folder_of_a_study_stands_for_its_runs(tmp_path):
    runs = [tmp_path / name / "run" for name in ("a/seed_0", "a/seed_10", "b/seed_0")]
    for run in runs:
        run.mkdir(parents=True)
        (run / "config.json").write_text("{}")
    (tmp_path / "config.json").write_text('{"runs": {}}')
    assert runs_of(tmp_path) == runs
    assert runs_of(runs[0]) == runs[:1]


def test_a_folder_of_seeds_without_any_is_refused(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"stages": {}, "num_seeds": 2}')
    with pytest.raises(SystemExit) as caught:
        evaluate.main(["--workdir", str(tmp_path)])
    assert caught.value.code == 2
    assert "holds no run yet" in capsys.readouterr().err
