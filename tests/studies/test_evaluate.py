"""Scores of a workdir or of an archive: written down, printed, and refused in one line where they cannot be."""

import dataclasses
import json
import os
import queue
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
import tiny

import deft_jax
from deft_jax import data, evaluate, metrics
from deft_jax.evaluation import encoder
from deft_jax.evaluation import scores as evaluation_scores
from deft_jax.runtime import parallel
from deft_jax.studies import scoring
from deft_jax.training import session

FEW = {"num_samples": 400}
ARRAYS = ("mig", "nmi", "sap", "infomec", "irs", "gaussian_total_correlation")


@pytest.fixture(scope="module")
def workdir(trained_once, tmp_path_factory):
    directory = tmp_path_factory.mktemp("evaluate") / "run"
    shutil.copytree(trained_once, directory)
    return directory


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "deft_jax.evaluate", *map(str, arguments)],
        env=tiny.ENVIRONMENT,
        capture_output=True,
        text=True,
    )


def test_load_gives_the_model_as_training_left_it(workdir):
    model = deft_jax.load(workdir)
    assert (model.step, model.stage) == (tiny.config()["total_steps"], 1)
    assert model.config.to_mapping() == json.loads((workdir / "config.json").read_text())
    factors = encoder.draw_factors(model.source, 64, seed=0)
    scores = evaluation_scores.score(model.encode_factors(factors).mean, factors)
    assert scores["mig"] == pytest.approx(json.loads((workdir / "results.json").read_text())["mig"], abs=1e-6)
    images = np.asarray(model.source.render(model.source.arrays, factors, jax.random.key(0)))
    by_image, by_factors = model.encode(images), model.encode_factors(factors)
    np.testing.assert_allclose(by_image.mean, by_factors.mean, atol=1e-5)
    np.testing.assert_allclose(by_image.logvar, by_factors.logvar, atol=1e-5)
    decoded = model.decode(by_image.mean)
    assert decoded.shape == images.shape
    assert decoded.min() >= 0
    assert decoded.max() <= 1
    np.testing.assert_allclose(model.decode(by_image.mean[3:5]), decoded[3:5], atol=1e-5)


def test_load_of_an_earlier_step_has_its_stage_and_parameters(workdir):
    early, late = deft_jax.load(workdir, 4), deft_jax.load(workdir)
    assert (early.step, early.stage) == (4, 0)
    assert tiny.fingerprint(early.params) != tiny.fingerprint(late.params)
    factors = encoder.draw_factors(early.source, 5, seed=0)
    assert not np.any(early.encode_factors(factors).mean[:, 2:]), "the second group is not open yet"
    assert max(record["step"] for record in early.records) == 4


def test_load_refuses_in_one_line(workdir, tmp_path):
    (tmp_path / "empty").mkdir()
    no_checkpoint = tmp_path / "young"
    no_checkpoint.mkdir()
    shutil.copy(workdir / "config.json", no_checkpoint)
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "config.json").write_text('{"seed":')
    for directory, step, fault in (
        (tmp_path / "nowhere", None, "holds no run"),
        (tmp_path / "empty", None, "holds no run"),
        (no_checkpoint, None, "no checkpoint yet"),
        (tmp_path / "torn", None, "cannot read"),
        (workdir, 5, "no checkpoint of step 5"),
    ):
        with pytest.raises(ValueError, match=fault) as caught:
            deft_jax.load(directory, step)
        assert "\n" not in str(caught.value)
    model = deft_jax.load(workdir)
    with pytest.raises(ValueError, match=r"images must be \[N, 16, 16, 1\], got \(2, 8, 8, 1\)"):
        model.encode(np.zeros((2, 8, 8, 1)))
    with pytest.raises(ValueError, match=r"codes must be \[N, 4\]"):
        model.decode(np.zeros((2, 3)))


