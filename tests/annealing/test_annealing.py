"""The annealing test as a command: three instruments, one result, betas that training takes."""

import copy
import csv
import importlib.util
import json
import pathlib
import signal
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from deft_jax import data
from deft_jax.annealing import freezing_points, measure, spectrum, stages
from deft_jax.annealing import instrument as annealing_instrument
from deft_jax.annealing.trial_program import TrialRunner
from deft_jax.data.source import Source
from deft_jax.evaluation import scores
from deft_jax.models.posterior import Posterior
from deft_jax.runtime.signals import Interrupted

CONFIG = {
    "seed": 0,
    "data": {"name": "squares"},
    "instruments": ("spectrum", "trials", "whole"),
    "spectrum": {"num_modes": 6, "num_samples": 500, "share": 0.4},
    "trials": {
        "factors": (), "num_trials": 6, "steps": 400, "fall": "geometric", "beta_max": None, "beta_min": 1.0,
        "threshold": 0.1, "smooth": 3, "latents": 1, "hidden": 8, "batch_size": 16, "learning_rate": 1e-2,
        "points": 40, "checkpoint_every": 100,
    },
    "whole": {
        "beta_max": None, "beta_min": 1.0, "threshold": 0.1, "smooth": 3, "batch_size": 16, "total_steps": 40,
        "model": {"latents": 3, "width": 2, "hidden": 8, "decoder_width": 2, "decoder_hidden": 8},
        "optimizer": {"learning_rate": 1e-2, "decoder_learning_rate": 1e-2, "decay": "constant"},
        "log_every": 10, "evaluation": {"every": 4, "num_samples": 64, "seed": 0},
        "checkpoints": {"every": 20, "keep": 2},
    },
    "betas": {"source": "trials", "last": 1.0, "separation": 1.1, "max_stages": 2},
}  # fmt: skip


def config(**changes):
    """The configuration above; a mapping among `changes` replaces single fields of its section."""
    made = copy.deepcopy(CONFIG)
    for name, value in changes.items():
        made[name] = made[name] | value if isinstance(value, dict) else value
    return made


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("annealing") / "run"
    return workdir, measure.run(config(), workdir)


def test_one_result_file_holds_all_three_instruments(done):
    workdir, results = done
    assert json.loads((workdir / "freezing.json").read_text()) == results
    assert {"spectrum", "trials", "whole"} <= set(results)
    names = set(data.get("squares").factor_names)
    for instrument in measure.INSTRUMENTS:
        assert set(results[instrument]["points"]) == names
        assert results[instrument]["seconds"] > 0
    figures = {path.name for path in (workdir / "figures").iterdir()}
    assert {"spectrum.png", "kl_over_beta.png", "freezing_points.png", "whole_set.png"} <= figures


def test_trials_csv_has_a_row_a_trial_that_the_curves_confirm(done):
    workdir, results = done
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
    told = results["trials"]["factors"]["posX"]
    mine = [freezing_points.Point(float(row["ifp"]), row["censored"]) for row in rows if row["factor"] == "posX"]
    assert told["median"]["beta"] == pytest.approx(freezing_points.summarise(mine).median.beta, rel=1e-5)
    assert told["count"] == 6
    assert told["interval"] is not None


def test_a_sweep_starts_above_the_bounds_of_all_trials(done):
    _, results = done
    bounds = [row["bound"] for row in results["trials"]["rows"]]
    assert results["trials"]["beta_max"] == pytest.approx(annealing_instrument.HEADROOM * max(bounds))
    top = results["spectrum"]["eigenvalues"][0]
    assert results["whole"]["beta_max"] == pytest.approx(annealing_instrument.HEADROOM * top, rel=1e-4)


def test_betas_of_each_instrument_follow_the_rule_from_its_points(done):
    workdir, results = done
    chosen = json.loads((workdir / "betas.json").read_text())
    assert chosen == json.loads((workdir / "betas_trials.json").read_text())
    seen = {
        name: point["beta"] for name, point in results["trials"]["points"].items() if not point["censored"]
    }
    rule = stages.stage_betas(seen, last=1.0, separation=1.1, max_stages=2)
    assert chosen["betas"] == pytest.approx(rule["betas"])
    assert chosen["stages"] == rule["stages"]
    assert all(np.diff(chosen["betas"]) < 0)


def test_the_same_command_again_changes_nothing(done):
    workdir, results = done
    before = {path: path.read_bytes() for path in (workdir / "trials.csv", workdir / "betas.json")}
    again = measure.run(config(), workdir)
    assert again["trials"]["rows"] == results["trials"]["rows"]
    assert again["whole"]["latents"] == results["whole"]["latents"]
    assert {path: path.read_bytes() for path in before} == before
    with pytest.raises(ValueError, match=r"another configuration \(seed is 0 there and 1 here\)"):
        measure.run(config(seed=1), workdir)


