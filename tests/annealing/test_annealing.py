"""The annealing test as a command: three instruments, one result, betas that training takes."""

import csv
import importlib.util
import json
import pathlib
import re
import signal
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from deft_jax import data
from deft_jax.annealing import freezing_points, measure, stages
from deft_jax.annealing import instrument as annealing_instrument
from deft_jax.annealing.config import parse_annealing
from deft_jax.annealing.trial_program import TrialRunner
from deft_jax.data.source import Source
from deft_jax.evaluation import scores
from deft_jax.models.posterior import Posterior
from deft_jax.runtime.signals import Interrupted
from deft_jax.runtime.validation import ConfigErrors

config = tiny.annealing


@pytest.fixture(scope="module")
def measured(shared_programs, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("annealing") / "run"
    return workdir, measure.run(config(), workdir)


def test_one_result_file_holds_all_three_instruments(measured):
    workdir, results = measured
    assert json.loads((workdir / "freezing.json").read_text()) == results
    assert {"spectrum", "trials", "whole"} <= set(results)
    names = set(data.get("squares").factor_names)
    for instrument in measure.INSTRUMENTS:
        assert set(results[instrument]["points"]) == names
        assert results[instrument]["seconds"] > 0
    figures = {path.name for path in (workdir / "figures").iterdir()}
    assert {"spectrum.png", "kl_over_beta.png", "freezing_points.png", "whole_set.png"} <= figures


def test_trials_csv_has_one_row_per_trial_with_the_freezing_point_of_its_curve(measured):
    workdir, results = measured
    rows = list(csv.DictReader((workdir / "trials.csv").open()))
    source = data.get("squares")
    assert [row["factor"] for row in rows] == [name for name in source.factor_names for _ in range(6)]
    with np.load(workdir / "curves.npz", allow_pickle=False) as arrays:
        for row, kl_E in zip(rows, arrays["kl"], strict=True):
            point = freezing_points.freezing_point(arrays["betas"], kl_E, 0.1, 3)
            assert float(row["ifp"]) == pytest.approx(point.beta, rel=1e-5)
            assert row["censored"] == point.censored
            assert row[f"fixed_{row['factor']}"] == ""
            assert point.censored or point.beta < 1.02 * float(row["bound"])
        assert len(arrays["betas_fast"]) == len(arrays["betas"]) == 40
    summary = results["trials"]["factors"]["posX"]
    points = [freezing_points.Point(float(row["ifp"]), row["censored"]) for row in rows if row["factor"] == "posX"]
    assert summary["median"]["beta"] == pytest.approx(freezing_points.summarise(points).median.beta, rel=1e-5)
    assert summary["count"] == 6
    assert summary["interval"] is not None


def test_a_sweep_starts_above_the_bounds_of_all_trials(measured):
    _, results = measured
    bounds = [row["bound"] for row in results["trials"]["rows"]]
    assert results["trials"]["beta_max"] == pytest.approx(annealing_instrument.HEADROOM * max(bounds))
    top = results["spectrum"]["eigenvalues"][0]
    assert results["whole"]["beta_max"] == pytest.approx(annealing_instrument.HEADROOM * top, rel=1e-4)


def test_betas_of_each_instrument_follow_the_rule_from_its_points(measured):
    workdir, results = measured
    chosen = json.loads((workdir / "betas.json").read_text())
    assert chosen == json.loads((workdir / "betas_trials.json").read_text())
    points = {name: point["beta"] for name, point in results["trials"]["points"].items() if not point["censored"]}
    expected = stages.stage_betas(points, last=1.0, separation=1.1, max_stages=2)
    assert chosen["betas"] == pytest.approx(expected.betas)
    assert chosen["stages"] == expected.stages
    assert all(np.diff(chosen["betas"]) < 0)


def test_the_same_command_again_changes_nothing(measured):
    workdir, results = measured
    before = {path: path.read_bytes() for path in (workdir / "trials.csv", workdir / "betas.json")}
    again = measure.run(config(), workdir)
    assert again["trials"]["rows"] == results["trials"]["rows"]
    assert again["whole"]["latents"] == results["whole"]["latents"]
    assert {path: path.read_bytes() for path in before} == before
    with pytest.raises(ValueError, match="seed"):
        measure.run(config(seed=1), workdir)


def test_interrupted_in_the_trials_it_resumes_to_the_same_points(measured, tmp_path, monkeypatch):
    run, stops = TrialRunner.run, []

    def stopping(self, state, steps):
        state = run(self, state, steps)
        if int(np.asarray(state.step)) >= 200 and len(stops) < 2:
            stops.append(int(np.asarray(state.step)))
            signal.raise_signal(signal.SIGTERM)
        return state

    monkeypatch.setattr(TrialRunner, "run", stopping)
    only_trials = config(instruments=("trials",))
    for _ in range(2):
        with pytest.raises(Interrupted, match=r"200|300"):
            measure.run(only_trials, tmp_path / "run")
        assert not (tmp_path / "run" / "freezing.json").exists()
    results = measure.run(only_trials, tmp_path / "run")
    assert stops == [200, 300]
    assert results["trials"]["rows"] == measured[1]["trials"]["rows"]


def constant(arrays, factors_NxF, key):
    return jnp.full((len(factors_NxF), 16, 16, 1), 0.5)


def constant_source():
    return Source(("a", "b"), (4, 1), (16, 16, 1), "bernoulli", (), constant)


@pytest.fixture(autouse=True)
def constant_images(monkeypatch):
    monkeypatch.setitem(data.SOURCES, "constant", f"{__name__}:constant_source")


INVALID = [
    ({"seed": -1}, "seed"),
    ({"data": {"name": "mnist"}}, "data.name"),
    ({"data": {"colour": 1}}, "data.* 'colour'"),
    ({"instruments": ("guess",)}, "instruments"),
    ({"instruments": ()}, "instruments"),
    ({"instruments": "spectrum"}, "instruments"),
    ({"spectrum": {"modes": 3}}, "spectrum.* 'modes'"),
    ({"spectrum": {"num_modes": 0}}, "spectrum.num_modes"),
    ({"spectrum": {"share": float("nan")}}, "spectrum.share"),
    ({"trials": {"num_trials": 0}}, "trials.num_trials"),
    ({"trials": {"steps": 440}}, "trials.steps"),
    ({"trials": {"threshold": 0.0}}, "trials.threshold"),
    ({"trials": {"smooth": 2}}, "trials.smooth"),
    ({"trials": {"batch_size": 5}}, "trials.batch_size"),
    ({"trials": {"fall": "cubic"}}, "trials.fall"),
    ({"trials": {"beta_max": -1.0}}, "trials.beta_max"),
    ({"trials": {"beta_max": 5.0, "beta_min": 6.0}}, "trials.beta_min"),
    ({"whole": None}, "whole"),
    ({"whole": {"smooth": 0}}, "whole.smooth"),
    ({"whole": {"beta_min": 0.0}}, "whole.beta_min"),
    ({"whole": {"evaluation": {"every": 39, "num_samples": 64}}}, "whole.evaluation.every"),
    ({"betas": {"source": "guess"}}, "betas.source"),
    ({"betas": {"source": "whole"}, "instruments": ("trials",)}, "betas.source"),
    ({"betas": {"last": "low"}}, "betas.last"),
    ({"betas": {"gap": 2.0}}, "betas.* 'gap'"),
]


@pytest.mark.parametrize(("changes", "field"), INVALID, ids=lambda value: value if isinstance(value, str) else "")
def test_an_invalid_configuration_is_refused_and_nothing_is_written(changes, field, tmp_path):
    with pytest.raises(ConfigErrors, match=field):
        measure.run(config(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


UNFIT = [
    ({"trials": {"factors": ("colour",)}}, "trials.factors.*colour"),
    ({"data": {"name": "constant"}, "trials": {"factors": ("b",)}}, "trials.factors.*'b'"),
    ({"data": {"name": "constant"}, "instruments": ("trials",)}, "all the same"),
    ({"data": {"name": "constant"}, "instruments": ("whole",), "betas": {"source": "whole"}}, "all the same"),
    ({"trials": {"beta_max": 5.0}}, "trials.beta_max"),
    ({"whole": {"beta_max": 5.0}}, "whole.beta_max"),
    ({"trials": {"beta_min": 1e6}}, "trials.beta_min"),
    ({"whole": {"beta_min": 1e6}}, "whole.beta_min"),
]


@pytest.mark.parametrize(("changes", "key_words"), UNFIT, ids=lambda value: value if isinstance(value, str) else "")
def test_a_configuration_that_does_not_fit_the_data_set_is_refused_and_nothing_is_written(changes, key_words, tmp_path):
    with pytest.raises(ValueError, match=key_words):
        measure.run(config(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_trials_that_diverge_stop_with_the_step(tmp_path):
    divergent = config(instruments=("trials",), trials={"learning_rate": 1e30})
    with pytest.raises(FloatingPointError, match=r"trial \d+ .* step \d+"):
        measure.run(divergent, tmp_path / "run")


def command(module, *arguments):
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)], env=tiny.ENVIRONMENT, capture_output=True, text=True
    )


@pytest.mark.slow
def test_the_command_prints_the_fields_by_which_a_training_takes_its_betas(tmp_path):
    """The workdir of the training holds the numbers, not the path."""
    (tmp_path / "anneal.py").write_text(
        "import tiny\nfrom ml_collections import ConfigDict\n"
        "def get_config():\n    return ConfigDict(tiny.annealing(instruments=('spectrum',),"
        " betas={'source': 'spectrum', 'last': 0.5}))\n"
    )
    annealing = command("deft_jax.annealing", f"--config={tmp_path / 'anneal.py'}", f"--workdir={tmp_path / 'ifp'}")
    assert annealing.returncode == 0, annealing.stderr
    fields = re.findall(r"--config\.\S+=@\S+", annealing.stdout)
    assert len(fields) == 3

    tiny.write_config(tmp_path / "train.py", model={"groups": (2, 2)})
    run = tmp_path / "run"
    training = command("deft_jax.train", f"--config={tmp_path / 'train.py'}", f"--workdir={run}", *fields)
    assert training.returncode == 0, training.stderr
    betas = json.loads((tmp_path / "ifp" / "betas.json").read_text())
    saved = json.loads((run / "config.json").read_text())
    assert saved["stages"]["betas"] == betas["betas"]
    assert saved["model"]["groups"] == betas["groups"]
    assert saved["model"]["latents"] == betas["latents"] == sum(betas["groups"])
    first = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    assert first["beta"] == pytest.approx(betas["betas"][0], rel=1e-6)


ROOT = pathlib.Path(__file__).parents[2]


def choices():
    spec = importlib.util.spec_from_file_location("ifp", ROOT / "configs" / "ifp_dsprites.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("choice", ["", "full", "correlated", "translation,full", "color_dsprites"])
def test_every_choice_of_the_config_is_valid_and_fits_its_data_set(choice):
    values = parse_annealing(choices().get_config(choice))
    source = data.get(values.data.name, only=values.data.only, **values.data.options)
    assert source.is_grid
    assert set(values.trials.factors) <= set(source.factor_names)


def test_the_config_opens_with_its_command_and_names_an_unknown_choice():
    text = (ROOT / "configs" / "ifp_dsprites.py").read_text()
    assert "python -m deft_jax.annealing --config configs/ifp_dsprites.py" in text
    with pytest.raises(ValueError, match="'mnist'"):
        choices().get_config("mnist")


def test_factor_information_is_that_of_the_best_latent_and_nothing_where_all_is_noise():
    """z = value of a factor of n values, well separated: log n nats; a collapsed latent whose mean varies: none."""
    rng = np.random.default_rng(0)
    factors = np.stack([rng.integers(0, size, 6000) for size in (5, 7, 3)], axis=1)
    mean = np.stack([factors[:, 0], 1e-3 * factors[:, 1], 0 * factors[:, 2]], axis=1).astype(float)
    nats_F = scores.factor_information(Posterior(mean, np.tile([-9.0, 0.0, 0.0], (6000, 1))), factors, seed=1)
    np.testing.assert_allclose(nats_F[0], np.log(5), rtol=0.01)
    assert np.all(nats_F[1:] < 0.01)


def test_records_of_the_training_hold_the_information(measured):
    records = [json.loads(line) for line in (measured[0] / "whole" / "metrics.jsonl").read_text().splitlines()]
    evaluated = [record for record in records if record["kind"] == "eval"]
    assert len(evaluated) == 10
    for record in evaluated:
        assert len(record["factor_information"]) == len(data.get("squares").factor_names)
        assert record["mutual_information"] <= np.log(64) + 1e-4
        assert record["mutual_information_upper"] >= record["mutual_information"] - 1e-4