def test_scores_are_those_of_the_metrics_on_the_same_codes(workdir):
    before = json.loads((workdir / "results.json").read_text())
    result = scoring.evaluate(workdir, ARRAYS, **FEW)
    written = json.loads((workdir / "results.json").read_text())
    assert {name: value for name, value in written.items() if name != "evaluation"} == {
        name: value for name, value in before.items() if name != "evaluation"
    }
    told = written["evaluation"]
    assert (told["num_samples"], told["seed"]) == (400, 0)
    assert {"deft_jax", "jax", "numpy", "scipy", "sklearn", "python"} == set(told["versions"])
    model = deft_jax.load(workdir)
    factors = encoder.draw_factors(model.source, 400, 0)
    mean = model.encode_factors(factors).mean
    for name in ARRAYS:
        expected = evaluation_scores.headlines({name: metrics.compute(name, mean, factors)})
        assert evaluation_scores.headlines({name: told["scores"]["mean"][name]}) == pytest.approx(expected)
    assert set(told["scores"]) == set(scoring.VARIANTS)
    assert told["scores"]["sampled"] != told["scores"]["mean"]
    kinds = sorted(result["active"].tolist() + result["mixed"].tolist() + result["passive"].tolist())
    assert kinds == list(range(4))


def test_posteriors_are_scored_by_mean_and_logvar_whatever_the_codes(workdir):
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


def test_metrics_that_draw_images_see_their_codes(workdir, monkeypatch):
    """The table gives what encoding each draw anew gives."""
    few = {"num_variance": 300, "num_train": 100, "num_eval": 60, "batch_size": 8}
    plain = metrics.get("factor_vae")
    monkeypatch.setattr(metrics, "get", lambda name: lambda *a: plain(*a, **few))
    found = scoring.evaluate(workdir, ("factor_vae",), variants=("mean", "sampled"), **FEW)["scores"]
    model = deft_jax.load(workdir)
    expected = plain(lambda drawn: model.encode_factors(drawn).mean, model.source.factor_sizes, **few)
    # Two programs: where two latents vary alike, the vote for one may go to the other.
    votes = found["mean"]["factor_vae"]["factor_vae_votes"]
    assert np.sum(votes) == np.sum(expected["factor_vae_votes"])
    assert np.abs(votes - expected["factor_vae_votes"]).sum() <= 4
    assert found["mean"]["factor_vae"]["factor_vae"] == pytest.approx(expected["factor_vae"], abs=2.5 / few["num_eval"])
    assert 0 <= found["sampled"]["factor_vae"]["factor_vae"] <= 1


def test_the_seed_reaches_the_metrics_that_draw(workdir):
    """With the codes of one sample alone, another seed splits them otherwise."""
    model = deft_jax.load(workdir)
    factors = encoder.draw_factors(model.source, 400, 7)
    expected = metrics.get("sap")(model.encode_factors(factors).mean, factors, seed=7)
    found = scoring.evaluate(workdir, ("sap",), seed=7, variants=("mean",), **FEW)["scores"]["mean"]["sap"]
    np.testing.assert_array_equal(found["scores"], expected["scores"])
    other = metrics.get("sap")(model.encode_factors(factors).mean, factors, seed=0)
    assert not np.array_equal(found["scores"], other["scores"])


