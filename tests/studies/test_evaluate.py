"""Scores of a workdir: those of the metrics on its codes, written down metric by metric, refused in one line."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import deft_jax
from deft_jax import evaluate, metrics
from deft_jax.evaluation import encoder
from deft_jax.evaluation import scores as evaluation_scores
from deft_jax.studies import scoring
from deft_jax.studies.score_file import ScoreFile

FEW = {"num_samples": 400}
ARRAYS = ("mig", "nmi", "sap", "infomec", "irs", "gaussian_total_correlation")


def results_json(directory):
    return json.loads((directory / "results.json").read_text())


def test_scores_are_those_of_the_metrics_on_the_same_codes(workdir):
    before = json.loads((workdir / "results.json").read_text())
    result = scoring.evaluate(workdir, ARRAYS, **FEW)
    written = json.loads((workdir / "results.json").read_text())
    assert {name: value for name, value in written.items() if name != "evaluation"} == {
        name: value for name, value in before.items() if name != "evaluation"
    }
    evaluation = written["evaluation"]
    assert (evaluation["num_samples"], evaluation["seed"]) == (400, 0)
    assert {"deft_jax", "jax", "numpy", "scipy", "sklearn", "python"} == set(evaluation["versions"])
    model = deft_jax.load(workdir)
    factors = encoder.draw_factors(model.source, 400, 0)
    mean = model.encode_factors(factors).mean
    for name in ARRAYS:
        expected = evaluation_scores.headlines({name: metrics.compute(name, mean, factors)})
        assert evaluation_scores.headlines({name: evaluation["scores"]["mean"][name]}) == pytest.approx(expected)
    assert set(evaluation["scores"]) == set(scoring.VARIANTS)
    assert evaluation["scores"]["sampled"] != evaluation["scores"]["mean"]
    kinds = sorted(result["active"].tolist() + result["mixed"].tolist() + result["passive"].tolist())
    assert kinds == list(range(4))


def test_scores_of_posteriors_are_the_same_for_means_and_samples(workdir):
    scores = scoring.evaluate(workdir, ("mig_posterior",), variants=("mean", "sampled"), **FEW)["scores"]
    model = deft_jax.load(workdir)
    factors = encoder.draw_factors(model.source, 400, 0)
    mean, logvar = model.encode_factors(factors)
    expected = metrics.compute("mig_posterior", mean, factors, logvar=logvar)["mig_posterior"]
    assert [scores[kind]["mig_posterior"]["mig_posterior"] for kind in scores] == pytest.approx([expected] * 2)


def test_passive_latents_are_left_out_of_the_active_scores(workdir, monkeypatch):
    from deft_jax.metrics import latents

    def third_is_passive(mean, logvar):
        passive = np.arange(mean.shape[1]) == 2
        return {"active": ~passive, "mixed": passive & False, "passive": passive}

    monkeypatch.setattr(latents, "active_latents", third_is_passive)
    result = scoring.evaluate(workdir, ("nmi",), **FEW)
    whole, active = (np.asarray(result["scores"][name]["nmi"]["nmi"]) for name in ("mean", "mean_active"))
    np.testing.assert_allclose(active, np.delete(whole, 2, axis=0))


def test_metrics_that_draw_images_get_the_codes_of_these_images(workdir, monkeypatch):
    """The cached posteriors give the same as encoding every draw."""
    few = {"num_variance": 300, "num_train": 100, "num_eval": 60, "batch_size": 8}
    plain = metrics.get("factor_vae")
    monkeypatch.setattr(metrics, "get", lambda name: lambda *a: plain(*a, **few))
    result = scoring.evaluate(workdir, ("factor_vae",), variants=("mean", "sampled"), **FEW)["scores"]
    model = deft_jax.load(workdir)
    expected = plain(lambda drawn: model.encode_factors(drawn).mean, model.source.factor_sizes, **few)
    # Two programs: where two latents vary alike, the vote for one may go to the other.
    votes = result["mean"]["factor_vae"]["factor_vae_votes"]
    assert np.sum(votes) == np.sum(expected["factor_vae_votes"])
    assert np.abs(votes - expected["factor_vae_votes"]).sum() <= 4
    score, tolerance = result["mean"]["factor_vae"]["factor_vae"], 2.5 / few["num_eval"]
    assert score == pytest.approx(expected["factor_vae"], abs=tolerance)
    assert 0 <= result["sampled"]["factor_vae"]["factor_vae"] <= 1


def test_the_seed_reaches_the_metrics_that_draw(workdir):
    """The codes of one sample are split differently by another seed."""
    model = deft_jax.load(workdir)
    factors = encoder.draw_factors(model.source, 400, 7)
    expected = metrics.get("sap")(model.encode_factors(factors).mean, factors, seed=7)
    result = scoring.evaluate(workdir, ("sap",), seed=7, variants=("mean",), **FEW)["scores"]["mean"]["sap"]
    np.testing.assert_array_equal(result["scores"], expected["scores"])
    other = metrics.get("sap")(model.encode_factors(factors).mean, factors, seed=0)
    assert not np.array_equal(result["scores"], other["scores"])


def test_metrics_receive_which_rows_are_one_image_and_which_factors_are_continuous(fresh):
    name = "custom_metrics:spy"
    result = scoring.evaluate(fresh, (name,), num_samples=25, variants=("mean",))
    model = deft_jax.load(fresh)
    factors = encoder.draw_factors(model.source, 25, 0)
    np.testing.assert_array_equal(
        result["scores"]["mean"][name]["groups"], np.ravel_multi_index(tuple(factors.T), model.source.factor_sizes)
    )
    assert result["scores"]["mean"][name]["continuous"] == [False] * 3
    assert result["num_images"] == result["scores"]["mean"][name]["num_groups"] < 25
    assert results_json(fresh)["evaluation"]["num_images"] == result["num_images"]
    result = scoring.evaluate(fresh, (name,), num_samples=1000, variants=("mean",))
    np.testing.assert_array_equal(np.sort(result["scores"]["mean"][name]["groups"]), np.arange(32))


def test_a_metric_that_fails_does_not_stop_the_others(fresh, capsys):
    names = "custom_metrics:broken,mig,custom_metrics:no_numbers"
    evaluate.main(["--workdir", str(fresh), "--metrics", names, "--num_samples", "300", "--variants", "mean,sampled"])
    evaluated = results_json(fresh)["evaluation"]
    for variant in ("mean", "sampled"):
        assert set(evaluated["scores"][variant]) == {"mig"}
        assert evaluated["refused"][variant]["custom_metrics:broken"] == "RuntimeError: a fault in two lines"
        assert evaluated["refused"][variant]["custom_metrics:no_numbers"].startswith("TypeError: ")
    table, gaps = capsys.readouterr().out.split("mig ", 1)
    assert "not scored" not in table
    assert "not scored: custom_metrics:broken (RuntimeError: a fault in two lines)" in gaps.splitlines()


def test_without_any_score_the_status_is_2_and_the_reasons_are_kept(fresh, capsys):
    with pytest.raises(SystemExit) as caught:
        evaluate.main(["--workdir", str(fresh), "--metrics", "custom_metrics:broken", "--variants", "mean"])
    assert caught.value.code == 2
    assert "no metric could be computed: custom_metrics:broken (RuntimeError: a fault in two lines)" in (
        capsys.readouterr().err
    )
    assert set(results_json(fresh)["evaluation"]["refused"]["mean"]) == {"custom_metrics:broken"}
    assert results_json(fresh)["note"] == [1, 2]


def test_what_is_scored_before_an_interruption_is_kept(fresh):
    with pytest.raises(KeyboardInterrupt):
        scoring.evaluate(fresh, ("mig", "custom_metrics:interrupted"), variants=("mean",), **FEW)
    assert set(results_json(fresh)["evaluation"]["scores"]["mean"]) == {"mig"}


def test_no_active_latent_is_a_reason(fresh, monkeypatch):
    from deft_jax.metrics import latents

    def all_passive(mean, logvar):
        nothing = np.zeros(mean.shape[1], bool)
        return {"active": nothing, "mixed": nothing, "passive": ~nothing}

    monkeypatch.setattr(latents, "active_latents", all_passive)
    result = scoring.evaluate(fresh, ("nmi",), **FEW)
    assert set(result["scores"]["mean"]) == {"nmi"}
    assert result["refused"]["mean_active"] == {"nmi": "no latent is active"}


def test_two_evaluations_of_one_sample_add_up_and_others_are_kept(fresh, capsys):
    scoring.evaluate(fresh, ("mig",), variants=("mean",), **FEW)
    scoring.evaluate(fresh, {"nmi": {"num_bins": 10}}, variants=("mean", "sampled"), **FEW)
    first = results_json(fresh)
    assert set(first["evaluation"]["scores"]["mean"]) == {"mig", "nmi"}
    assert set(first["evaluation"]["scores"]["sampled"]) == {"nmi"}
    assert first["evaluation"]["options"] == {"nmi": {"num_bins": 10}}
    assert set(first) == {"note", "evaluation"}
    assert "earlier_evaluations" not in capsys.readouterr().err

    scoring.evaluate(fresh, ("irs",), variants=("mean",), seed=3, **FEW)
    second = results_json(fresh)
    assert set(second["evaluation"]["scores"]["mean"]) == {"irs"}
    assert second["earlier_evaluations"] == [first["evaluation"]]
    assert "earlier_evaluations" in capsys.readouterr().err

    scoring.evaluate(fresh, ("irs",), variants=("mean",), **FEW)  # the first sample again
    third = results_json(fresh)
    assert set(third["evaluation"]["scores"]["mean"]) == {"mig", "nmi", "irs"}
    assert third["earlier_evaluations"] == [second["evaluation"]]

    scoring.evaluate(fresh, ("nmi",), variants=("mean",), **FEW)  # with other options
    assert set(results_json(fresh)["evaluation"]["scores"]["mean"]) == {"nmi"}
    assert len(results_json(fresh)["earlier_evaluations"]) == 2
    assert results_json(fresh)["note"] == [1, 2]


def test_two_scorings_at_once_lose_no_score(tmp_path):
    path, names = tmp_path / "results.json", [f"metric_{number}" for number in range(8)]
    path.write_text('{"note": [1, 2]}')

    def score(seed):
        scores = ScoreFile(path, ("mean",), {"seed": seed // 2}, names)  # two of each sample
        for name in names[seed % 2 :: 2]:
            scores.add("mean", name, lambda: {"score": seed})

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(score, range(4)))
    written = results_json(tmp_path)
    assert written["note"] == [1, 2]
    samples = [written["evaluation"], *written["earlier_evaluations"]]
    assert {sample["seed"]: set(sample["scores"]["mean"]) for sample in samples} == {0: set(names), 1: set(names)}
    assert len(samples) == 2
