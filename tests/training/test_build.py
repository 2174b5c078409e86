"""Invalid configurations are refused in one line before anything compiles; valid ones become experiments."""

import jax
import pytest
import tiny

from deft_jax import data
from deft_jax.objectives import registry
from deft_jax.training import build as training_build

FALL = {"rule": "exponential", "start": 70.0, "end": 1.0, "rate": 15.0, "thresholds": (12.0,)}

FAULTS = [  # one or two of each section; tests/commands has all of them
    ({"total_steps": 4}, "total_steps = 4 ends before the last stage"),
    ({"stages": {"rule": "steps", "betas": (8.0, 4.0, 2.0), "steps": 2}}, "3 stages for 2 encoder groups"),
    ({"model": {"latents": 5}}, "5 latents do not divide into 2"),
    ({"model": {"calibrate": True}}, "calibrate"),
    ({"optimizer": {"gamma": 1.5}}, "gamma"),
    ({"data": {"name": "mnist"}}, "unknown data set 'mnist'; known: .*dsprites"),
    ({"objective": {"name": "gan"}}, "unknown objective 'gan'; known: .*beta_vae"),
]


@pytest.fixture
def compiled():
    """An entry for each program that is compiled during the test."""
    programs = []

    def note(event, seconds, **details):
        if event.endswith("backend_compile_duration"):
            programs.append(details)

    jax.clear_caches()
    jax.monitoring.register_event_duration_secs_listener(note)
    yield programs
    jax.monitoring.unregister_event_duration_listener(note)


def test_faults_are_found_before_anything_compiles(compiled):
    for changes, fault in FAULTS:
        with pytest.raises(ValueError, match=fault):
            training_build.build(tiny.config(**changes))
    assert compiled == []


def test_numbers_are_checked_before_the_data_set_is_opened(monkeypatch):
    """Opening a data set may take a while."""
    monkeypatch.setattr(data, "get", lambda **_: pytest.fail("the data set was opened first"))
    for changes, fault in FAULTS[:1] + FAULTS[2:3]:
        with pytest.raises(ValueError, match=fault):
            training_build.build(tiny.config(**changes))


def test_experiment_follows_the_configuration(monkeypatch):
    seen = {}
    made = registry.OBJECTIVES["beta_vae"]
    monkeypatch.setitem(registry.OBJECTIVES, "beta_vae", lambda beta: seen.update(beta=beta) or made(beta))
    built = tiny.experiment(
        seed=7, batch_size=4, total_steps=100, stages=FALL, model={"groups": (1, 3)}, optimizer={"gamma": 0.0}
    )
    assert (built.seed, built.batch_size, built.model.sizes) == (7, 4, (1, 3))
    assert built.model.encoder.freeze
    assert built.stages.starts == (0, 13)  # 100 / 15 * ln(70 / 11) = 12.3
    assert seen["beta"] is built.stages.beta
    assert built.source.factor_names == ("size", "posX", "posY")


def test_encoders_are_not_frozen_if_gamma_is_above_zero():
    assert not tiny.experiment().model.encoder.freeze


def test_cosine_decay_ends_with_the_run():
    """The decoder's first update has the size of its rate; the update at the last step is 0."""
    built = tiny.experiment(optimizer={"decay": "cosine"})
    params = {"decoder": jax.numpy.ones(2)}
    state = built.optimizer(1).init(params)
    sizes = []
    for _ in range(built.stages.total_steps + 1):
        updates, state = built.optimizer(1).update(params, state, params)
        sizes.append(float(-updates["decoder"][0]))
    assert sizes[0] == pytest.approx(1e-2, rel=1e-4)
    assert sizes[4] == pytest.approx(0.5e-2, rel=1e-4)
    assert sizes[8] == pytest.approx(0.0, abs=1e-8)
