"""A run that is interrupted and resumed equals the run that was not interrupted, bit for bit."""

import json
import signal

import jax
import numpy as np
import pytest
import runs
import tiny

from deft_jax.training import session
from deft_jax.training.metrics_log import MetricsLog

pytestmark = pytest.mark.usefixtures("shared_programs")


def test_every_step_is_logged_and_stage_ends_are_evaluated(whole):
    workdir, results = whole
    logged = [(record["kind"], record["step"], record["stage"]) for record in runs.records(workdir)]
    assert [entry[1:] for entry in logged if entry[0] == "train"] == [(s, int(s > 4)) for s in range(1, 9)]
    assert [entry[1:] for entry in logged if entry[0] == "eval"] == [(3, 0), (4, 0), (6, 1), (8, 1)]
    assert all(record["beta"] == (8.0, 2.0)[record["stage"]] for record in runs.records(workdir))
    assert results["step"] == runs.TOTAL
    assert results["mig"] == runs.records(workdir)[-1]["mig"]
    assert results == json.loads((workdir / "results.json").read_text())
    assert {row["factor"] for row in results["freezing_order"]} == {"size", "posX", "posY"}
    assert int(runs.restored(workdir).stage) == 1


@pytest.mark.parametrize("stops", [(1, 4), (3, 5, 7)])
def test_interrupted_and_resumed_run_equals_the_whole_one(whole, stops, stop_at, tmp_path):
    """Inside stage 0, at its end, after it, at checkpoints and between them: same bytes, same records."""
    for step in stops:
        stop_at(tiny.config(), tmp_path, step)
        assert runs.saved_steps(tmp_path)[-1] == step
        assert not (tmp_path / "results.json").exists()
    results = session.run(tiny.config(), tmp_path)
    workdir, expected = whole
    assert runs.state_of(tmp_path) == runs.state_of(workdir)
    assert runs.records(tmp_path) == runs.records(workdir)
    assert results == expected


