"""Models that come with the package: they are what their configs make, and their names stand for their folders."""

import json
import pathlib
import runpy

import numpy as np
import pytest

import deft_jax
from deft_jax import metrics
from deft_jax.evaluation import encoder
from deft_jax.runtime import pretrained
from deft_jax.studies import scoring
from deft_jax.training import export
from deft_jax.training.config import parse_training

ROOT = pathlib.Path(__file__).parent.parent
NAMES = pretrained.names()


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", NAMES)
def test_model_is_finished_and_of_the_config_of_its_name(name):
    folder = pretrained.FOLDER / name
    config = json.loads((folder / "config.json").read_text())
    made = parse_training(runpy.run_path(str(ROOT / "configs" / f"{name}.py"))["get_config"]())
    assert parse_training(config) == made, "fields that came later have their defaults"
    results = json.loads((folder / "results.json").read_text())
    with np.load(folder / "weights.npz", allow_pickle=False) as arrays:
        assert int(arrays["step"]) == results["step"] == results["evaluation"]["step"] == config["total_steps"]


def test_models_are_small():
    assert sum(path.stat().st_size for path in pretrained.FOLDER.rglob("*") if path.is_file()) < 2e6


def test_table_has_the_scores_of_the_shipped_weights():
    table = json.loads((ROOT / "docs" / "experiments" / "models" / "models.json").read_text())
    assert sorted(row["name"] for row in table) == NAMES
    for row in table:
        scores = json.loads((pretrained.FOLDER / row["name"] / "results.json").read_text())["evaluation"]["scores"]
        assert row["mig"] == scores["mean"]["mig"]["mig"]
        assert row["disentanglement"] == scores["mean"]["dci"]["disentanglement"]


def test_weights_reach_their_scores(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = deft_jax.load("quickstart")
    factors = encoder.draw_factors(model.source, 2_000, seed=1)
    of_result = json.loads((model.workdir / "results.json").read_text())["mig"]
    mig = metrics.compute("mig", model.encode_factors(factors).mean, factors)["mig"]
    assert mig == pytest.approx(of_result, abs=0.03)


def test_scores_of_a_name_are_written_beside_and_add_up(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = bytes_of(pretrained.FOLDER / "quickstart")
    for name in ("mig", "nmi"):
        scoring.evaluate("quickstart", [name], num_samples=100, variants=("mean",))
    kept = json.loads((tmp_path / "quickstart.results.json").read_text())
    assert set(kept["evaluation"]["scores"]["mean"]) == {"mig", "nmi"}
    assert [path.name for path in tmp_path.iterdir()] == ["quickstart.results.json"]
    assert bytes_of(pretrained.FOLDER / "quickstart") == before
    with pretrained.scoring_copy("quickstart", "workdir"), pytest.raises(ValueError, match="is in use by process"):
        scoring.evaluate("quickstart", ["sap"], num_samples=100)  # both would replace the file


def test_what_lies_in_the_current_folder_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="quickstart"):
        deft_jax.load("quickstrat")
    with pytest.raises(ValueError, match="holds no run"):
        deft_jax.load(tmp_path / "quickstart")
    assert pretrained.folder_of("quickstart/") == pretrained.folder_of("quickstart") == pretrained.FOLDER / "quickstart"
    assert pretrained.folder_of("./quickstart") is None
    (tmp_path / "quickstart").mkdir()
    with pytest.raises(ValueError, match="holds no run"):
        deft_jax.load("quickstart")
    export(pretrained.FOLDER / "quickstart", "quickstart")  # into the empty folder
    assert deft_jax.load("quickstart").workdir.resolve() == tmp_path / "quickstart"


def test_errors_have_the_name_and_not_the_folder_of_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="no step 3 in quickstart:"):
        deft_jax.load("quickstart", step=3)
