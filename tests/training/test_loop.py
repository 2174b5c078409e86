"""A run that is interrupted and started again is the run that was never interrupted."""

import json
import signal

import jax
import numpy as np
import pytest
import tiny

from deft_jax.evaluation import figures as evaluation_figures
from deft_jax.runtime.signals import Interrupted
from deft_jax.training import build as training_build
from deft_jax.training import session
from deft_jax.training.checkpoint import Checkpoints
from deft_jax.training.config import RESUMABLE_CHANGES
from deft_jax.training.metrics_log import MetricsLog, read_records
from deft_jax.training.runner import Runner
from deft_jax.training.step import init_state, state_shapes

TOTAL = tiny.config()["total_steps"]
_RUNNERS = {}
_runner = Runner  # before any test replaces the name in loop


@pytest.fixture(autouse=True)
def compiled_once(monkeypatch):
    """Runs of one configuration share their compiled programs, which hold nothing that training changes."""
    build = training_build.build

    def runner_of(config):
        key = json.dumps(
            {name: config[name] for name in config if name not in RESUMABLE_CHANGES}, sort_keys=True
        )
        if key not in _RUNNERS:
            _RUNNERS[key] = _runner(build(config), jax.devices()[:1], replicas=config.get("num_seeds"))
        return _RUNNERS[key]

    monkeypatch.setattr(training_build, "build", lambda config: runner_of(config).experiment)
    monkeypatch.setattr(
        session,
        "Runner",
        lambda built, devices, replicas=None: next(r for r in _RUNNERS.values() if r.experiment is built),
    )


@pytest.fixture
def no_figures(monkeypatch):
    """Figures are drawn in one of these tests; in the others they would take most of the time."""
    monkeypatch.setattr(evaluation_figures, "figures", lambda **_: {})
    monkeypatch.setattr(evaluation_figures, "history_figures", lambda *_, **__: {})


@pytest.fixture
def after_dispatch(monkeypatch):
    """Calls `act(step, state, metrics) -> (state, metrics)` after each dispatch of a run."""

    def install(act):
        run = Runner.run

        def patched(self, stage, state, steps):
            state, metrics = run(self, stage, state, steps)
            return act(int(np.asarray(state.step)), state, metrics)

        monkeypatch.setattr(Runner, "run", patched)
        return lambda: monkeypatch.setattr(Runner, "run", run)

    return install


@pytest.fixture
def stop_at(after_dispatch):
    """Trains in a workdir until the signal that comes after step k."""

    def stop(config, workdir, k, number=signal.SIGTERM):
        def act(step, state, metrics):
            if step == k:
                signal.raise_signal(number)
            return state, metrics

        undo = after_dispatch(act)
        try:
            with pytest.raises(Interrupted, match=f"{number.name}: saved step {k} of {TOTAL}"):
                session.run(config, workdir)
        finally:
            undo()

    return stop


def steps_kept(workdir):
    checkpoints = Checkpoints(workdir / "checkpoints", 3)
    steps = checkpoints.steps
    checkpoints.close()
    return steps


def saved(workdir, step=None):
    """The state of a checkpoint of the workdir, the last one unless told."""
    checkpoints = Checkpoints(workdir / "checkpoints", 3)
    built = training_build.build(tiny.config())
    like = state_shapes(built)
    state = checkpoints.restore(like, step)
    checkpoints.close()
    return state