def test_the_command_prints_a_table_and_compares_runs(workdir, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(workdir, other)
    few = ("--metrics", "mig,udr", "--num_samples", "300", "--variants", "mean")
    evaluate.main(["--workdir", str(workdir), str(other), *few, "--jobs", "1"])
    lines = capsys.readouterr().out.splitlines()
    [row] = [line for line in lines if line.startswith("mig ")]
    mig = json.loads((other / "results.json").read_text())["evaluation"]["scores"]["mean"]["mig"]["mig"]
    assert row.split() == ["mig", f"{mig:.3f}", f"{mig:.3f}"]
    [spearman] = [line for line in lines if line.startswith("udr, spearman:")]
    first, second = (float(part.split()[-1]) for part in spearman.split(": ")[1].split(", "))
    assert first == second
    assert 0 <= first <= 1


def in_a_process(directory, *arguments):
    """The command as a program of its own, which knows the tests' data sets, and so do the processes it starts."""
    script = directory / "score.py"
    script.write_text("import tiny\nfrom deft_jax import evaluate\n\nif __name__ == '__main__':\n    evaluate.main()\n")
    command = [sys.executable, str(script), *map(str, arguments)]
    done = subprocess.run(command, env=tiny.ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if line.startswith("deft_jax.evaluate: ")]
    assert "Traceback" not in done.stderr
    return done.stdout, line


def assert_alike(words, others, atol):
    """The same words; numbers to a tolerance."""
    for word, other in zip(words, others, strict=True):
        try:
            assert float(word) == pytest.approx(float(other), abs=atol, rel=1e-3, nan_ok=True)
        except ValueError:
            assert str(word).strip(",;") == str(other).strip(",;")


def test_runs_scored_side_by_side_have_the_scores_of_one_after_the_other(workdir, tmp_path, capsys):
    """A run that cannot be scored is named; the others are scored all the same."""
    runs = [tmp_path / name for name in ("first", "second")]
    for directory in runs:
        shutil.copytree(workdir, directory)
    shutil.rmtree(runs[1] / "checkpoints" / "8")  # another step, so that the two differ
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "config.json").write_text('{"seed":')
    arguments = ["--workdir", *map(str, (runs[0], tmp_path / "torn", runs[1])), "--metrics", "mig,sap,udr"]
    arguments += ["--num_samples", "300", "--variants", "mean,sampled"]

    def scores():
        return [json.loads((directory / "results.json").read_text())["evaluation"]["scores"] for directory in runs]

    with pytest.raises(SystemExit) as caught:
        evaluate.main([*arguments, "--jobs", "1"])
    assert caught.value.code == 2
    told, serial = capsys.readouterr(), scores()
    printed = told.out
    [line] = [line for line in told.err.splitlines() if line.startswith("deft_jax.evaluate: ")]
    assert str(tmp_path / "torn") in line
    assert "udr, lasso: first " in printed
    assert serial[0] != serial[1]
    for directory in runs:
        (directory / "results.json").write_text("{}")
    beside, fault = in_a_process(tmp_path, *arguments, "--jobs", "3")
    assert fault == line
    # On other cores, programs may add in another order, and a code at the edge of a bin may change sides.
    assert_alike(beside.split(), printed.split(), atol=0.02)
    jax.tree.map(lambda a, b: assert_alike([a], [b], atol=0.02), scores(), serial)


def test_a_process_that_dies_is_an_error_of_its_run_alone():
    shares = queue.SimpleQueue()
    shares.put(parallel.cores())
    assert "fewer --jobs" in str(evaluate.run_in_subprocess(os._exit, shares, 3))
    assert evaluate.run_in_subprocess(abs, shares, -3) == 3


@pytest.fixture(scope="module", params=[True, False], ids=["labelled", "unlabelled"])
def listed(request, tmp_path_factory):
    """A run on a set that does not hold every combination of its factors: its workdir, and whether it has labels."""
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
        refused = {"factor_vae": "needs a set that holds every combination of its factors"}
    else:
        assert set(scores) == {"gaussian_total_correlation"}
        refused = {"mig": "the metric 'mig' needs factors", "beta_vae": "needs a set that holds every combination"}
    for name, fault in refused.items():
        with pytest.raises(ValueError, match=fault) as caught:
            scoring.evaluate(directory, (name,), **FEW)
        assert "\n" not in str(caught.value)
    shutil.copytree(directory, tmp_path / "other")
    few = ("--metrics", "udr", "--num_samples", "200", "--jobs", "1")
    evaluate.main(["--workdir", str(directory), str(tmp_path / "other"), *few])
    assert "udr, spearman: run " in capsys.readouterr().out


def test_an_archive_of_codes_from_anywhere(tmp_path):
    factors = np.stack(np.meshgrid(range(8), range(8), range(8)), axis=-1).reshape(-1, 3)
    path = tmp_path / "codes.npz"
    np.savez(path, codes=factors[:, ::-1].astype(np.float32), factors=factors)
    done = run("--codes", path, "--metrics", "mig,sap")
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "codes.npz.results.json").read_text())["evaluation"]
    assert written["scores"]["codes"]["mig"]["mig"] == pytest.approx(1)
    assert written["num_samples"] == 512
    assert "mig_posterior" not in scoring.evaluate_codes(path, None)["scores"]["codes"]
    refused = run("--codes", path, "--metrics", "mig_posterior")
    assert refused.returncode == 2
    assert "looks at posteriors: give their logvar" in refused.stderr
    np.savez(path, codes=factors[:, ::-1].astype(np.float32), factors=factors, logvar=np.full((512, 3), -9.0))
    found = scoring.evaluate_codes(path, ("mig", "mig_posterior"))["scores"]["codes"]
    assert found["mig_posterior"]["mig_posterior"] == pytest.approx(1)
    refused = run("--codes", path, "--metrics", "factor_vae")
    assert refused.returncode == 2
    assert refused.stderr == (
        "deft_jax.evaluate: the metric 'factor_vae' needs a model, not an archive of codes: give --workdir\n"
    )