def test_interrupted_in_the_trials_it_resumes_to_the_same_points(done, tmp_path, monkeypatch):
    run, stops = TrialRunner.run, []

    def stopping(self, state, steps):
        state = run(self, state, steps)
        if int(np.asarray(state.step)) >= 200 and len(stops) < 2:
            stops.append(int(np.asarray(state.step)))
            signal.raise_signal(signal.SIGTERM)
        return state

    monkeypatch.setattr(TrialRunner, "run", stopping)
    wanted = config(instruments=("trials",))
    for _ in range(2):
        with pytest.raises(Interrupted, match=r"SIGTERM: saved step (200|300) of"):
            measure.run(wanted, tmp_path / "run")
        assert not (tmp_path / "run" / "freezing.json").exists()
    results = measure.run(wanted, tmp_path / "run")
    assert stops == [200, 300]
    assert results["trials"]["rows"] == done[1]["trials"]["rows"]


def still(arrays, factors_NxF, key):
    return jnp.full((len(factors_NxF), 16, 16, 1), 0.5)


def still_source():
    return Source(("a", "b"), (4, 1), (16, 16, 1), "bernoulli", (), still)


@pytest.fixture(autouse=True)
def still_images(monkeypatch):
    monkeypatch.setitem(data.SOURCES, "still", f"{__name__}:still_source")


FAULTS = [
    ({"trials": {"factors": ("colour",)}}, "unknown factor 'colour'; known: "),
    ({"data": {"name": "still"}, "trials": {"factors": ("b",)}}, "factor 'b' has one value"),
    ({"data": {"name": "still"}, "instruments": ("trials",)}, "all the same"),
    ({"data": {"name": "still"}, "instruments": ("whole",), "betas": {"source": "whole"}}, "all the same"),
    ({"trials": {"beta_max": 5.0}}, "trials.beta_max = 5 lies below the freezing spectrum"),
    ({"whole": {"beta_max": 5.0}}, "whole.beta_max = 5 lies below the freezing spectrum"),
    ({"trials": {"num_trials": 0}}, "num_trials must be at least 1, got 0"),
    ({"trials": {"steps": 0}}, "trials.steps must be at least 1"),
    ({"trials": {"steps": 440}}, "trials.steps = 440 must be a multiple of 80"),
    ({"trials": {"threshold": 0.0}}, "threshold must be above 0"),
    ({"trials": {"smooth": 2}}, "trials.smooth, the window of a moving mean, must be odd"),
    ({"whole": {"smooth": 0}}, "whole.smooth"),
    ({"trials": {"checkpoint_every": 0}}, "checkpoint_every must be at least 1"),
    ({"trials": {"fall": "cubic"}}, "unknown trials.fall 'cubic'"),
    ({"trials": {"colour": 1}}, "trials has no field 'colour'"),
    ({"trials": {"beta_min": 1e6}}, "beta must fall"),
    ({"whole": {"beta_min": 0.0}}, "whole.beta_min must lie between 0"),
    ({"whole": {"batch_size": 0}}, "batch_size"),
    ({"spectrum": {"modes": 3}}, "spectrum has no field 'modes'"),
    ({"spectrum": {"num_modes": 0}}, "num_modes >= 1"),
    ({"instruments": ("guess",)}, "unknown instrument 'guess'; known: spectrum, trials, whole"),
    ({"instruments": ()}, "instruments is empty"),
    ({"betas": {"source": "guess"}}, "unknown betas.source 'guess'"),
    ({"betas": {"source": "whole"}, "instruments": ("trials",)}, "betas.source is 'whole', but the instruments are"),
    ({"betas": {"gap": 2.0}}, "betas has no field 'gap'"),
    ({"data": {"name": "mnist"}}, "unknown data set 'mnist'"),
]


@pytest.mark.parametrize(("changes", "fault"), FAULTS, ids=[fault for _, fault in FAULTS])
def test_bad_input_is_one_line_before_anything_is_written(changes, fault, tmp_path):
    with pytest.raises(ValueError, match=fault.replace("(", r"\(")) as caught:
        measure.run(config(**changes), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "freezing.json").exists()


def test_missing_sections_and_fields_are_named(tmp_path):
    made = config()
    del made["whole"], made["betas"]
    with pytest.raises(ValueError, match="lacks whole, betas"):
        measure.run(made, tmp_path / "run")
    made = config()
    del made["trials"]["num_trials"], made["trials"]["smooth"]
    with pytest.raises(ValueError, match="trials lacks the field 'num_trials', 'smooth'"):
        measure.run(made, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_trials_that_diverge_stop_with_the_step(tmp_path):
    wrong = config(instruments=("trials",), trials={"learning_rate": 1e30})
    with pytest.raises(FloatingPointError, match=r"the KL of trial \d+ \(\w+\) is not finite before step"):
        measure.run(wrong, tmp_path / "run")


def command(module, *arguments):
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)], env=tiny.ENVIRONMENT, capture_output=True, text=True
    )