def records(workdir):
    """metrics.jsonl without the fields that tell the time."""
    timing = ("steps_per_second", "images_per_second")
    return [
        {name: value for name, value in record.items() if name not in timing}
        for record in read_records(workdir / "metrics.jsonl")
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Workdir and results of a run in one go."""
    workdir = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation_figures, "figures", lambda **_: {})
        patch.setattr(evaluation_figures, "history_figures", lambda *_, **__: {})
        results = session.run(tiny.config(), workdir, jax.devices()[:1])
    return workdir, results


def test_run_logs_every_step_and_evaluates_at_stage_ends(whole):
    workdir, results = whole
    logged = [(record["kind"], record["step"], record["stage"]) for record in records(workdir)]
    assert [entry[1:] for entry in logged if entry[0] == "train"] == [(s, int(s > 4)) for s in range(1, 9)]
    assert [entry[1:] for entry in logged if entry[0] == "eval"] == [(3, 0), (4, 0), (6, 1), (8, 1)]
    assert all(record["beta"] == (8.0, 2.0)[record["stage"]] for record in records(workdir))
    assert results["step"] == TOTAL
    assert results["mig"] == records(workdir)[-1]["mig"]
    assert results == json.loads((workdir / "results.json").read_text())
    assert {row["factor"] for row in results["freezing_order"]} == {"size", "posX", "posY"}
    assert int(saved(workdir).stage) == 1


@pytest.mark.parametrize("stops", [(1,), (2,), (4,), (5,), (7,), (3, 4, 6)])
def test_interrupted_and_resumed_run_equals_the_whole_one(whole, stops, stop_at, no_figures, tmp_path):
    """Inside stage 0, at its end, after it, at checkpoints and between them: same bytes, same records."""
    config = tiny.config()
    for k in stops:
        stop_at(config, tmp_path, k)
        assert steps_kept(tmp_path)[-1] == k
        assert not (tmp_path / "results.json").exists()
    results = session.run(config, tmp_path)
    workdir, expected = whole
    assert tiny.fingerprint(saved(tmp_path)) == tiny.fingerprint(saved(workdir))
    assert records(tmp_path) == records(workdir)
    assert results == expected


def test_sigint_saves_too(stop_at, tmp_path, no_figures):
    stop_at(tiny.config(), tmp_path, 2, signal.SIGINT)
    assert steps_kept(tmp_path) == [2]


def test_second_sigint_acts_at_once(after_dispatch, tmp_path, no_figures):
    def act(step, state, metrics):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return state, metrics

    after_dispatch(act)
    with pytest.raises(KeyboardInterrupt):
        session.run(tiny.config(), tmp_path)


def test_signal_handlers_are_given_back(whole, stop_at, tmp_path, no_figures):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    stop_at(tiny.config(), tmp_path, 1)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_signal_after_the_last_step_does_not_stop_the_results(whole, after_dispatch, tmp_path, no_figures):
    def act(step, state, metrics):
        if step == TOTAL:
            signal.raise_signal(signal.SIGTERM)
        return state, metrics

    after_dispatch(act)
    assert session.run(tiny.config(), tmp_path) == whole[1]


@pytest.mark.parametrize("k", [2, 4, 5, 7])
def test_killed_run_goes_on_from_its_last_checkpoint(whole, k, monkeypatch, no_figures, tmp_path):
    """A run that dies with record k written and its checkpoint not: nothing is lost, nothing there twice."""
    write = MetricsLog.write

    def dies(self, kind, step, *rest):
        write(self, kind, step, *rest)
        if step == k:
            raise RuntimeError("power failure")

    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "write", dies)
        with pytest.raises(RuntimeError, match="power failure"):
            session.run(tiny.config(), tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')
    last = max(step for step in (0, 3, 4, 6) if step < k)
    assert steps_kept(tmp_path)[-1:] == ([last] if last else [])
    results = session.run(tiny.config(), tmp_path)
    assert tiny.fingerprint(saved(tmp_path)) == tiny.fingerprint(saved(whole[0]))
    assert records(tmp_path) == records(whole[0])
    assert results == whole[1]


def test_finished_run_started_again_only_repeats_its_results(whole, after_dispatch, no_figures, tmp_path):
    workdir, expected = whole
    after_dispatch(lambda *_: pytest.fail("trained on"))
    before = records(workdir)
    assert session.run(tiny.config(), workdir) == expected
    assert records(workdir) == before


def test_how_often_is_logged_changes_nothing_that_is_learned(whole, stop_at, no_figures, tmp_path):
    """Dispatches of one step and of several reach the same bytes, also when changed on the way."""
    rarely = tiny.config(log_every=100, evaluation={"every": 100}, checkpoints={"every": 100, "keep": 1})
    stop_at(tiny.config(), tmp_path, 2)
    session.run(rarely, tmp_path)
    assert tiny.fingerprint(saved(tmp_path)) == tiny.fingerprint(saved(whole[0]))
    assert [record["step"] for record in records(tmp_path) if record["kind"] == "train"] == [1, 2, 4, 8]
    assert json.loads((tmp_path / "config.json").read_text())["log_every"] == 100


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"model": {"width": 3}}, "model.width is 2 there and 3 here"),
        ({"optimizer": {"gamma": 0.5}}, "optimizer.gamma is 0.1 there and 0.5 here"),
    ],
)
def test_workdir_of_another_run_is_refused_and_left_alone(whole, changes, fault):
    workdir, _ = whole
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    with pytest.raises(ValueError, match=fault) as error:
        session.run(tiny.config(**changes), workdir)
    assert "\n" not in str(error.value)
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"log_every": 0}, "log_every"),
        ({"evaluation": {"every": 0}}, "evaluation.every"),
        ({"evaluation": {"num_samples": 0}}, "evaluation.num_samples"),
        ({"checkpoints": {"every": -1}}, "checkpoints.every"),
        ({"checkpoints": {"keep": 0}}, "checkpoints.keep"),
        ({"stages": {"rule": "steps", "betas": (2.0, 8.0), "steps": 4}}, "must fall"),
    ],
)
def test_refused_configuration_leaves_no_trace(changes, fault, tmp_path):
    workdir = tmp_path / "run"
    with pytest.raises(ValueError, match=fault):
        session.run(tiny.config(**changes), workdir)
    assert not workdir.exists()


@pytest.mark.parametrize("keep", [1, 2])
def test_only_the_last_checkpoints_are_kept(keep, no_figures, tmp_path):
    session.run(tiny.config(checkpoints={"every": 1, "keep": keep}), tmp_path)
    assert steps_kept(tmp_path) == list(range(TOTAL + 1 - keep, TOTAL + 1))


def test_checkpoint_is_the_state_of_its_step_although_training_goes_on(whole, stop_at, no_figures, tmp_path):
    stop_at(tiny.config(), tmp_path, 4)
    assert tiny.fingerprint(saved(whole[0], 4)) == tiny.fingerprint(saved(tmp_path, 4))


def test_restore_without_a_checkpoint_says_what_there_is(whole):
    with pytest.raises(ValueError, match=r"no checkpoint of step 99 .*\[4, 6, 8\]"):
        saved(whole[0], 99)


def poison(state):
    """The state as after an update with a gradient that is not a number."""
    decoder = jax.tree.map(lambda leaf: leaf * np.nan, state.params["decoder"])
    return state.replace(params=state.params | {"decoder": decoder})


def test_loss_that_is_not_finite_stops_the_run_with_step_stage_and_checkpoint(after_dispatch, no_figures, tmp_path):
    after_dispatch(lambda step, state, metrics: (poison(state) if step == 5 else state, metrics))
    with pytest.raises(FloatingPointError) as error:
        session.run(tiny.config(evaluation={"every": 100}), tmp_path)
    text = str(error.value)
    assert "not finite" in text
    assert "between steps 4 and 5" in text
    assert "stage 1" in text
    assert "step 4" in text
    assert steps_kept(tmp_path)[-1] == 4
    assert records(tmp_path)[-1]["step"] <= 4


def test_checkpoint_that_a_diverged_run_leaves_is_good(after_dispatch, no_figures, tmp_path):
    """An update may spoil the parameters after a loss that was still finite; they are not saved as good."""
    after_dispatch(lambda step, state, metrics: (poison(state) if step == 5 else state, metrics))
    with pytest.raises(FloatingPointError):
        session.run(tiny.config(evaluation={"every": 100}, checkpoints={"every": 1, "keep": 1}), tmp_path)
    leaves = jax.tree.leaves(saved(tmp_path).params)
    assert all(np.all(np.isfinite(leaf)) for leaf in leaves)


def test_diverged_run_says_so_also_where_an_evaluation_comes_first(after_dispatch, no_figures, tmp_path):
    def act(step, state, metrics):
        if step == 3:
            encoder = jax.tree.map(lambda leaf: leaf * np.nan, state.params["encoder"])
            state = state.replace(params=state.params | {"encoder": encoder})
        return state, metrics

    after_dispatch(act)
    with pytest.raises(FloatingPointError, match="stage 0"):
        session.run(tiny.config(), tmp_path)


def test_learning_rate_beyond_reason_is_reported_as_such(no_figures, tmp_path):
    config = tiny.config(optimizer={"learning_rate": 1e30, "decoder_learning_rate": 1e30})
    with pytest.raises(FloatingPointError, match=r"between steps \d and \d, in stage 0"):
        session.run(config, tmp_path)


def test_workdir_holds_all_there_is_to_know(tmp_path, capsys):
    """Configuration, records, events, checkpoints, figures and results, each readable by itself."""
    workdir = tmp_path / "deep" / "run"
    results = session.run(tiny.config(evaluation={"every": 8}), str(workdir))
    names = {path.name for path in workdir.iterdir()}
    files = {"config.json", "source.json", "sample.npz", "metrics.jsonl", "results.json"}
    assert names == files | {"tensorboard", "checkpoints", "figures"}
    assert json.loads((workdir / "config.json").read_text())["stages"]["betas"] == [8.0, 2.0]
    assert list((workdir / "tensorboard").glob("events.out.tfevents.*"))
    figures = {path.name: path.read_bytes() for path in (workdir / "figures").iterdir()}
    drawn = ("traversals", "reconstructions", "nmi")
    assert set(figures) == {
        *(f"{name}{suffix}.png" for name in drawn for suffix in ("", "_stage_0", "_stage_1")),
        *(f"{name}.png" for name in ("nmi1", "nmi2", "kl")),
    }
    for content in figures.values():
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        assert content.endswith(b"IEND\xaeB`\x82")
    printed = capsys.readouterr()
    assert f"MIG {results['mig']:.3f} after {TOTAL} steps" in printed.out
    for factor in ("size", "posX", "posY"):
        assert factor in printed.out
    assert str(workdir / "figures") in printed.out


def test_metrics_of_evals_are_scored_on_the_way_and_change_nothing(whole, no_figures, tmp_path):
    """Records of the kind 'score' at their own steps, with the metric's own options; the parameters are the same."""
    few = {"num_variance": 50, "num_train": 20, "num_eval": 10, "batch_size": 4}
    config = tiny.config(periodic_metrics={"sap": {"every": 4}, "factor_vae": {"every": 8, **few}})
    session.run(config, tmp_path)
    records = read_records(tmp_path / "metrics.jsonl")
    scored = [(record["step"], sorted(set(record) - {"kind", "step", "stage"})) for record in records
              if record["kind"] == "score"]  # fmt: skip
    assert scored == [(4, ["sap"]), (8, ["sap"]), (8, ["factor_vae", "factor_vae_train"])]
    state = init_state(tiny.experiment())
    mine, theirs = (Checkpoints(place / "checkpoints", 3).restore(state) for place in (tmp_path, whole[0]))
    assert tiny.fingerprint(mine) == tiny.fingerprint(theirs)


@pytest.mark.parametrize(
    ("periodic_metrics", "fault"),
    [
        ({"migg": {"every": 4}}, "unknown metric in periodic_metrics 'migg'; known: "),
        ({"sap": {}}, r"periodic_metrics.sap lacks the field 'every', steps between two evaluations"),
        ({"sap": {"every": 0}}, r"periodic_metrics.sap.every must be at least 1, got 0"),
        ({"sap": {"every": 4, "bins": 3}}, "periodic_metrics.sap has no field 'bins'"),
        ({"udr": {"every": 4}}, "periodic_metrics.udr compares several runs"),
    ],
)
def test_wrong_evals_are_refused_before_anything_is_written(periodic_metrics, fault, tmp_path):
    with pytest.raises(ValueError, match=fault):
        session.run(tiny.config(periodic_metrics=periodic_metrics), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# ---- several seeds in one program ----

SEVERAL = {"num_seeds": 2, "seed": 3}


def state_of(workdir):
    return tiny.fingerprint(saved(workdir))


def test_several_seeds_in_one_program_are_each_the_run_of_that_seed(tmp_path, no_figures, capsys):
    results = session.run(tiny.config(**SEVERAL), tmp_path / "both")
    out = capsys.readouterr().out
    assert results["seeds"] == [3, 4]
    assert results["runs"] == ["seed_3", "seed_4"]
    assert json.loads((tmp_path / "both" / "results.json").read_text())["mig"]["mean"] == results["mig"]["mean"]
    values = []
    for seed in (3, 4):
        alone = session.run(tiny.config(seed=seed), tmp_path / f"alone_{seed}")
        inside = tmp_path / "both" / f"seed_{seed}"
        assert json.loads((inside / "config.json").read_text())["seed"] == seed
        for got, want in zip(records(inside), records(tmp_path / f"alone_{seed}"), strict=True):
            assert (got["kind"], got["step"]) == (want["kind"], want["step"])
            for name in ("loss", "reconstruction", "kl_per_latent", "beta"):
                if name in want:
                    np.testing.assert_allclose(got[name], want[name], rtol=1e-3, atol=1e-4)
        values.append(json.loads((inside / "results.json").read_text())["mig"])
        np.testing.assert_allclose(values[-1], alone["mig"], atol=0.05)
    np.testing.assert_allclose(results["mig"]["mean"], np.mean(values))
    np.testing.assert_allclose(results["mig"]["deviation"], np.std(values, ddof=1))
    assert f"MIG {np.mean(values):.3f} ± {np.std(values, ddof=1):.3f} over 2 seeds" in out
    # Each is a workdir like any other: it is finished, and asked again it does nothing but say so.
    again = session.run(tiny.config(seed=3), tmp_path / "both" / "seed_3")
    assert again["mig"] == values[0]


def test_several_seeds_interrupted_and_resumed_equal_those_that_were_not(tmp_path, no_figures):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    session.run(tiny.config(**SEVERAL), whole)

    run = Runner.run

    def patched(self, stage, state, steps):
        state, metrics = run(self, stage, state, steps)
        if int(np.asarray(state.step)[0]) == 5:
            signal.raise_signal(signal.SIGTERM)
        return state, metrics

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runner, "run", patched)
        with pytest.raises(Interrupted, match="saved step 5 of 8"):
            session.run(tiny.config(**SEVERAL), parts)
    # One of the two lost its newest checkpoint: both go on from the newest that they share.
    checkpoints = Checkpoints(parts / "seed_4" / "checkpoints", 3)
    checkpoints.drop_after(3)
    checkpoints.close()
    session.run(tiny.config(**SEVERAL), parts)
    for seed in (3, 4):
        assert state_of(parts / f"seed_{seed}") == state_of(whole / f"seed_{seed}")
        steps = [record["step"] for record in records(parts / f"seed_{seed}") if record["kind"] == "train"]
        assert steps == list(range(1, 9))


def test_one_seed_that_diverges_stops_alone(tmp_path, no_figures, monkeypatch, capsys):
    run = Runner.run

    def patched(self, stage, state, steps):
        state, metrics = run(self, stage, state, steps)
        if int(np.asarray(state.step)[0]) == 5:
            params = jax.tree.map(lambda leaf: leaf.at[0].set(np.nan), state.params)
            state = state.replace(params=params)
        return state, metrics

    monkeypatch.setattr(Runner, "run", patched)
    results = session.run(tiny.config(**SEVERAL), tmp_path)
    assert results["diverged"] == [3]
    assert list(results["mig"]["seeds"]) == [4]
    assert "between steps 4 and 5" in (tmp_path / "seed_3" / "diverged.txt").read_text()
    assert not (tmp_path / "seed_3" / "results.json").exists()
    assert steps_kept(tmp_path / "seed_3")[-1] == 4
    assert steps_kept(tmp_path / "seed_4")[-1] == 8
    assert "seed_3: loss or parameters are not finite" in capsys.readouterr().err
    assert session.run(tiny.config(**SEVERAL), tmp_path) == results  # it is not tried again


@pytest.mark.parametrize(
    ("count", "fault"),
    [(0, "at least 1, got 0"), (-1, "at least 1, got -1"), (1.5, "a whole number, got 1.5"), ("two", "a whole number")],
)
def test_a_wrong_number_of_seeds_is_refused(count, fault):
    with pytest.raises(ValueError, match=f"num_seeds must be {fault}"):
        session._seeds(tiny.config(num_seeds=count))