class _Bomb:
    def __reduce__(self):
        return (exec, ("raise AssertionError('a pickle was loaded')",))


def archives(directory):
    rng = np.random.default_rng(0)
    codes, factors = rng.normal(size=(50, 3)), rng.integers(0, 3, (50, 2))
    holes = codes.copy()
    holes[7, 1] = np.nan
    still = np.full_like(factors, 2)
    made = {
        "no factors": ({"codes": codes}, "lacks factors"),
        "nan": ({"codes": holes, "factors": factors}, "codes must be finite, got nan in row 7, latent 1"),
        "rows": ({"codes": codes[:40], "factors": factors}, "the same N"),
        "one value": ({"codes": codes, "factors": still}, "no factor varies"),
        "real factors": ({"codes": codes, "factors": factors + 0.5}, "factors must be integers"),
        "objects": ({"codes": np.array([_Bomb()] * 50, object), "factors": factors}, "cannot read"),
        "flat": ({"codes": codes[:, 0], "factors": factors}, "non-empty"),
    }
    for name, (arrays, fault) in made.items():
        path = directory / f"{name}.npz"
        np.savez(path, **arrays)
        yield path, fault
    whole = directory / "whole.npz"
    np.savez(whole, codes=codes, factors=factors)
    for cut in (3, 40, 300, whole.stat().st_size - 30):
        path = directory / f"cut {cut}.npz"
        path.write_bytes(whole.read_bytes()[:cut])
        yield path, "cannot read"
    yield directory / "missing.npz", "cannot read"


def test_archives_that_cannot_be_scored_are_refused_and_leave_nothing(tmp_path):
    for path, fault in archives(tmp_path):
        with pytest.raises(ValueError, match=fault) as caught:
            scoring.evaluate_codes(path, ("mig",))
        assert "\n" not in str(caught.value), path
        assert not path.with_name(path.name + ".results.json").exists()


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("--metrics", "migg"), "unknown metric 'migg'; known: beta_vae, dci, "),
        (("--metrics", "udr"), "give two workdirs or more"),
        (("--metrics", ""), "there must be a metric"),
        (("--variants", "median"), "unknown variant 'median'"),
        (("--step", "3"), "no checkpoint of step 3"),
        (("--jobs", "0"), "--jobs must be at least 1, got 0"),
        (("--num_samples", "0"), "there must be a metric, a variant and a sample"),
        (("--num_samples", "1"), "num_samples must be at least 20, got 1"),
        (("--num_samples", "19"), "num_samples must be at least 20, got 19"),
        (("--workdir", "gs://bucket/run"), "--workdir must be a path on a local or mounted file system"),
        (("--workdir", "~nobody_of_this_name/run"), "--workdir names the home folder of an unknown user"),
    ],
)
def test_wrong_flags_end_in_one_line(workdir, capsys, arguments, fault):
    with pytest.raises(SystemExit) as caught:
        evaluate.main(["--workdir", str(workdir), *arguments])
    assert caught.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("deft_jax.evaluate: ")
    assert fault in line


def test_udr_refuses_runs_on_different_data(workdir, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(workdir, other)
    config = json.loads((other / "config.json").read_text())
    config["data"] = {"name": "dsprites", "storage": "rendered"}
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="the data sets differ: "):
        scoring.compare([workdir, other])


def test_every_metric_of_the_registry_can_be_found():
    for name in metrics.REGISTRY:
        assert metrics.get(name).__name__ == name
    with pytest.raises(ValueError, match="takes encode and factor_sizes"):
        metrics.compute("factor_vae", np.zeros((4, 1)), np.zeros((4, 1), int))
    assert data.get("squares").factor_names


