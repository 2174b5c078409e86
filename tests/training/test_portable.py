"""Workdirs that are copied or moved, data that changed, and the codes of images."""

import json
import shutil

import numpy as np
import pytest
import runs
import tiny

import deft_jax
from deft_jax import data
from deft_jax.evaluation import figures, scores
from deft_jax.reporting import page as reporting_page
from deft_jax.studies import scoring
from deft_jax.training import session
from deft_jax.training.metrics_log import read_records

pytestmark = pytest.mark.usefixtures("shared_programs")


@pytest.fixture(scope="module")
def archive_run(shared_programs, tmp_path_factory):
    """A finished run on an archive with labels, as (folder, workdir)."""
    folder = tmp_path_factory.mktemp("home")
    path = runs.archive(folder / "set.npz", factors=runs.RNG.integers(0, 3, (40, 2)))
    session.run(runs.archive_config(path), folder / "run")
    return folder, folder / "run"


# --- workdirs that are copied or moved


def test_copied_workdir_encodes_decodes_and_reports_without_the_images(archive_run, tmp_path):
    _, workdir = archive_run
    before = deft_jax.load(workdir)
    codes = before.encode(runs.IMAGES[:5])
    moved = tmp_path / "elsewhere"
    shutil.copytree(workdir, moved)
    config = json.loads((moved / "config.json").read_text())
    config["data"]["path"] = str(tmp_path / "gone.npz")
    (moved / "config.json").write_text(json.dumps(config))
    model = deft_jax.load(moved)
    for here, there in zip(model.encode(runs.IMAGES[:5]), codes, strict=True):
        np.testing.assert_array_equal(here, there)
    assert model.decode(codes.mean).shape == (5, 16, 16, 3)
    assert model.description.ground_truth_names == before.source.ground_truth_names
    with pytest.raises(ValueError, match=r"cannot be opened.*gone\.npz"):
        model.encode_factors(np.zeros((1, 1), int))
    page = reporting_page.report([moved], tmp_path / "page.html").read_text()
    assert "that the run has kept" in page
    assert "&amp;#x27;" not in page, "escaped twice"


def test_paths_of_a_run_are_absolute(tmp_path, monkeypatch):
    runs.archive(tmp_path / "set.npz")
    monkeypatch.chdir(tmp_path)
    session.run(runs.archive_config("set.npz"), "run")
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert saved["data"]["path"] == str(tmp_path / "set.npz")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert len(deft_jax.load("../run").encode_factors(np.arange(40)[:, None]).mean) == 40


def test_run_of_an_earlier_version_with_a_relative_path_resumes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs.archive(tmp_path / "set.npz")
    config = runs.archive_config("set.npz")
    session.run(config, "run")
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    saved["data"]["path"] = "set.npz"
    (tmp_path / "run" / "config.json").write_text(json.dumps(saved))
    for name in ("source.json", "sample.npz"):
        (tmp_path / "run" / name).unlink()
    assert session.run(config, "run")["step"] == 4


def test_home_folder_is_expanded_and_buckets_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    runs.archive(tmp_path / "set.npz")
    session.run(runs.archive_config("~/set.npz"), "~/run")
    assert (tmp_path / "run" / "results.json").exists()
    assert deft_jax.load("~/run").step == 4
    monkeypatch.chdir(tmp_path)
    for start in (lambda: session.run(runs.archive_config("~/set.npz"), "az://bucket/run"), lambda: deft_jax.load("hdfs://b/run")):
        with pytest.raises(ValueError, match="--workdir must be a path"):
            start()
    assert not list(tmp_path.glob("gs*")) + list(tmp_path.glob("~"))


# --- data that changed


def test_changed_images_are_refused_and_moved_ones_are_not(archive_run, tmp_path):
    folder, workdir = archive_run
    shutil.copytree(workdir, tmp_path / "run")
    with np.load(folder / "set.npz") as archive:
        arrays = dict(archive)
    config = runs.archive_config(runs.archive(tmp_path / "moved.npz", arrays["images"], factors=arrays["factors"]))
    session.run(config, tmp_path / "run")  # the same images elsewhere
    other = arrays["images"].copy()
    other[7, 3, 3, 0] ^= 1
    for changed in (other, arrays["images"][:-1]):
        rows = len(changed)
        config = runs.archive_config(runs.archive(tmp_path / "changed.npz", changed, factors=arrays["factors"][:rows]))
        before = runs.parameters(tmp_path / "run")
        with pytest.raises(ValueError, match="choose another workdir"):
            session.run(config, tmp_path / "run")
        assert runs.parameters(tmp_path / "run") == before


# --- entries of results.json stay


def test_finished_run_keeps_the_evaluation(archive_run, tmp_path):
    _, workdir = archive_run
    shutil.copytree(workdir, tmp_path / "run")
    config = json.loads((workdir / "config.json").read_text())
    scoring.evaluate(tmp_path / "run", ["mig"], num_samples=40, variants=("mean",))
    scored = (tmp_path / "run" / "results.json").read_text()
    assert "evaluation" in json.loads(scored)
    session.run(config, tmp_path / "run")
    assert (tmp_path / "run" / "results.json").read_text() == scored


def test_run_of_several_seeds_keeps_other_entries(tmp_path):
    config = tiny.config(num_seeds=2, total_steps=4, stages=runs.ONE_STAGE)
    session.run(config, tmp_path)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"note": "mine"}))
    session.run(config, tmp_path)
    assert json.loads(path.read_text())["note"] == "mine"


# --- runs that nothing beside the training ends


