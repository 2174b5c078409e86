"""Periodic metrics, images and workdirs of an earlier version that a run accepts."""

import json

import numpy as np
import pytest
import runs
import tiny

import deft_jax
from deft_jax.evaluation import encoder
from deft_jax.evaluation import scores as evaluation_scores
from deft_jax.reporting import page
from deft_jax.training import build as training_build
from deft_jax.training import session
from deft_jax.training.metrics_log import read_records

pytestmark = pytest.mark.usefixtures("shared_programs")


def scores(workdir):
    records = [record for record in read_records(workdir / "metrics.jsonl") if record["kind"] == "score"]
    return [(record["step"], *sorted(record.keys() - {"kind", "step", "stage"})) for record in records]


def test_periodic_metrics_leave_out_a_factor_that_is_constant_in_the_sample(tmp_path):
    factors = np.stack([np.arange(60) % 3, np.arange(60) % 5, np.zeros(60, int)], axis=1)
    factors[0, 2] = 1  # which the sample of 20 does not draw
    images = runs.random_images(60)
    path = runs.archive(tmp_path / "set.npz", images, factors=factors)
    config = runs.archive_config(path, evaluation={"num_samples": 20}, periodic_metrics={"sap": {"every": 2}})
    source = training_build.build(config).source
    assert len(np.unique(source.ground_truth(encoder.draw_factors(source, 20, 0))[:, 2])) == 1
    session.run(config, tmp_path / "run")
    assert scores(tmp_path / "run") == [(2, "sap"), (4, "sap")]


def test_metrics_during_training_are_held_out_by_image(tmp_path, monkeypatch):
    compute, seen = evaluation_scores.metric, []

    def metric(*args, **options):
        seen.append(options["groups"])
        return compute(*args, **options)

    monkeypatch.setattr(evaluation_scores, "metric", metric)
    config = tiny.config(periodic_metrics={"sap": {"every": 4}}, evaluation={"num_samples": 20})
    session.run(config, tmp_path / "run")
    drawn = encoder.draw_factors(tiny.squares(), 20, 0)
    assert len(seen) == 3  # the check before the first step, and steps 4 and 8
    for groups in seen:
        np.testing.assert_array_equal(groups, np.ravel_multi_index(tuple(drawn.T), (2, 4, 4)))


def test_failed_metric_is_computed_at_the_next_start_and_no_other_is_logged_twice(tmp_path, monkeypatch):
    config, metric = tiny.config(periodic_metrics={"sap": {"every": 8}, "mig": {"every": 8}}), evaluation_scores.metric

    def fails(name, encode, codes, *rest, **options):
        if name == "sap" and np.ptp(codes):  # codes of a model
            raise RuntimeError("no such luck")
        return metric(name, encode, codes, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(evaluation_scores, "metric", fails)
        for _ in range(2):
            session.run(config, tmp_path)
            assert scores(tmp_path) == [(8, "mig")]
    session.run(config, tmp_path)
    assert scores(tmp_path) == [(8, "mig"), (8, "sap")]


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


def test_black_and_white_images_are_the_same_as_bytes_and_as_bool(trained_once):
    model = deft_jax.load(trained_once)
    images = np.asarray(model.source.render(model.source.arrays, np.array([[1, 2, 3]], np.int32), None))
    np.testing.assert_allclose(model.encode(images.astype(np.uint8)).mean, model.encode(images).mean, atol=1e-6)
    np.testing.assert_array_equal(model.encode(images.astype(bool)).mean, model.encode(images).mean)
    np.testing.assert_allclose(model.encode((255 * images).astype(np.uint8)).mean, model.encode(images).mean, atol=1e-6)


def test_page_without_the_data_is_escaped_once(tmp_path):
    path = runs.archive(tmp_path / "set.npz")
    session.run(runs.archive_config(path), tmp_path / "run")
    (tmp_path / "set.npz").unlink()
    assert "&amp;#x27;" not in page.report([tmp_path / "run"], tmp_path / "page.html").read_text()