# ---- each metric its score or its reason ----


def spy(codes, factors, groups=None, continuous=None, progress=None):
    """A metric that shows what it is given."""
    progress(1, 2)
    return {"groups": groups, "continuous": continuous, "factors": factors, "num_groups": len(np.unique(groups))}


def broken(codes, factors):
    raise RuntimeError("a fault\nof its own")


def no_numbers(codes, factors):
    return {"odd": object()}


def estimated(codes, factors):
    return {"score": 0.25, "estimator": "k-NN", "num_distinct_train": 12}


def of_no_sample(codes, factors):
    raise KeyboardInterrupt


@pytest.fixture
def fresh(workdir, tmp_path):
    """A trained workdir whose results.json has no scores yet but an entry of somebody else."""
    shutil.copytree(workdir, tmp_path / "fresh")
    (tmp_path / "fresh" / "results.json").write_text('{"note": [1, 2]}')
    return tmp_path / "fresh"


def held(directory):
    return json.loads((directory / "results.json").read_text())


def test_metrics_learn_which_rows_are_one_image_and_which_factors_are_continuous(fresh):
    name = "test_evaluate:spy"
    found = scoring.evaluate(fresh, (name,), num_samples=25, variants=("mean",))
    model = deft_jax.load(fresh)
    factors = encoder.draw_factors(model.source, 25, 0)
    np.testing.assert_array_equal(
        found["scores"]["mean"][name]["groups"], np.ravel_multi_index(tuple(factors.T), model.source.factor_sizes)
    )
    assert found["scores"]["mean"][name]["continuous"] == [False] * 3
    assert found["num_images"] == found["scores"]["mean"][name]["num_groups"] < 25
    assert held(fresh)["evaluation"]["num_images"] == found["num_images"]
    found = scoring.evaluate(fresh, (name,), num_samples=1000, variants=("mean",))
    np.testing.assert_array_equal(np.sort(found["scores"]["mean"][name]["groups"]), np.arange(32))


def test_one_metric_does_not_take_the_others_with_it(fresh, capsys):
    names = "test_evaluate:broken,mig,test_evaluate:no_numbers"
    evaluate.main(["--workdir", str(fresh), "--metrics", names, "--num_samples", "300", "--variants", "mean,sampled"])
    evaluated = held(fresh)["evaluation"]
    for variant in ("mean", "sampled"):
        assert set(evaluated["scores"][variant]) == {"mig"}
        assert evaluated["refused"][variant]["test_evaluate:broken"] == "RuntimeError: a fault of its own"
        assert evaluated["refused"][variant]["test_evaluate:no_numbers"].startswith("TypeError: ")
    table, gaps = capsys.readouterr().out.split("mig ", 1)
    assert "not scored" not in table
    assert "not scored: test_evaluate:broken (RuntimeError: a fault of its own)" in gaps.splitlines()


def test_without_any_score_the_status_is_2_and_the_reasons_are_kept(fresh, capsys):
    with pytest.raises(SystemExit) as caught:
        evaluate.main(["--workdir", str(fresh), "--metrics", "test_evaluate:broken", "--variants", "mean"])
    assert caught.value.code == 2
    assert "no metric could be computed: test_evaluate:broken (RuntimeError: a fault of its own)" in (
        capsys.readouterr().err
    )
    assert set(held(fresh)["evaluation"]["refused"]["mean"]) == {"test_evaluate:broken"}
    assert held(fresh)["note"] == [1, 2]


def test_what_is_scored_before_an_interruption_is_kept(fresh):
    with pytest.raises(KeyboardInterrupt):
        scoring.evaluate(fresh, ("mig", "test_evaluate:of_no_sample"), variants=("mean",), **FEW)
    assert set(held(fresh)["evaluation"]["scores"]["mean"]) == {"mig"}


def test_metrics_that_do_not_fit_are_named_beside_those_that_do(tmp_path, capsys):
    path = archive(tmp_path)
    evaluate.main(["--codes", str(path), "--metrics", "mig,mig_posterior,factor_vae"])
    reasons = json.loads(path.with_name("codes.npz.results.json").read_text())["evaluation"]["refused"]["codes"]
    assert set(reasons) == {"mig_posterior", "factor_vae"}
    out = capsys.readouterr().out
    assert "not scored: factor_vae (the metric 'factor_vae' needs a model" in out
    assert "not scored: mig_posterior (the metric 'mig_posterior' looks at posteriors" in out