def test_sigint_saves_the_state_and_handlers_are_restored(stop_at, tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    stop_at(tiny.config(), tmp_path, 2, signal.SIGINT)
    assert runs.saved_steps(tmp_path) == [2]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_second_sigint_acts_at_once(after_dispatch, tmp_path):
    def act(step, state, metrics):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return state, metrics

    after_dispatch(act)
    with pytest.raises(KeyboardInterrupt):
        session.run(tiny.config(), tmp_path)


def test_signal_after_the_last_step_does_not_prevent_the_results(whole, after_dispatch, tmp_path):
    def act(step, state, metrics):
        if step == runs.TOTAL:
            signal.raise_signal(signal.SIGTERM)
        return state, metrics

    after_dispatch(act)
    assert session.run(tiny.config(), tmp_path) == whole[1]


@pytest.mark.parametrize("step", [2, 4, 7])
def test_killed_run_resumes_from_its_last_checkpoint(whole, step, monkeypatch, tmp_path):
    """A run dies after a record is written and before its checkpoint is: no record is lost, none is there twice."""
    write = MetricsLog.write

    def dies(self, kind, at, *rest):
        write(self, kind, at, *rest)
        if at == step:
            raise RuntimeError("power failure")

    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "write", dies)
        with pytest.raises(RuntimeError, match="power failure"):
            session.run(tiny.config(), tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')
    last = max(saved for saved in (0, 3, 4, 6) if saved < step)
    assert runs.saved_steps(tmp_path)[-1:] == ([last] if last else [])
    results = session.run(tiny.config(), tmp_path)
    assert runs.state_of(tmp_path) == runs.state_of(whole[0])
    assert runs.records(tmp_path) == runs.records(whole[0])
    assert results == whole[1]


def test_finished_run_started_again_only_repeats_its_results(whole, after_dispatch):
    workdir, expected = whole
    after_dispatch(lambda *_: pytest.fail("trained on"))
    before = runs.records(workdir)
    assert session.run(tiny.config(), workdir) == expected
    assert runs.records(workdir) == before


def test_intervals_of_logs_and_checkpoints_do_not_change_what_is_learned(whole, stop_at, tmp_path):
    """Dispatches of one step and of several reach the same bytes, also if the intervals change at a resume."""
    rarely = tiny.config(log_every=100, evaluation={"every": 100}, checkpoints={"every": 100, "keep": 1})
    stop_at(tiny.config(), tmp_path, 2)
    session.run(rarely, tmp_path)
    assert runs.state_of(tmp_path) == runs.state_of(whole[0])
    assert [record["step"] for record in runs.records(tmp_path) if record["kind"] == "train"] == [1, 2, 4, 8]
    assert json.loads((tmp_path / "config.json").read_text())["log_every"] == 100
    assert runs.saved_steps(tmp_path) == [8]


def test_a_record_has_the_means_of_all_steps_since_the_last_one(whole, tmp_path):
    """Every step of the whole run is logged; here every fourth, with checkpoints and evaluations in between."""
    config = tiny.config(log_every=4, checkpoints={"every": 3}, evaluation={"every": 2})
    session.run(config, tmp_path, jax.devices()[:1])
    single = [record for record in runs.records(whole[0]) if record["kind"] == "train"]
    averaged = [record for record in runs.records(tmp_path) if record["kind"] == "train"]
    assert [record["step"] for record in averaged] == [4, 8]
    for record in averaged:
        window = [each for each in single if record["step"] - 4 < each["step"] <= record["step"]]
        for name in ("loss", "reconstruction", "kl"):
            assert record[name] == pytest.approx(np.mean([each[name] for each in window]), rel=1e-5)
        assert record["beta"] == window[-1]["beta"]


def test_missing_checkpoint_is_refused_with_the_steps_there_are(whole):
    assert runs.saved_steps(whole[0]) == [4, 6, 8]
    with pytest.raises(ValueError, match=r"no checkpoint of step 99 .*\[4, 6, 8\]"):
        runs.restored(whole[0], 99)


def test_periodic_metrics_are_scored_at_their_steps_and_do_not_change_the_training(whole, tmp_path):
    few = {"num_variance": 50, "num_train": 20, "num_eval": 10, "batch_size": 4}
    periodic = {"sap": {"every": 4}, "factor_vae": {"every": 8, **few}}
    session.run(tiny.config(periodic_metrics=periodic), tmp_path)
    scored = [(record["step"], sorted(set(record) - {"kind", "step", "stage"})) for record in runs.records(tmp_path)
              if record["kind"] == "score"]  # fmt: skip
    assert scored == [(4, ["sap"]), (8, ["sap"]), (8, ["factor_vae", "factor_vae_train"])]
    assert runs.state_of(tmp_path) == runs.state_of(whole[0])


# ---- runs that diverge ----


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_diverged_run_ends_with_step_stage_and_a_finite_checkpoint(part, after_dispatch, tmp_path):
    """Also if an update has spoiled the parameters after a loss that was still finite, and an evaluation is due."""

    def act(step, state, metrics):
        if step == 6:
            state = state.replace(params=state.params | {part: runs.set_to_nan(state.params[part])})
        return state, metrics

    after_dispatch(act)
    with pytest.raises(FloatingPointError, match=r"not finite .* between steps 5 and 6, in stage 1; .* step 5"):
        session.run(tiny.config(checkpoints={"every": 1, "keep": 1}), tmp_path)
    assert runs.saved_steps(tmp_path)[-1] == 5
    assert runs.records(tmp_path)[-1]["step"] <= 5
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(runs.restored(tmp_path).params))


def test_too_large_learning_rate_is_reported_as_divergence_at_each_start(tmp_path):
    config = tiny.config(optimizer={"learning_rate": 1e30, "decoder_learning_rate": 1e30})
    messages = []
    for _ in range(2):
        with pytest.raises(FloatingPointError, match=r"between steps \d and \d, in stage 0") as error:
            session.run(config, tmp_path / "run")
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert "there is no checkpoint" in messages[0]
