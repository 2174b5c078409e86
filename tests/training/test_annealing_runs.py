"""Annealing tests as runs: they resume, and keep what they have measured."""

import json
import signal

import pytest
import tiny

from deft_jax import data
from deft_jax.annealing import measure, spectrum
from deft_jax.runtime.signals import Interrupted
from deft_jax.studies import scoring

pytestmark = pytest.mark.usefixtures("shared_programs")


def annealing_config():
    whole = {"smooth": 1, "total_steps": 6, "log_every": 2, "evaluation": {"every": 2, "num_samples": 20, "seed": 0}}
    whole["checkpoints"] = {"every": 4, "keep": 1}
    return tiny.annealing(instruments=("spectrum", "whole"), whole=whole, betas={"source": "spectrum"})


@pytest.mark.parametrize("every", [2, 5])
def test_too_few_evaluations_for_freezing_points_are_refused(tmp_path, every):
    config = annealing_config()
    config["whole"] |= {"total_steps": 4, "evaluation": {"every": every, "num_samples": 20, "seed": 0}}
    with pytest.raises(ValueError, match=r"whole\.evaluation\.every must be at most 1 "):
        measure.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_whole_set_that_was_interrupted_and_scored_is_trained_to_its_end(tmp_path, after_dispatch):
    config, stops = annealing_config(), [4]

    def act(step, state, metrics):
        if step in stops:
            signal.raise_signal(signal.SIGTERM)
            stops.remove(step)
        return state, metrics

    after_dispatch(act)
    with pytest.raises(Interrupted):
        measure.run(config, tmp_path)
    scoring.evaluate(tmp_path / "whole", ["gaussian_total_correlation"], num_samples=20, variants=("mean",))
    results = measure.run(config, tmp_path)
    assert len(results["whole"]["history"]["beta"]) == 3
    # The rule for betas is not part of the measurement.
    config["betas"]["last"] = 0.5
    assert measure.run(config, tmp_path)["whole"]["points"] == results["whole"]["points"]
    assert json.loads((tmp_path / "betas.json").read_text())["betas"][-1] == 0.5


def test_measured_points_stay_when_a_repeated_call_is_interrupted(tmp_path, monkeypatch):
    results = measure.run(annealing_config(), tmp_path / "run")

    def interrupted(*_):
        raise Interrupted("stopped")

    monkeypatch.setattr(spectrum.SpectrumInstrument, "measure", interrupted)
    with pytest.raises(Interrupted):
        measure.run(annealing_config(), tmp_path / "run")
    saved = json.loads((tmp_path / "run" / "freezing.json").read_text())
    assert saved["whole"]["points"] == results["whole"]["points"]


def test_remarks_are_printed_once_by_an_annealing_test(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(data.SOURCES, "remarkable", "runs:squares_with_remarks")
    measure.run(annealing_config() | {"data": {"name": "remarkable"}}, tmp_path)
    printed = capsys.readouterr()
    assert (printed.out + printed.err).count("2 files left out") == 1