def archive(directory, num_samples=600, name="codes.npz", **columns):
    """Codes that know the first two of three factors; further columns of factors as given."""
    rng = np.random.default_rng(0)
    factors = np.stack([np.arange(num_samples) % size for size in (10, 3, 4)] + list(columns.values()), axis=1)
    codes = factors[:, :2] + 0.1 * rng.normal(size=(num_samples, 2))
    np.savez(directory / name, codes=codes, factors=factors)
    return directory / name


def test_a_factor_that_does_not_vary_is_left_out_and_named(tmp_path, capsys):
    path = archive(tmp_path, still=np.full(600, 5))
    evaluate.main(["--codes", str(path), "--metrics", "mig,sap"])
    assert "left out, constant in the sample: factor 3" in capsys.readouterr().out.splitlines()
    found = json.loads(path.with_name("codes.npz.results.json").read_text())["evaluation"]
    assert (found["left_out"], found["factor_names"]) == (["factor 3"], ["factor 0", "factor 1", "factor 2"])
    without = scoring.evaluate_codes(archive(tmp_path, name="without.npz"), ("mig", "sap"))
    assert found["scores"]["codes"]["mig"]["mig"] == pytest.approx(without["scores"]["codes"]["mig"]["mig"])
    assert len(found["scores"]["codes"]["sap"]["sap_per_factor"]) == 3


def test_a_class_of_one_image_is_scored_by_what_can_be(tmp_path):
    rare = np.zeros(600, int)
    rare[17] = 1
    found = scoring.evaluate_codes(archive(tmp_path, rare=rare), ("mig", "nmi", "irs", "sap", "dci"))
    assert {"mig", "nmi", "irs"} <= set(found["scores"]["codes"])
    assert set(found["scores"]["codes"]) | set(found["refused"]["codes"]) == {"mig", "nmi", "irs", "sap", "dci"}


def test_an_archive_may_hold_real_numbers_beside_classes(tmp_path):
    rng = np.random.default_rng(0)
    found = scoring.evaluate_codes(archive(tmp_path, age=rng.uniform(size=600)), ("test_evaluate:spy", "sap"))
    scores = found["scores"]["codes"]
    assert scores["test_evaluate:spy"]["continuous"] == [False, False, False, True]
    assert 0 <= scores["sap"]["sap"] <= 1
    whole = scoring.evaluate_codes(archive(tmp_path, size=np.arange(600) % 2 + 0.0), ("test_evaluate:spy",))
    assert whole["scores"]["codes"]["test_evaluate:spy"]["factors"].dtype.kind == "i"


def test_repeated_rows_of_an_archive_are_one_image(tmp_path):
    codes, factors = np.random.default_rng(0).normal(size=(40, 2)), np.stack([np.arange(40) % 2, np.arange(40) % 3], 1)
    np.savez(tmp_path / "twice.npz", codes=np.tile(codes, (2, 1)), factors=np.tile(factors, (2, 1)))
    found = scoring.evaluate_codes(tmp_path / "twice.npz", ("test_evaluate:spy",))
    groups = found["scores"]["codes"]["test_evaluate:spy"]["groups"]
    np.testing.assert_array_equal(groups[:40], groups[40:])
    assert (found["num_images"], found["num_samples"]) == (40, 80)


def relabelled(monkeypatch, **fields):
    """Any workdir is now that of a model of these labels."""
    from deft_jax.training import restore

    plain = restore.load

    def load(workdir, step=None):
        model = plain(workdir, step)
        model.source = dataclasses.replace(model.source, **fields)
        return model

    monkeypatch.setattr(restore, "load", load)