@pytest.mark.slow
def test_the_commands_from_freezing_points_to_a_training_with_their_betas(done, tmp_path):
    """betas.json goes into a training by --config.stages.betas=@FILE; the workdir keeps the numbers."""
    workdir, _ = done
    (tmp_path / "anneal.py").write_text(
        "import tiny, test_annealing\nfrom ml_collections import ConfigDict\n"
        "def get_config():\n    return ConfigDict(test_annealing.config(instruments=('spectrum',),"
        " betas={'source': 'spectrum', 'last': 0.5}))\n"
    )
    told = command("deft_jax.annealing", f"--config={tmp_path / 'anneal.py'}", f"--workdir={tmp_path / 'ifp'}")
    assert told.returncode == 0, told.stderr
    assert "Order by spectrum:" in told.stdout
    assert "--config.stages.betas=@" in told.stdout
    fault = command(
        "deft_jax.annealing", f"--config={tmp_path / 'anneal.py'}", f"--workdir={tmp_path / 'no'}", "--config.seed=x"
    )
    assert fault.returncode == 2
    assert "Traceback" not in fault.stderr

    (tmp_path / "train.py").write_text(
        "import tiny\nfrom ml_collections import ConfigDict\n"
        "def get_config():\n    made = tiny.config(stages={'rule': 'steps', 'betas': (8.0, 2.0), 'steps': (4,)})\n"
        "    return ConfigDict(made | {'model': made['model'] | {'groups': (2, 2)}})\n"
    )
    run = tmp_path / "run"
    taken = ("stages.betas", "model.groups", "model.latents")
    fields = [f"--config.{field}=@{workdir / 'betas.json'}" for field in taken]
    flags = (f"--config={tmp_path / 'train.py'}", f"--workdir={run}", *fields)
    trained = command("deft_jax.train", *flags)
    assert trained.returncode == 0, trained.stderr
    found = json.loads((workdir / "betas.json").read_text())
    kept, wanted = json.loads((run / "config.json").read_text()), found["betas"]
    assert kept["stages"]["betas"] == wanted
    assert kept["model"]["groups"] == found["groups"]
    assert len(found["groups"]) == len(wanted)
    assert kept["model"]["latents"] == found["latents"] == sum(found["groups"])
    starts = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    assert starts["beta"] == pytest.approx(wanted[0], rel=1e-6)

    for value, fault in (
        (f"@{tmp_path / 'nothing.json'}", "cannot read"),
        (f"@{run / 'config.json'}", "has no entry 'betas' for --config.stages.betas; it has"),
        (f"@{tmp_path / 'train.py'}", "cannot read"),
    ):
        wrong = command("deft_jax.train", *flags[:1], f"--workdir={tmp_path / 'w'}", f"--config.stages.betas={value}")
        assert wrong.returncode == 2
        [line] = wrong.stderr.splitlines()
        assert fault in line
        assert not (tmp_path / "w").exists()


ROOT = pathlib.Path(__file__).parents[2]


def choices():
    spec = importlib.util.spec_from_file_location("ifp", ROOT / "configs" / "ifp_dsprites.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("choice", ["", "full", "correlated", "translation,full", "color_dsprites"])
def test_every_choice_of_the_config_is_accepted_up_to_its_first_dispatch(choice, tmp_path, monkeypatch):
    class Reached(Exception):
        pass

    def reached(*_):
        raise Reached

    monkeypatch.setattr(spectrum.SpectrumInstrument, "measure", reached)
    made = choices().get_config(choice)
    assert f"python -m deft_jax.annealing --config configs/{'ifp_dsprites.py'}" in choices().__doc__
    with made.unlocked():
        made.trials.update({"num_trials": 1, "factors": (data.get(made.data.name).factor_names[-1],)})
        made.spectrum.num_samples = 256
    with pytest.raises(Reached):
        measure.run(made, tmp_path / "run")


def test_a_choice_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="unknown choice 'mnist' after the colon; known: dsprites, "):
        choices().get_config("mnist")


def test_factor_information_is_that_of_the_best_latent_and_nothing_where_all_is_noise():
    """z = value of a factor of n values, well separated: log n nats; a collapsed latent whose mean varies: none."""
    rng = np.random.default_rng(0)
    factors = np.stack([rng.integers(0, size, 6000) for size in (5, 7, 3)], axis=1)
    mean = np.stack([factors[:, 0], 1e-3 * factors[:, 1], 0 * factors[:, 2]], axis=1).astype(float)
    told = scores.factor_information(Posterior(mean, np.tile([-9.0, 0.0, 0.0], (6000, 1))), factors, seed=1)
    np.testing.assert_allclose(told[0], np.log(5), rtol=0.01)
    assert np.all(told[1:] < 0.01)


def test_records_of_the_training_hold_the_information(done):
    records = [json.loads(line) for line in (done[0] / "whole" / "metrics.jsonl").read_text().splitlines()]
    evaluated = [record for record in records if record["kind"] == "eval"]
    assert len(evaluated) == 10
    for record in evaluated:
        assert len(record["factor_information"]) == len(data.get("squares").factor_names)
        assert record["mutual_information"] <= np.log(64) + 1e-4
        assert record["mutual_information_upper"] >= record["mutual_information"] - 1e-4
