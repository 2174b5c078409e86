"""Invalid configurations are refused in one line before anything compiles; valid ones become experiments."""

import jax
import pytest
import tiny

from deft_jax import data
from deft_jax.objectives import registry
from deft_jax.training import build as training_build

FALL = {"rule": "exponential", "start": 70.0, "end": 1.0, "rate": 15.0, "thresholds": (12.0,)}

FAULTS = [
    ({"batch_size": 0}, "batch_size"),
    ({"total_steps": 0}, "total_steps"),
    ({"total_steps": 4}, "total_steps = 4 ends before the last stage"),
    ({"stages": {"rule": "steps", "betas": (2.0, 8.0), "steps": 4}}, "betas must fall"),
    ({"stages": {"rule": "steps", "betas": (8.0, 4.0, 2.0), "steps": 2}}, "3 stages for 2 encoder groups"),
    ({"stages": {"rule": "steps", "betas": (8.0, 2.0)}}, "'steps'"),
    ({"stages": {"rule": "steps", "betas": (8.0, 2.0), "steps": 4, "length": 4}}, "'length'"),
    ({"stages": {"rule": "linear"}}, "stages.rule must be one of 'steps', 'exponential'"),
    ({"stages": {**FALL, "thresholds": (0.5,)}}, "stages.thresholds must lie above the last beta"),
    ({"model": {"latents": 5}}, "5 latents do not divide into 2"),
    ({"model": {"groups": (1, 2)}}, "add up to 4"),
    ({"model": {"width": (2, 2, 2)}}, "model.width must be one number or one per group"),
    ({"model": {"calibrate": True}}, "calibrate"),
    ({"optimizer": {"gamma": -0.1}}, "gamma"),
    ({"optimizer": {"gamma": 1.5}}, "gamma"),
    ({"optimizer": {"learning_rate": 0.0}}, "optimizer.learning_rate"),
    ({"optimizer": {"decoder_learning_rate": -1e-3}}, "optimizer.decoder_learning_rate"),
    ({"optimizer": {"learning_rate": float("nan")}}, "optimizer.learning_rate"),
    ({"optimizer": {"decay": "linear"}}, "optimizer.decay must be one of 'constant' or 'cosine'"),
    ({"data": {"name": "mnist"}}, "unknown data set 'mnist'; known: .*dsprites"),
    ({"objective": {"name": "gan"}}, "unknown objective 'gan'; known: .*beta_vae"),
]


_compiled = []


def _note(event, seconds, **details):
    if event.endswith("backend_compile_duration"):
        _compiled.append(details)


jax.monitoring.register_event_duration_secs_listener(_note)


@pytest.fixture(scope="module")
def nothing_compiled_yet():
    jax.clear_caches()


@pytest.fixture
def nothing_compiles(nothing_compiled_yet):
    before = len(_compiled)
    yield
    assert len(_compiled) == before, "a program was compiled before the configuration was checked"


@pytest.mark.parametrize(("changes", "fault"), FAULTS)
def test_fault_is_reported_in_one_line(changes, fault, nothing_compiles):
    with pytest.raises(ValueError, match=fault) as error:
        training_build.build(tiny.config(**changes))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("section", ["data", "model", "objective", "optimizer"])
def test_unknown_field_is_a_fault(section, nothing_compiles):
    with pytest.raises(ValueError, match="colour_of_the_sky"):
        training_build.build(tiny.config(**{section: {"colour_of_the_sky": 3}}))


@pytest.mark.parametrize(
    ("section", "field"),
    [("model", "latents"), ("model", "width"), ("optimizer", "gamma"), ("stages", "rule")],
)
def test_missing_field_is_a_fault(section, field, nothing_compiles):
    config = tiny.config()
    del config[section][field]
    with pytest.raises(ValueError, match=field):
        training_build.build(config)


def test_numbers_are_checked_before_the_data_set_is_opened(monkeypatch):
    """Opening a data set may take a while."""
    monkeypatch.setattr(data, "get", lambda **_: pytest.fail("the data set was opened first"))
    for changes in ({"optimizer": {"gamma": 2.0}}, {"model": {"latents": 5}}, {"total_steps": 4}):
        with pytest.raises(ValueError, match=r"\w"):
            training_build.build(tiny.config(**changes))


def test_experiment_follows_the_configuration(monkeypatch):
    seen = {}
    monkeypatch.setitem(registry.OBJECTIVES, "beta_vae", lambda beta: seen.update(beta=beta))
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