def test_labels_of_any_kind_reach_the_metrics_by_column(listed, tmp_path, monkeypatch):
    """Of a constant label, a class, a real number and a label of one image, all but the first are scored."""
    shutil.copytree(listed[0], tmp_path / "run")
    rng = np.random.default_rng(0)
    labels = np.stack([np.ones(20), np.arange(20) % 2, rng.uniform(size=20), np.arange(20) == 3], axis=1)
    names = ("still", "class", "age", "rare")
    relabelled(monkeypatch, label_names=names, labels=labels, label_continuous=(False, False, True, False))
    options = {"test_evaluate:spy": {}, "sap": {"continuous": [False, False, True, False]}}
    found = scoring.evaluate(tmp_path / "run", options, variants=("mean",), **FEW)
    assert (found["left_out"], found["factor_names"]) == (["still"], ["class", "age", "rare"])
    spied = found["scores"]["mean"]["test_evaluate:spy"]
    assert spied["continuous"] == [False, True, False]
    np.testing.assert_array_equal(spied["factors"], labels[spied["groups"], 1:])
    assert "continuous must be" not in found["refused"]["mean"].get("sap", "")


def test_labels_that_do_not_vary_are_refused_before_anything_is_encoded(listed, monkeypatch):
    relabelled(monkeypatch, label_names=("still",), labels=np.ones((20, 1), np.int32))
    monkeypatch.setattr(encoder.Encoder, "__call__", lambda *_: pytest.fail("images were encoded"))
    with pytest.raises(ValueError, match="no factor varies in the sample"):
        scoring.evaluate(listed[0], ("mig",), **FEW)


def test_no_active_latent_is_a_reason(fresh, monkeypatch):
    from deft_jax.metrics import latents

    def all_passive(mean, logvar):
        nothing = np.zeros(mean.shape[1], bool)
        return {"active": nothing, "mixed": nothing, "passive": ~nothing}

    monkeypatch.setattr(latents, "active_latents", all_passive)
    found = scoring.evaluate(fresh, ("nmi",), **FEW)
    assert set(found["scores"]["mean"]) == {"nmi"}
    assert found["refused"]["mean_active"] == {"nmi": "no latent is active"}


# ---- results add up ----


def test_two_evaluations_of_one_sample_add_up_and_others_are_kept(fresh, capsys):
    scoring.evaluate(fresh, ("mig",), variants=("mean",), **FEW)
    scoring.evaluate(fresh, {"nmi": {"num_bins": 10}}, variants=("mean", "sampled"), **FEW)
    first = held(fresh)
    assert set(first["evaluation"]["scores"]["mean"]) == {"mig", "nmi"}
    assert set(first["evaluation"]["scores"]["sampled"]) == {"nmi"}
    assert first["evaluation"]["options"] == {"nmi": {"num_bins": 10}}
    assert set(first) == {"note", "evaluation"}
    assert "earlier_evaluations" not in capsys.readouterr().err

    scoring.evaluate(fresh, ("irs",), variants=("mean",), seed=3, **FEW)
    second = held(fresh)
    assert set(second["evaluation"]["scores"]["mean"]) == {"irs"}
    assert second["earlier_evaluations"] == [first["evaluation"]]
    assert "earlier_evaluations" in capsys.readouterr().err

    scoring.evaluate(fresh, ("irs",), variants=("mean",), **FEW)  # the first sample again
    third = held(fresh)
    assert set(third["evaluation"]["scores"]["mean"]) == {"mig", "nmi", "irs"}
    assert third["earlier_evaluations"] == [second["evaluation"]]

    scoring.evaluate(fresh, ("nmi",), variants=("mean",), **FEW)  # with other options
    assert set(held(fresh)["evaluation"]["scores"]["mean"]) == {"nmi"}
    assert len(held(fresh)["earlier_evaluations"]) == 2
    assert held(fresh)["note"] == [1, 2]


def test_other_codes_under_the_same_name_do_not_mix(tmp_path):
    target = archive(tmp_path).with_name("codes.npz.results.json")
    scoring.evaluate_codes(archive(tmp_path), ("mig",))
    scoring.evaluate_codes(archive(tmp_path), ("nmi",))
    assert set(json.loads(target.read_text())["evaluation"]["scores"]["codes"]) == {"mig", "nmi"}
    scoring.evaluate_codes(archive(tmp_path, more=np.arange(600) % 5), ("nmi",))
    assert set(json.loads(target.read_text())["evaluation"]["scores"]["codes"]) == {"nmi"}
    assert len(json.loads(target.read_text())["earlier_evaluations"]) == 1


