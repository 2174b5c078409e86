"""What is accepted is carried to its end, also after an interruption, a failure or a new version."""

import json
import signal

import numpy as np
import pytest
import test_portable
import tiny

import deft_jax
from deft_jax import data
from deft_jax.annealing import measure
from deft_jax.evaluation import encoder, figures
from deft_jax.evaluation import scores as evaluation_scores
from deft_jax.reporting import page
from deft_jax.runtime.signals import Interrupted
from deft_jax.studies import scoring
from deft_jax.training import config as training_config
from deft_jax.training import session
from deft_jax.training.metrics_log import read_records


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr(figures, "figures", lambda **_: {})
    monkeypatch.setattr(figures, "history_figures", lambda *_, **__: {})


def scores(workdir):
    records = [record for record in read_records(workdir / "metrics.jsonl") if record["kind"] == "score"]
    return [(record["step"], *sorted(record.keys() - {"kind", "step", "stage"})) for record in records]


@pytest.mark.parametrize("every", [4, 2, 5])
def test_too_few_evaluations_to_read_freezing_points_from_are_refused_first(tmp_path, every):
    config = test_portable.annealing_config()
    config["whole"] |= {"total_steps": 4, "evaluation": {"every": every, "num_samples": 20, "seed": 0}}
    with pytest.raises(ValueError, match=r"whole\.evaluation\.every must be at most 1 "):
        measure.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_whole_set_that_was_interrupted_and_scored_is_trained_to_its_end(tmp_path, monkeypatch):
    config, run = test_portable.annealing_config(), session.Runner.run

    def stopping(self, stage, state, steps):
        state, found = run(self, stage, state, steps)
        if int(np.asarray(state.step)) == 4:
            signal.raise_signal(signal.SIGTERM)
        return state, found

    with monkeypatch.context() as patch:
        patch.setattr(session.Runner, "run", stopping)
        with pytest.raises(Interrupted):
            measure.run(config, tmp_path)
    scoring.evaluate(tmp_path / "whole", ["gaussian_total_correlation"], num_samples=20, variants=("mean",))
    results = measure.run(config, tmp_path)
    assert len(results["whole"]["history"]["beta"]) == 3
    # How the points become betas is no part of what was measured.
    config["betas"] = {"source": "spectrum", "last": 0.5}
    assert measure.run(config, tmp_path)["whole"]["points"] == results["whole"]["points"]
    assert json.loads((tmp_path / "betas.json").read_text())["betas"][-1] == 0.5


def test_metrics_on_the_way_leave_out_a_factor_that_is_constant_in_the_sample(tmp_path):
    factors = np.stack([np.arange(60) % 3, np.arange(60) % 5, np.zeros(60, int)], axis=1)
    factors[0, 2] = 1  # which the sample of 20 does not draw
    images = test_portable.RNG.integers(0, 255, (60, 16, 16, 1), dtype=np.uint8)
    path = test_portable.archive(tmp_path / "set.npz", images, factors=factors)
    config = test_portable.config_of(path, evaluation={"num_samples": 20}, periodic_metrics={"sap": {"every": 2}})
    assert len(np.unique(training_config.build(config).source.ground_truth(encoder.draw_factors(
        training_config.build(config).source, 20, 0))[:, 2])) == 1
    session.run(config, tmp_path / "run")
    assert scores(tmp_path / "run") == [(2, "sap"), (4, "sap")]


def test_a_metric_that_failed_is_tried_again_and_the_others_are_not_logged_twice(tmp_path, monkeypatch):
    config, metric = tiny.config(periodic_metrics={"sap": {"every": 8}, "mig": {"every": 8}}), evaluation_scores.metric

    def fails(name, *rest, **options):
        if name == "sap":
            raise RuntimeError("no such luck")
        return metric(name, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(evaluation_scores, "metric", fails)
        for _ in range(2):
            session.run(config, tmp_path)
            assert scores(tmp_path) == [(8, "mig")]
    session.run(config, tmp_path)
    assert scores(tmp_path) == [(8, "mig"), (8, "sap")]


def test_damaged_results_are_refused_before_the_first_step(tmp_path):
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(ValueError, match=r"cannot read .*results\.json"):
        session.run(tiny.config(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_a_run_of_an_earlier_version_with_a_relative_path_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    test_portable.archive(tmp_path / "set.npz")
    config = test_portable.config_of("set.npz")
    session.run(config, "run")
    held = json.loads((tmp_path / "run" / "config.json").read_text())
    held["data"]["path"] = "set.npz"
    (tmp_path / "run" / "config.json").write_text(json.dumps(held))
    for name in ("source.json", "sample.npz"):
        (tmp_path / "run" / name).unlink()
    assert session.run(config, "run")["step"] == 4


def test_black_and_white_is_the_same_as_bytes_and_as_bool(trained_once):
    model = deft_jax.load(trained_once)
    images = np.asarray(model.source.render(model.source.arrays, np.array([[1, 2, 3]], np.int32), None))
    np.testing.assert_allclose(model.encode(images.astype(np.uint8)).mean, model.encode(images).mean, atol=1e-6)
    np.testing.assert_array_equal(model.encode(images.astype(bool)).mean, model.encode(images).mean)
    np.testing.assert_allclose(model.encode((255 * images).astype(np.uint8)).mean, model.encode(images).mean, atol=1e-6)


def test_a_metric_that_needs_two_factors_is_refused_first():
    config = tiny.config(data={"name": "squares(size=0, posX=0)"}, periodic_metrics={"factor_vae": {"every": 4}})
    with pytest.raises(ValueError, match=r"periodic_metrics\.factor_vae needs two factors"):
        session.run(config, "never")


def test_remarks_are_printed_once_by_an_annealing_test(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(data.SOURCES, "remarkable", "test_portable:remarkable")
    measure.run(test_portable.annealing_config() | {"data": {"name": "remarkable"}}, tmp_path)
    printed = capsys.readouterr()
    assert (printed.out + printed.err).count("2 files left out") == 1


def test_a_page_without_the_data_is_escaped_once(tmp_path):
    path = test_portable.archive(tmp_path / "set.npz")
    session.run(test_portable.config_of(path), tmp_path / "run")
    (tmp_path / "set.npz").unlink()
    assert "&amp;#x27;" not in page.report([tmp_path / "run"], tmp_path / "page.html").read_text()
