"""Scores of a workdir or of an archive: written down, printed, and refused in one line where they cannot be."""

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
from deft_jax import data, evaluate, evaluation, loop, metrics

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
    assert model.config == json.loads((workdir / "config.json").read_text())
    factors = evaluation.draw_factors(model.source, 64, seed=0)
    scores = evaluation.score(model.encode_factors(factors).mean, factors)
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
    factors = evaluation.draw_factors(early.source, 5, seed=0)
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
    result = evaluate.evaluate(workdir, ARRAYS, **FEW)
    written = json.loads((workdir / "results.json").read_text())
    assert {name: value for name, value in written.items() if name != "evaluation"} == {
        name: value for name, value in before.items() if name != "evaluation"
    }
    told = written["evaluation"]
    assert (told["num_samples"], told["seed"]) == (400, 0)
    assert {"deft_jax", "jax", "numpy", "scipy", "sklearn", "python"} == set(told["versions"])
    model = deft_jax.load(workdir)
    factors = evaluation.draw_factors(model.source, 400, 0)
    mean = model.encode_factors(factors).mean
    for name in ARRAYS:
        expected = evaluation.headlines({name: metrics.compute(name, mean, factors)})
        assert evaluation.headlines({name: told["scores"]["mean"][name]}) == pytest.approx(expected)
    assert set(told["scores"]) == set(evaluate.VARIANTS)
    assert told["scores"]["sampled"] != told["scores"]["mean"]
    kinds = sorted(result["active"].tolist() + result["mixed"].tolist() + result["passive"].tolist())
    assert kinds == list(range(4))


def test_posteriors_are_scored_by_mean_and_logvar_whatever_the_codes(workdir):
    scores = evaluate.evaluate(workdir, ("mig_posterior",), variants=("mean", "sampled"), **FEW)["scores"]
    model = deft_jax.load(workdir)
    factors = evaluation.draw_factors(model.source, 400, 0)
    mean, logvar = model.encode_factors(factors)
    expected = metrics.compute("mig_posterior", mean, factors, logvar=logvar)["mig_posterior"]
    assert [scores[kind]["mig_posterior"]["mig_posterior"] for kind in scores] == pytest.approx([expected] * 2)


def test_passive_latents_are_left_out_of_the_active_scores(workdir, monkeypatch):
    from deft_jax.metrics import latents

    def third_is_passive(mean, logvar):
        passive = np.arange(mean.shape[1]) == 2
        return {"active": ~passive, "mixed": passive & False, "passive": passive}

    monkeypatch.setattr(latents, "active_latents", third_is_passive)
    result = evaluate.evaluate(workdir, ("nmi",), **FEW)
    whole, active = (np.asarray(result["scores"][name]["nmi"]["nmi"]) for name in ("mean", "mean_active"))
    np.testing.assert_allclose(active, np.delete(whole, 2, axis=0))


def test_metrics_that_draw_images_see_their_codes(workdir, monkeypatch):
    """The table gives what encoding each draw anew gives."""
    few = {"num_variance": 300, "num_train": 100, "num_eval": 60, "batch_size": 8}
    plain = metrics.get("factor_vae")
    monkeypatch.setattr(metrics, "get", lambda name: lambda *a: plain(*a, **few))
    found = evaluate.evaluate(workdir, ("factor_vae",), variants=("mean", "sampled"), **FEW)["scores"]
    model = deft_jax.load(workdir)
    expected = plain(lambda drawn: model.encode_factors(drawn).mean, model.source.factor_sizes, **few)
    np.testing.assert_array_equal(found["mean"]["factor_vae"]["factor_vae_votes"], expected["factor_vae_votes"])
    assert found["mean"]["factor_vae"]["factor_vae"] == expected["factor_vae"]
    assert 0 <= found["sampled"]["factor_vae"]["factor_vae"] <= 1


def test_the_seed_reaches_the_metrics_that_draw(workdir):
    """With the codes of one sample alone, another seed splits them otherwise."""
    model = deft_jax.load(workdir)
    factors = evaluation.draw_factors(model.source, 400, 7)
    expected = metrics.get("sap")(model.encode_factors(factors).mean, factors, seed=7)
    found = evaluate.evaluate(workdir, ("sap",), seed=7, variants=("mean",), **FEW)["scores"]["mean"]["sap"]
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
    assert in_a_process(tmp_path, *arguments, "--jobs", "3") == (printed, line)
    assert scores() == serial


def test_a_process_that_dies_is_an_error_of_its_run_alone():
    shares = queue.SimpleQueue()
    shares.put(evaluation.cores())
    assert "fewer --jobs" in str(evaluate._apart(os._exit, shares, 3))
    assert evaluate._apart(abs, shares, -3) == 3


@pytest.fixture(scope="module", params=[True, False], ids=["labelled", "unlabelled"])
def listed(request, tmp_path_factory):
    """A run on a set that does not hold every combination of its factors: its workdir, and whether it has labels."""
    directory = tmp_path_factory.mktemp("listed") / "run"
    data = {"name": "listed_squares", "labelled": request.param}
    loop.run(tiny.config(data=data), directory, jax.devices()[:1])
    return directory, request.param


def test_a_listed_set_has_the_scores_that_its_labels_allow(listed, tmp_path, capsys):
    directory, labelled = listed
    scores = evaluate.evaluate(directory, variants=("mean",), **FEW)["scores"]["mean"]
    if labelled:
        assert set(scores) == set(evaluate.DEFAULT) - {"factor_vae"}
        model = deft_jax.load(directory)
        factors = evaluation.draw_factors(model.source, 400, 0)
        expected = metrics.compute("mig", model.encode_factors(factors).mean, model.source.ground_truth(factors))
        assert scores["mig"]["mig"] == pytest.approx(expected["mig"])
        refused = {"factor_vae": "needs a set that holds every combination of its factors"}
    else:
        assert set(scores) == {"gaussian_total_correlation"}
        refused = {"mig": "the metric 'mig' needs factors", "beta_vae": "needs a set that holds every combination"}
    for name, fault in refused.items():
        with pytest.raises(ValueError, match=fault) as caught:
            evaluate.evaluate(directory, (name,), **FEW)
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
    assert "mig_posterior" not in evaluate.evaluate_codes(path, None)["scores"]["codes"]
    refused = run("--codes", path, "--metrics", "mig_posterior")
    assert refused.returncode == 2
    assert "looks at posteriors: give their logvar" in refused.stderr
    np.savez(path, codes=factors[:, ::-1].astype(np.float32), factors=factors, logvar=np.full((512, 3), -9.0))
    found = evaluate.evaluate_codes(path, ("mig", "mig_posterior"))["scores"]["codes"]
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
            evaluate.evaluate_codes(path, ("mig",))
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
        evaluate.compare([workdir, other])


def test_every_metric_of_the_registry_can_be_found():
    for name in metrics.REGISTRY:
        assert metrics.get(name).__name__ == name
    with pytest.raises(ValueError, match="takes encode and factor_sizes"):
        metrics.compute("factor_vae", np.zeros((4, 1)), np.zeros((4, 1), int))
    assert data.get("squares").factor_names
