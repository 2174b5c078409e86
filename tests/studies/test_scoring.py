"""Progress of a scoring, and how reasons are put into lines."""

import io

import numpy as np
import pytest
import tiny

from deft_jax.studies import runner, score_file
from deft_jax.training import build, config


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_reasons_are_one_line_each_with_the_variants_only_where_they_differ():
    refused = {
        "mean": {"dci": "too few", "sap": "too few", "irs": "no latent"},
        "sampled": {"dci": "too few", "sap": "too few", "udr": "no latent"},
    }
    assert score_file.not_scored(refused) == [
        "dci, sap (too few)",
        "irs of mean (no latent)",
        "udr of sampled (no latent)",
    ]
    assert score_file.not_scored({"codes": {}}) == []


@pytest.mark.parametrize(("quiet", "parts"), [(0.0, 3), (1e9, 0)])
def test_without_a_terminal_a_line_for_each_metric_and_its_parts_now_and_then(monkeypatch, quiet, parts):
    monkeypatch.setattr("sys.stderr", io.StringIO())
    monkeypatch.setattr(score_file, "_QUIET", quiet)
    with score_file.Progress(2, "run") as progress:
        for name in ("mig", "dci"):
            progress.start(name)
            for done in (1, 2, 3) if name == "dci" else ():
                progress.within(done, 3)
            progress.finish()
        lines = progress._stream.getvalue().splitlines()
    assert lines[:2] == ["run: 1/2  mig", "run: 2/2  dci"]
    assert lines[2:] == [f"run: 2/2  dci: {done} of 3" for done in (1, 2, 3)][:parts]


def test_on_a_terminal_a_bar_names_the_metric_and_goes_away(monkeypatch):
    monkeypatch.setattr("sys.stderr", Terminal())
    with score_file.Progress(2, "run") as progress:
        progress.start("dci, mean")
        progress.within(1, 5)
        progress.say("a line")
        progress.finish()
        text = progress._stream.getvalue()
        assert progress._bar.n == 1
    assert "dci, mean: 1 of 5" in text
    assert "a line\n" in text
    assert progress._stream.getvalue().endswith("\r")


def test_a_score_outlives_a_refusal_of_the_same_sample(tmp_path):
    path = tmp_path / "results.json"

    def fails():
        raise MemoryError("no space")

    for compute in (lambda: {"mig": 0.5}, fails):
        scores = score_file.Scores(path, ("mean",), {"seed": 0}, ("mig",))
        scores.add("mean", "mig", compute)
    held = score_file.read_object(path)["evaluation"]
    assert held["scores"]["mean"] == {"mig": {"mig": 0.5}}
    assert held["refused"]["mean"] == {}
    with pytest.raises(ValueError, match=r"no metric could be computed: mig \(MemoryError: no space\)"):
        scores.result()


def test_an_option_that_needs_more_images_than_there_are_is_refused_before_training():
    periodic_metrics = {"sap": {"every": 4, "num_train": 40}}
    made = config.parse_training(tiny.config(periodic_metrics=periodic_metrics, evaluation={"num_samples": 64}))
    with pytest.raises(ValueError, match=r"periodic_metrics\.sap\.num_train must be below the number of images, 32"):
        build.check_metrics(made, tiny.squares())



def test_a_study_refuses_too_few_samples_before_training_and_takes_any_metric(tmp_path):
    study = {"runs": {"one": tiny.config()}, "seeds": (0,), "metrics": ("mig",), "num_samples": 19, "scale": "full",
             "scales": {"full": {}}}  # fmt: skip
    with pytest.raises(ValueError, match="num_samples must be at least 20, got 19"):
        runner.run(study, tmp_path / "study")
    assert not (tmp_path / "study").exists()
    found = {"infom": 0.5, "estimator": "knn", "num_distinct_train": 3, "nmi1": np.array([0.0, 1.0])}
    assert runner._numbers(found) == {"infom": 0.5, "nmi1": 0.5}


def test_a_study_goes_on_where_one_of_its_metrics_cannot_be_computed(monkeypatch, tmp_path):
    found = {"scores": {"mean": {"mig": {"mig": 0.5}}}, "refused": {"mean": {"dci": "too few"}}}
    monkeypatch.setattr("deft_jax.studies.scoring.evaluate", lambda *_, **__: found)
    scores = runner._scores({"metrics": ("mig", "dci"), "num_samples": 64}, tmp_path)
    assert scores == {"mig": {"mig": 0.5}, "dci": {}}
