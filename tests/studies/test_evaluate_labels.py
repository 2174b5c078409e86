"""Labels of listed data sets reach the metrics that can use them."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
import tiny
from refusals import refused

import deft_jax
from deft_jax import evaluate, metrics
from deft_jax.evaluation import encoder
from deft_jax.studies import scoring
from deft_jax.training import session

FEW = {"num_samples": 400}


def relabelled(monkeypatch, **fields):
    """Replaces fields of the data set of every model that is loaded."""
    from deft_jax.training import restore

    plain = restore.load

    def load(workdir, step=None):
        model = plain(workdir, step)
        model.source = dataclasses.replace(model.source, **fields)
        return model

    monkeypatch.setattr(restore, "load", load)


@pytest.fixture(scope="module", params=[True, False], ids=["labelled", "unlabelled"])
def listed(request, shared_programs, tmp_path_factory):
    """A run on a set that lacks combinations of its factors: its workdir, and whether it has labels."""
    directory = tmp_path_factory.mktemp("listed") / "run"
    data = {"name": "listed_squares", "labelled": request.param}
    session.run(tiny.config(data=data), directory, jax.devices()[:1])
    return directory, request.param


def test_a_listed_set_has_the_scores_that_its_labels_allow(listed, tmp_path, capsys):
    directory, labelled = listed
    result = scoring.evaluate(directory, variants=("mean",), **FEW)
    scores = result["scores"]["mean"]
    assert (result["num_images"], result["num_samples"]) == (20, 400)
    if labelled:
        # Four of its 20 images have the second size, perhaps none of them in the test part.
        assert set(scores) | set(result["refused"]["mean"]) == set(scoring.DEFAULT) - {"factor_vae"}
        assert set(result["refused"]["mean"]) <= {"modularity_explicitness"}
        model = deft_jax.load(directory)
        factors = encoder.draw_factors(model.source, 400, 0)
        expected = metrics.compute("mig", model.encode_factors(factors).mean, model.source.ground_truth(factors))
        assert scores["mig"]["mig"] == pytest.approx(expected["mig"])
        refusals = {"factor_vae": "needs a set that holds every combination of its factors"}
    else:
        assert set(scores) == {"gaussian_total_correlation"}
        refusals = {"mig": "'mig'", "beta_vae": "needs a set that holds every combination"}
    for name, fault in refusals.items():
        with refused(fault):
            scoring.evaluate(directory, (name,), **FEW)
    shutil.copytree(directory, tmp_path / "other")
    few = ("--metrics", "udr", "--num_samples", "200", "--jobs", "1")
    evaluate.main(["--workdir", str(directory), str(tmp_path / "other"), *few])
    assert "udr, spearman: run " in capsys.readouterr().out


def test_labels_of_any_kind_reach_the_metrics_by_column(listed, tmp_path, monkeypatch):
    """Of a constant label, a class, a real number and a label of one image, all but the first are scored."""
    shutil.copytree(listed[0], tmp_path / "run")
    rng = np.random.default_rng(0)
    labels = np.stack([np.ones(20), np.arange(20) % 2, rng.uniform(size=20), np.arange(20) == 3], axis=1)
    names = ("still", "class", "age", "rare")
    relabelled(monkeypatch, label_names=names, labels=labels, label_continuous=(False, False, True, False))
    options = {"custom_metrics:spy": {}, "sap": {"continuous": [False, False, True, False]}}
    result = scoring.evaluate(tmp_path / "run", options, variants=("mean",), **FEW)
    assert (result["left_out"], result["factor_names"]) == (["still"], ["class", "age", "rare"])
    arguments = result["scores"]["mean"]["custom_metrics:spy"]
    assert arguments["continuous"] == [False, True, False]
    np.testing.assert_array_equal(arguments["factors"], labels[arguments["groups"], 1:])
    assert "continuous must be" not in result["refused"]["mean"].get("sap", "")


def test_labels_that_do_not_vary_are_refused_before_anything_is_encoded(listed, monkeypatch):
    relabelled(monkeypatch, label_names=("still",), labels=np.ones((20, 1), np.int32))
    monkeypatch.setattr(encoder.Encoder, "__call__", lambda *_: pytest.fail("images were encoded"))
    with pytest.raises(ValueError, match="no factor varies in the sample"):
        scoring.evaluate(listed[0], ("mig",), **FEW)
