"""Metrics that are computed during a training: of which factors and images, and once."""

import numpy as np
import pytest
import runs
import tiny

from deft_jax.evaluation import encoder
from deft_jax.evaluation import scores as evaluation_scores
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
