"""A run leaves home and meets other data: what is kept with it, what is refused, what never ends it."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tiny
from PIL import Image

import deft_jax
from deft_jax import data
from deft_jax.annealing import measure, spectrum
from deft_jax.evaluation import figures, scores
from deft_jax.reporting import page as reporting_page
from deft_jax.runtime.signals import Interrupted
from deft_jax.studies import scoring
from deft_jax.training import session
from deft_jax.training.metrics_log import read_records

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 255, (40, 16, 16, 3), dtype=np.uint8)


def archive(path, images=IMAGES, **factors):
    np.savez(path, images=images, **factors)
    return str(path)


def labels(count=40):
    return np.stack([np.arange(count) % 4, np.arange(count) // 10], axis=1)


def config_of(path, **changes):
    return tiny.config(data={"name": "archive", "path": path}, total_steps=4, stages=ONE_STAGE, **changes)


ONE_STAGE = {"rule": "steps", "betas": (8.0,), "steps": 4}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A finished run on an archive with labels, as (folder, workdir)."""
    folder = tmp_path_factory.mktemp("home")
    path = archive(folder / "set.npz", factors=RNG.integers(0, 3, (40, 2)))
    session.run(config_of(path), folder / "run")
    return folder, folder / "run"


def parameters(workdir):
    return tiny.fingerprint(deft_jax.load(workdir).params)


# --- leaving home


def test_a_copied_workdir_encodes_decodes_and_reports_without_the_images(home, tmp_path):
    folder, workdir = home
    before = deft_jax.load(workdir)
    codes = before.encode(IMAGES[:5])
    moved = tmp_path / "elsewhere"
    shutil.copytree(workdir, moved)
    config = json.loads((moved / "config.json").read_text())
    config["data"]["path"] = str(tmp_path / "gone.npz")
    (moved / "config.json").write_text(json.dumps(config))
    model = deft_jax.load(moved)
    for here, there in zip(model.encode(IMAGES[:5]), codes, strict=True):
        np.testing.assert_array_equal(here, there)
    assert model.decode(codes.mean).shape == (5, 16, 16, 3)
    assert model.description.ground_truth_names == before.source.ground_truth_names
    with pytest.raises(ValueError, match=r"cannot be opened.*gone\.npz"):
        model.encode_factors(np.zeros((1, 1), int))
    page = reporting_page.report([moved], tmp_path / "page.html").read_text()
    assert "that the run has kept" in page
    assert "that the run has kept" not in reporting_page.report([workdir], tmp_path / "page.html").read_text()
    assert folder.exists()


def test_paths_of_a_run_are_absolute(tmp_path, monkeypatch):
    archive(tmp_path / "set.npz")
    monkeypatch.chdir(tmp_path)
    session.run(config_of("set.npz"), "run")
    held = json.loads((tmp_path / "run" / "config.json").read_text())
    assert held["data"]["path"] == str(tmp_path / "set.npz")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert len(deft_jax.load("../run").encode_factors(np.arange(40)[:, None]).mean) == 40


def test_the_home_folder_is_expanded_and_buckets_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    archive(tmp_path / "set.npz")
    session.run(config_of("~/set.npz"), "~/run")
    assert (tmp_path / "run" / "results.json").exists()
    assert deft_jax.load("~/run").step == 4
    monkeypatch.chdir(tmp_path)
    for start in (lambda: session.run(config_of("~/set.npz"), "gs://bucket/run"), lambda: deft_jax.load("s3://b/run")):
        with pytest.raises(ValueError, match="--workdir must be a path"):
            start()
    assert not list(tmp_path.glob("gs*")) + list(tmp_path.glob("~"))


# --- data that changed


def test_changed_images_are_refused_and_moved_ones_are_not(home, tmp_path):
    folder, workdir = home
    shutil.copytree(workdir, tmp_path / "run")
    with np.load(folder / "set.npz") as held:
        arrays = dict(held)
    config = config_of(archive(tmp_path / "moved.npz", arrays["images"], factors=arrays["factors"]))
    session.run(config, tmp_path / "run")  # the same images elsewhere
    other = arrays["images"].copy()
    other[7, 3, 3, 0] ^= 1
    for changed in (other, arrays["images"][:-1]):
        rows = len(changed)
        config = config_of(archive(tmp_path / "changed.npz", changed, factors=arrays["factors"][:rows]))
        before = parameters(tmp_path / "run")
        with pytest.raises(ValueError, match="choose another workdir"):
            session.run(config, tmp_path / "run")
        assert parameters(tmp_path / "run") == before


