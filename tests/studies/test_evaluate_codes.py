"""Scores of an archive of codes: written beside it, printed, or refused in one line."""

import json

import numpy as np
import pytest
from custom_metrics import archive

from deft_jax import evaluate
from deft_jax.studies import scoring


def refused(path, metrics, capsys):
    """The line on stderr of a command that ends with status 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        evaluate.main(["--codes", str(path), "--metrics", metrics])
    assert caught.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


def test_an_archive_of_codes_is_scored_as_its_arrays_allow(tmp_path, capsys, monkeypatch):
    factors = np.stack(np.meshgrid(range(8), range(8), range(8)), axis=-1).reshape(-1, 3)
    path = tmp_path / "codes.npz"
    np.savez(path, codes=factors[:, ::-1].astype(np.float32), factors=factors)
    evaluate.main(["--codes", str(path), "--metrics", "mig,sap"])
    written = json.loads((tmp_path / "codes.npz.results.json").read_text())["evaluation"]
    assert written["scores"]["codes"]["mig"]["mig"] == pytest.approx(1)
    assert written["num_samples"] == 512
    monkeypatch.setattr(scoring, "DEFAULT", ("mig", "mig_posterior"))
    assert set(scoring.evaluate_codes(path, None)["scores"]["codes"]) == {"mig"}
    assert "looks at posteriors: give their logvar" in refused(path, "mig_posterior", capsys)
    assert "needs a model, not an archive of codes: give --workdir" in refused(path, "factor_vae", capsys)
    np.savez(path, codes=factors[:, ::-1].astype(np.float32), factors=factors, logvar=np.full((512, 3), -9.0))
    result = scoring.evaluate_codes(path, ("mig", "mig_posterior"))["scores"]["codes"]
    assert result["mig_posterior"]["mig_posterior"] == pytest.approx(1)


def test_a_factor_that_does_not_vary_is_left_out_and_named(tmp_path, capsys):
    path = archive(tmp_path, still=np.full(600, 5))
    evaluate.main(["--codes", str(path), "--metrics", "mig,sap"])
    assert "left out, constant in the sample: factor 3" in capsys.readouterr().out.splitlines()
    result = json.loads(path.with_name("codes.npz.results.json").read_text())["evaluation"]
    assert (result["left_out"], result["factor_names"]) == (["factor 3"], ["factor 0", "factor 1", "factor 2"])
    without = scoring.evaluate_codes(archive(tmp_path, name="without.npz"), ("mig", "sap"))
    assert result["scores"]["codes"]["mig"]["mig"] == pytest.approx(without["scores"]["codes"]["mig"]["mig"])
    assert len(result["scores"]["codes"]["sap"]["sap_per_factor"]) == 3


def test_an_archive_may_hold_real_numbers_beside_classes(tmp_path):
    rng = np.random.default_rng(0)
    result = scoring.evaluate_codes(archive(tmp_path, age=rng.uniform(size=600)), ("custom_metrics:spy", "sap"))
    scores = result["scores"]["codes"]
    assert scores["custom_metrics:spy"]["continuous"] == [False, False, False, True]
    assert 0 <= scores["sap"]["sap"] <= 1
    whole = scoring.evaluate_codes(archive(tmp_path, size=np.arange(600) % 2 + 0.0), ("custom_metrics:spy",))
    assert whole["scores"]["codes"]["custom_metrics:spy"]["factors"].dtype.kind == "i"


def test_repeated_rows_of_an_archive_are_one_image(tmp_path):
    codes, factors = np.random.default_rng(0).normal(size=(40, 2)), np.stack([np.arange(40) % 2, np.arange(40) % 3], 1)
    np.savez(tmp_path / "twice.npz", codes=np.tile(codes, (2, 1)), factors=np.tile(factors, (2, 1)))
    result = scoring.evaluate_codes(tmp_path / "twice.npz", ("custom_metrics:spy",))
    groups = result["scores"]["codes"]["custom_metrics:spy"]["groups"]
    np.testing.assert_array_equal(groups[:40], groups[40:])
    assert (result["num_images"], result["num_samples"]) == (40, 80)


def test_other_codes_under_the_same_name_do_not_mix(tmp_path):
    target = archive(tmp_path).with_name("codes.npz.results.json")
    scoring.evaluate_codes(archive(tmp_path), ("mig",))
    scoring.evaluate_codes(archive(tmp_path), ("nmi",))
    assert set(json.loads(target.read_text())["evaluation"]["scores"]["codes"]) == {"mig", "nmi"}
    scoring.evaluate_codes(archive(tmp_path, more=np.arange(600) % 5), ("nmi",))
    assert set(json.loads(target.read_text())["evaluation"]["scores"]["codes"]) == {"nmi"}
    assert len(json.loads(target.read_text())["earlier_evaluations"]) == 1


def test_a_leading_tilde_is_the_home_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    archive(tmp_path)
    evaluate.main(["--codes", "~/codes.npz", "--metrics", "mig"])
    assert (tmp_path / "codes.npz.results.json").exists()
    with pytest.raises(SystemExit):
        evaluate.main(["--codes", "gs://bucket/codes.npz"])
    assert "--codes must be a path on a local or mounted file system" in capsys.readouterr().err