# ---- folders of several runs, and how the command speaks ----


def test_the_folder_of_several_seeds_stands_for_all_of_them(workdir, tmp_path, capsys):
    config = json.loads((workdir / "config.json").read_text())
    for seed in (0, 1, 10):
        shutil.copytree(workdir, tmp_path / f"seed_{seed}")
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_seeds": 3}))
    few = ("--metrics", "mig,udr", "--num_samples", "300", "--variants", "mean", "--jobs", "1")
    evaluate.main(["--workdir", str(tmp_path), *few])
    out = capsys.readouterr().out
    assert out.splitlines()[3].split() == ["seed_0", "mean", "seed_1", "mean", "seed_10", "mean"]
    assert "udr, spearman: seed_0 " in out
    for seed in (0, 1, 10):
        assert held(tmp_path / f"seed_{seed}")["evaluation"]["scores"]["mean"]["mig"]
    with pytest.raises(ValueError, match="holds 3 runs; give the workdir of one"):
        scoring.evaluate(tmp_path, ("mig",), **FEW)


def test_the_folder_of_a_study_stands_for_its_runs(workdir, tmp_path, capsys):
    for name in ("a/seed_0", "b/seed_0"):
        shutil.copytree(workdir, tmp_path / name / "run")
    (tmp_path / "config.json").write_text('{"runs": {}}')
    few = ("--metrics", "mig", "--num_samples", "300", "--variants", "mean", "--jobs", "1")
    evaluate.main(["--workdir", str(tmp_path), *few])
    assert capsys.readouterr().out.splitlines()[2].split() == ["a/seed_0", "mean", "b/seed_0", "mean"]


def test_a_folder_of_seeds_without_any_is_refused(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"stages": {}, "num_seeds": 2}')
    with pytest.raises(SystemExit) as caught:
        evaluate.main(["--workdir", str(tmp_path)])
    assert caught.value.code == 2
    assert "holds no run yet" in capsys.readouterr().err


def test_runs_of_one_name_have_a_column_each(workdir, tmp_path, capsys):
    for name in ("a", "b"):
        shutil.copytree(workdir, tmp_path / name / "run")
    few = ("--metrics", "mig", "--num_samples", "300", "--variants", "mean", "--jobs", "1")
    evaluate.main(["--workdir", str(tmp_path / "a" / "run"), str(tmp_path / "b" / "run"), *few])
    [row] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("mig ")]
    assert len(row.split()) == 3


def test_the_table_names_estimators_and_has_no_counts(tmp_path, capsys):
    evaluate.main(["--codes", str(archive(tmp_path)), "--metrics", "test_evaluate:estimated"])
    out = capsys.readouterr().out
    assert out.splitlines()[1].split() == ["score", "(k-NN)", "0.250"]
    assert "num_distinct_train" not in out
    entry = json.loads((tmp_path / "codes.npz.results.json").read_text())["evaluation"]["scores"]["codes"]
    assert entry["test_evaluate:estimated"]["num_distinct_train"] == 12


def test_the_metrics_under_way_are_named_on_stderr_quick_ones_first(tmp_path, capsys):
    assert scoring.DEFAULT[:2] == ("mig", "nmi")
    assert scoring.DEFAULT[-1] == "dci"
    evaluate.main(["--codes", str(archive(tmp_path)), "--metrics", "mig,nmi"])
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in lines] == ["1/2  mig", "2/2  nmi"]


def test_a_leading_tilde_is_the_home_folder(workdir, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    archive(tmp_path)
    shutil.copytree(workdir, tmp_path / "run")
    evaluate.main(["--codes", "~/codes.npz", "--metrics", "mig"])
    assert (tmp_path / "codes.npz.results.json").exists()
    evaluate.main(["--workdir", "~/run", "--metrics", "mig", "--num_samples", "300", "--variants", "mean"])
    assert "mig" in held(tmp_path / "run")["evaluation"]["scores"]["mean"]
    with pytest.raises(SystemExit):
        evaluate.main(["--codes", "gs://bucket/codes.npz"])
    assert "--codes must be a path on a local or mounted file system" in capsys.readouterr().err