def test_a_folder_that_has_grown_is_refused(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()

    def add(first, last):
        for number in range(first, last):
            Image.fromarray(IMAGES[number % 40]).save(pictures / f"{number:03}.png")

    add(0, 20)
    config = tiny.config(
        data={"name": "folder", "path": str(pictures), "size": 16}, total_steps=4, stages=ONE_STAGE
    )
    session.run(config, tmp_path / "run")
    add(20, 60)
    with pytest.raises(ValueError, match=r"20 images.*60 now"):
        session.run(config, tmp_path / "run")


# --- nothing of a user's is deleted


def test_a_run_that_has_nothing_to_do_leaves_the_evaluation(home, tmp_path):
    _, workdir = home
    shutil.copytree(workdir, tmp_path / "run")
    config = json.loads((workdir / "config.json").read_text())
    scoring.evaluate(tmp_path / "run", ["mig"], num_samples=40, variants=("mean",))
    scored = (tmp_path / "run" / "results.json").read_text()
    assert "evaluation" in json.loads(scored)
    session.run(config, tmp_path / "run")
    assert (tmp_path / "run" / "results.json").read_text() == scored


def test_a_run_of_several_seeds_leaves_what_others_wrote(tmp_path):
    config = tiny.config(num_seeds=2, total_steps=4, stages=ONE_STAGE)
    session.run(config, tmp_path)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"note": "mine"}))
    session.run(config, tmp_path)
    assert json.loads(path.read_text())["note"] == "mine"


# --- accepted, so carried to the end


@pytest.mark.parametrize("channels", [2, 4])
def test_any_number_of_channels_is_trained_drawn_and_saved(tmp_path, channels):
    images = RNG.integers(0, 255, (40, 16, 16, channels), dtype=np.uint8)
    session.run(config_of(archive(tmp_path / "set.npz", images)), tmp_path / "run")
    assert (tmp_path / "run" / "figures" / "reconstructions.png").exists()


def test_a_label_that_one_image_has_is_left_out_and_named(tmp_path, capsys):
    rare = np.stack([np.arange(60) % 3, np.arange(60) == 59], axis=1).astype(int)
    images = RNG.integers(0, 255, (60, 16, 16, 1), dtype=np.uint8)
    config = config_of(archive(tmp_path / "set.npz", images, factors=rare), evaluation={"num_samples": 20})
    results = session.run(config, tmp_path / "run")
    assert np.isfinite(results["mig"])
    assert "factor_1" in capsys.readouterr().err or results["nmi1"][1] > 0  # left out, unless the one image was drawn


