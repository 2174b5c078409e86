"""Data sets with labels per image, or without labels, are trained on, reported and annealed like any other."""

import numpy as np
import pytest
import tiny

import deft_jax
from deft_jax import data
from deft_jax.annealing import measure, trial_plan
from deft_jax.data.source import Source
from deft_jax.reporting import page as reporting_page
from deft_jax.training import session
from deft_jax.training.metrics_log import read_records

pytestmark = pytest.mark.usefixtures("shared_programs")


def run(workdir, labelled, **changes):
    config = tiny.config(data={"name": "listed_squares", "labelled": labelled}, **changes)
    results = session.run(config, workdir)
    return results, [record for record in read_records(workdir / "metrics.jsonl") if record["kind"] == "eval"]


@pytest.mark.parametrize(("names", "labels", "key_words"), [
    (("a",), None, "without labels"),
    (("a",), np.zeros((3, 1), np.int32), r"labels \(3, 1\) for 4 images and 1 label names"),
    ((), np.zeros((4, 1), np.int32), "0 label names"),
])
def test_labels_that_do_not_fit_are_refused(names, labels, key_words):
    with pytest.raises(ValueError, match=key_words):
        Source(("image",), (4,), (16, 16, 1), "bernoulli", (), None, names, labels)


def test_a_labelled_list_is_scored_against_its_labels(tmp_path):
    results, evaluations = run(tmp_path, True, periodic_metrics={"sap": {"every": 4}})
    assert results["factor_names"] == ["size", "posX"]
    assert np.shape(results["nmi"]) == (4, 2)
    assert 0 <= results["mig"] <= 1
    assert {row["factor"] for row in results["freezing_order"]} == {"size", "posX"}
    assert np.shape(evaluations[-1]["factor_information"]) == (2,)
    scored = [record for record in read_records(tmp_path / "metrics.jsonl") if record["kind"] == "score"]
    assert [record["step"] for record in scored] == [4, 8]
    model = deft_jax.load(tmp_path)
    np.testing.assert_array_equal(model.encode_factors([[3], [3]]).mean[0], model.encode_factors([[3]]).mean[0])


def test_a_set_without_labels_trains_without_scores_and_is_shown(tmp_path, drawn, capsys):
    results, evaluations = run(tmp_path / "run", False)
    assert "mig" not in results
    assert results["freezing_order"] == []
    assert "of 4 latents in use after 8 steps" in capsys.readouterr().out
    assert "mig" not in evaluations[-1]
    assert np.shape(evaluations[-1]["kl_per_latent"]) == (4,)
    figures = {path.name for path in (tmp_path / "run" / "figures").iterdir()}
    assert {"traversals.png", "reconstructions.png", "kl.png"} <= figures
    assert not {"nmi.png", "nmi1.png"} & figures
    reporting_page.report([tmp_path / "run"], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "has no labels" in page
    assert "image 1" in page
    assert "factor of highest NMI" not in " ".join(page.split()), "there are no factors"


@pytest.mark.parametrize(("labelled", "metric"), [
    (True, "factor_vae"),  # needs every combination of the factors
    (False, "mig"),
])
def test_metrics_that_need_other_labels_are_refused_before_training(tmp_path, labelled, metric):
    with pytest.raises(ValueError, match=metric):
        run(tmp_path / "run", labelled, periodic_metrics={metric: {"every": 4}})
    assert not (tmp_path / "run").exists()


def test_trials_need_a_factor_to_sweep():
    with pytest.raises(ValueError, match=r"trials sweep one factor.*instruments=\('spectrum', 'whole'\)"):
        trial_plan.plan(data.get("listed_squares"), ("image",), 2, 0)


@pytest.mark.parametrize("labelled", [True, False])
def test_the_annealing_test_of_the_whole_set_needs_no_labels(tmp_path, labelled):
    config = tiny.annealing(instruments=("spectrum", "whole"), betas={"source": "spectrum"})
    config["data"] = {"name": "listed_squares", "labelled": labelled}
    results = measure.run(config, tmp_path)
    assert set(results["whole"]["points"]) == ({"size", "posX"} if labelled else set())
    assert len(results["whole"]["latents"]) == config["whole"]["model"]["latents"]
    assert (tmp_path / "figures" / "whole_set.png").exists()
    reporting_page.report([tmp_path], tmp_path / "page.html")