@pytest.mark.parametrize("name", ["figures", "score", "history_figures"])
def test_failing_figure_or_score_does_not_end_the_training(whole, tmp_path, monkeypatch, capsys, name):
    def fails(*args, **kwargs):
        raise RuntimeError("no such luck")

    monkeypatch.setattr(scores if name == "score" else figures, name, fails)
    session.run(tiny.config(), tmp_path / "run")
    assert "no such luck" in capsys.readouterr().err
    assert runs.state_of(tmp_path / "run") == runs.state_of(whole[0])


def test_kill_between_checkpoint_and_evaluation_changes_no_record(tmp_path, monkeypatch):
    config = tiny.config(periodic_metrics={"sap": {"every": 3}})
    session.run(config, tmp_path / "plain")
    evaluate_once = session.RunWriter.evaluate

    def killed(record, step, *rest):
        if step == 6:
            raise KeyboardInterrupt
        return evaluate_once(record, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(session.RunWriter, "evaluate", killed)
        with pytest.raises(KeyboardInterrupt):
            session.run(config, tmp_path / "run")
    session.run(config, tmp_path / "run")

    assert runs.records(tmp_path / "run") == runs.records(tmp_path / "plain")
    assert runs.parameters(tmp_path / "run") == runs.parameters(tmp_path / "plain")


def test_last_step_is_saved_before_the_last_figures(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(session.RunWriter, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            session.run(tiny.config(), tmp_path / "run")
    assert deft_jax.load(tmp_path / "run").step == 8
    assert session.run(tiny.config(), tmp_path / "run")["step"] == 8


# --- codes of images, images of codes


def test_bytes_are_scaled_and_other_values_out_of_range_are_refused(archive_run, whole):
    model = deft_jax.load(archive_run[1])
    exact = model.encode(runs.IMAGES[:3].astype(np.float32) / 255).mean
    np.testing.assert_allclose(model.encode(runs.IMAGES[:3]).mean, exact, atol=1e-6)
    black = model.encode(np.zeros((2, 16, 16, 3), bool)).mean
    np.testing.assert_allclose(black, model.encode(np.zeros((2, 16, 16, 3))).mean, atol=1e-6)
    assert model.encode(runs.IMAGES[:0]).mean.shape == (0, 4)
    nan = np.full((1, 16, 16, 3), np.nan)
    one = runs.IMAGES[:1]
    for wrong in (one.astype(np.float32), nan, -nan, one.astype(int), one - 1.5, one[0]):
        with pytest.raises(ValueError, match=r"^images must be"):
            model.encode(wrong)

    squares = deft_jax.load(whole[0])
    white = np.asarray(squares.source.render(squares.source.arrays, np.array([[1, 2, 3]], np.int32), None))
    expected = squares.encode(white).mean
    np.testing.assert_array_equal(squares.encode(white.astype(bool)).mean, expected)
    for same in (white.astype(np.uint8), (255 * white).astype(np.uint8)):  # bytes of 0 and 1, and of 0 and 255
        np.testing.assert_allclose(squares.encode(same).mean, expected, atol=1e-6)


def test_factors_out_of_range_are_refused_by_name(archive_run, whole):
    model = deft_jax.load(whole[0])
    fine = model.encode_factors(np.array([[1, 3, 0]])).mean
    np.testing.assert_array_equal(model.encode_factors([[1.0, 3.0, 0.0]]).mean, fine)
    assert model.encode_factors(np.zeros((0, 3), int)).mean.shape == (0, 4)
    for wrong, name in (([[2, 0, 0]], "size"), ([[0, -1, 0]], "posX"), ([[0, 0, 4]], "posY")):
        with pytest.raises(ValueError, match=f"^{name} must be from 0"):
            model.encode_factors(wrong)
    for wrong in ([[0, 0.5, 0]], [[0, np.nan, 0]], [[True, False, True]], [["a", "b", "c"]]):
        with pytest.raises(ValueError, match="whole numbers"):
            model.encode_factors(wrong)
    with pytest.raises(ValueError, match="list of images"):
        deft_jax.load(archive_run[1]).encode_factors(np.zeros((5, 2), int))
    for wrong in ([[np.inf] * 4], [["a"] * 4], np.zeros((2, 3))):
        with pytest.raises(ValueError, match=r"^codes must be"):
            model.decode(wrong)


def test_remarks_of_a_data_set_are_printed_and_saved(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(data.SOURCES, "remarkable", "runs:squares_with_remarks")
    session.run(tiny.config(data={"name": "remarkable"}), tmp_path / "run")
    assert "2 files left out" in capsys.readouterr().err
    assert deft_jax.load(tmp_path / "run").description.remarks == ("2 files left out",)


def test_continuous_labels_are_trained_logged_and_scored(tmp_path):
    factors = np.stack([runs.RNG.uniform(size=60), np.arange(60) % 3], axis=1)
    images = runs.random_images(60, 1)
    path = runs.archive(tmp_path / "set.npz", images, factors=factors)
    config = runs.archive_config(path, periodic_metrics={"sap": {"every": 2}})
    results = session.run(config, tmp_path / "run")
    assert np.isfinite(results["mig"])
    assert deft_jax.load(tmp_path / "run").description.ground_truth_continuous == (True, False)
    assert any(record["kind"] == "score" for record in read_records(tmp_path / "run" / "metrics.jsonl"))
    evaluation = scoring.evaluate(tmp_path / "run", ["mig", "sap"], num_samples=60, variants=("mean",))
    assert set(evaluation["scores"]["mean"]) == {"mig", "sap"}
    assert "that the run has kept" not in reporting_page.report([tmp_path / "run"], tmp_path / "page.html").read_text()