def test_one_image_per_evaluation_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"evaluation\.num_samples must be at least 2"):
        session.run(tiny.config(evaluation={"num_samples": 1}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["figures", "score", "history_figures"])
def test_what_fails_beside_the_training_does_not_end_it(tmp_path, monkeypatch, capsys, name):
    def fails(*args, **kwargs):
        raise RuntimeError("no such luck")

    monkeypatch.setattr(scores if name == "score" else figures, name, fails)
    session.run(tiny.config(), tmp_path / "run")
    assert "no such luck" in capsys.readouterr().err
    plain = tmp_path / "plain"
    monkeypatch.undo()
    session.run(tiny.config(), plain)
    assert parameters(tmp_path / "run") == parameters(plain)


def test_a_kill_between_checkpoint_and_evaluation_changes_no_record(tmp_path, monkeypatch):
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

    def records(workdir):
        timed = ("steps_per_second", "images_per_second")
        return [
            {name: value for name, value in record.items() if name not in timed}
            for record in read_records(workdir / "metrics.jsonl")
        ]

    assert records(tmp_path / "run") == records(tmp_path / "plain")
    assert parameters(tmp_path / "run") == parameters(tmp_path / "plain")


def test_the_last_step_is_saved_before_the_last_figures(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(session.RunWriter, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            session.run(tiny.config(), tmp_path / "run")
    assert deft_jax.load(tmp_path / "run").step == 8
    assert session.run(tiny.config(), tmp_path / "run")["step"] == 8


def test_an_annealing_test_without_a_point_is_refused_first(tmp_path):
    config = dict(annealing_config())
    config["whole"] |= {"total_steps": 4, "evaluation": {"every": 5, "num_samples": 20, "seed": 0}}
    with pytest.raises(ValueError, match=r"whole\.evaluation\.every must be at most"):
        measure.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def annealing_config():
    model = {"latents": 2, "width": 2, "hidden": 8, "decoder_width": 2, "decoder_hidden": 8}
    return {
        "seed": 0,
        "data": {"name": "squares"},
        "instruments": ("spectrum", "whole"),
        "spectrum": {"num_modes": 4, "num_samples": 32, "share": 0.4},
        "trials": {},
        "whole": {
            "beta_max": None, "beta_min": 1.0, "threshold": 0.1, "smooth": 1, "batch_size": 4, "total_steps": 6,
            "model": model, "optimizer": {"learning_rate": 1e-2, "decoder_learning_rate": 1e-2},
            "log_every": 2, "evaluation": {"every": 2, "num_samples": 20, "seed": 0},
            "checkpoints": {"every": 4, "keep": 1},
        },
        "betas": {"source": "spectrum"},
    }  # fmt: skip


def test_an_annealing_test_keeps_what_it_has_measured_when_called_again(tmp_path, monkeypatch):
    found = measure.run(annealing_config(), tmp_path / "run")

    def interrupted(*_):
        raise Interrupted("stopped")

    monkeypatch.setattr(spectrum.SpectrumInstrument, "measure", interrupted)
    with pytest.raises(Interrupted):
        measure.run(annealing_config(), tmp_path / "run")
    held = json.loads((tmp_path / "run" / "freezing.json").read_text())
    assert held["whole"]["points"] == found["whole"]["points"]


# --- codes of images, images of codes


def test_images_of_bytes_are_scaled_and_everything_else_out_of_range_is_refused(home):
    model = deft_jax.load(home[1])
    exact = model.encode(IMAGES[:3].astype(np.float32) / 255).mean
    np.testing.assert_allclose(model.encode(IMAGES[:3]).mean, exact, atol=1e-6)
    black = model.encode(np.zeros((2, 16, 16, 3), bool)).mean
    np.testing.assert_allclose(black, model.encode(np.zeros((2, 16, 16, 3))).mean, atol=1e-6)
    assert model.encode(IMAGES[:0]).mean.shape == (0, 4)
    nan = np.full((1, 16, 16, 3), np.nan)
    for wrong in (IMAGES[:1].astype(np.float32), nan, -nan, IMAGES[:1].astype(int), IMAGES[:1] - 1.5, IMAGES[0]):
        with pytest.raises(ValueError, match=r"^images must be"):
            model.encode(wrong)


def test_factors_out_of_range_are_refused_by_name(home, tmp_path):
    session.run(tiny.config(), tmp_path / "run")
    model = deft_jax.load(tmp_path / "run")
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
        deft_jax.load(home[1]).encode_factors(np.zeros((5, 2), int))
    for wrong in ([[np.inf] * 4], [["a"] * 4], np.zeros((2, 3))):
        with pytest.raises(ValueError, match=r"^codes must be"):
            model.decode(wrong)


def test_remarks_of_a_set_are_printed_and_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(data.SOURCES, "remarkable", "test_portable:remarkable")
    session.run(tiny.config(data={"name": "remarkable"}), tmp_path / "run")
    assert "2 files left out" in capsys.readouterr().err
    assert deft_jax.load(tmp_path / "run").description.remarks == ("2 files left out",)


def remarkable():
    return dataclasses.replace(tiny.squares(), remarks=("2 files left out",))




def test_continuous_labels_are_trained_logged_and_scored(tmp_path):
    factors = np.stack([RNG.uniform(size=60), np.arange(60) % 3], axis=1)
    images = RNG.integers(0, 255, (60, 16, 16, 1), dtype=np.uint8)
    config = config_of(archive(tmp_path / "set.npz", images, factors=factors), periodic_metrics={"sap": {"every": 2}})
    results = session.run(config, tmp_path / "run")
    assert np.isfinite(results["mig"])
    assert deft_jax.load(tmp_path / "run").description.ground_truth_continuous == (True, False)
    assert any(record["kind"] == "score" for record in read_records(tmp_path / "run" / "metrics.jsonl"))
    found = scoring.evaluate(tmp_path / "run", ["mig", "sap"], num_samples=60, variants=("mean",))
    assert set(found["scores"]["mean"]) == {"mig", "sap"}
    assert "that the run has kept" not in reporting_page.report([tmp_path / "run"], tmp_path / "page.html").read_text()
