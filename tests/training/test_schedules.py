"""Schedules equal their closed forms; stages start where beta passes its thresholds; invalid ones are refused."""

import jax
import numpy as np
import pytest
from refusals import refused

from deft_jax.training import learning_rates, schedules
from deft_jax.training.config import FixedStages


def values(schedule, steps):
    """The schedule under jit, as training sees it, at several steps."""
    return np.asarray(jax.jit(jax.vmap(schedule))(np.asarray(steps, np.int32)))


def test_cosine_falls_from_value_to_final_and_is_constant_after_it():
    schedule = schedules.cosine(2.0, 100, final=0.1)
    np.testing.assert_allclose(values(schedule, [0, 50, 100, 170]), [2.0, 1.1, 0.2, 0.2], rtol=1e-6)
    np.testing.assert_allclose(values(schedules.cosine(2.0, 100), [100]), [0.0], atol=1e-7)
    assert np.all(np.diff(values(schedule, range(101))) < 0)


def test_piecewise_changes_at_the_first_step_of_a_piece():
    schedule = schedules.piecewise([5.0, 3.0, 1.0], [0, 4, 5])
    np.testing.assert_array_equal(values(schedule, range(7)), [5, 5, 5, 5, 3, 1, 1])


def test_fixed_stages_have_one_beta_each():
    stages = schedules.fixed_stages((70.0, 30.0, 12.0), 10, 45)
    assert (len(stages), stages.starts, stages.total_steps) == (3, (0, 10, 20), 45)
    steps = [0, 9, 10, 19, 20, 44]
    np.testing.assert_array_equal(values(stages.beta, steps), [70, 70, 30, 30, 12, 12])
    assert [stages.at(step) for step in steps] == [0, 0, 1, 1, 2, 2]
    assert [stages.end(stage) for stage in range(3)] == [10, 20, 45]


def test_fixed_stages_may_differ_in_length():
    stages = schedules.fixed_stages((9.0, 4.0, 1.0), (3, 5, 1), 100)
    assert stages.starts == (0, 3, 8)
    assert stages.end(2) == 100


def test_betas_may_fall_within_one_stage():
    config = FixedStages(rule="steps", betas=(8.0, 2.0), steps=10, open_groups=False, rotation_every=4)
    stages = config.stages(30)
    assert (len(stages), stages.starts, stages.end(0), stages.next_rotation(10)) == (1, (0,), 30, 12)
    np.testing.assert_array_equal(values(stages.beta, [0, 9, 10, 29]), [8, 8, 2, 2])


FALLS = [
    {"start": 70.0, "end": 1.0, "rate": 15.0, "thresholds": (30.0, 12.0, 4.0), "total_steps": 8000},
    {"start": 100.0, "end": 0.0, "rate": 5.0, "thresholds": (99.0, 50.0, 1.0), "total_steps": 317},
    {"start": 10.0, "end": 2.0, "rate": 3.0, "thresholds": (11.99,), "total_steps": 50},
    {"start": 10.0, "end": 2.0, "rate": 3.0, "thresholds": (), "total_steps": 50},
]


@pytest.mark.parametrize("fall", FALLS)
def test_exponential_stage_opens_at_the_first_step_whose_beta_has_passed_its_threshold(fall):
    stages = schedules.exponential_stages(**fall)
    steps = np.arange(fall["total_steps"])
    beta = fall["start"] * np.exp(-fall["rate"] * steps / fall["total_steps"]) + fall["end"]  # in float64
    first = [int(np.argmax(beta <= threshold)) for threshold in fall["thresholds"]]
    assert stages.starts == (0, *first)
    np.testing.assert_allclose(values(stages.beta, steps), beta, rtol=1e-5)
    for step in (0, *first, *(s - 1 for s in first)):
        assert stages.at(step) == sum(start <= step for start in first)


@pytest.mark.parametrize("fall", FALLS[:3])
def test_stage_starts_agree_with_the_beta_that_training_computes(fall):
    stages = schedules.exponential_stages(**fall)
    for start, threshold in zip(stages.starts[1:], fall["thresholds"], strict=True):
        before, after = values(stages.beta, [start - 1, start])
        assert after <= threshold * (1 + 1e-6) < before * (1 + 2e-6)


def test_last_stage_may_have_one_step():
    assert schedules.fixed_stages((4.0, 1.0), 20, 21).starts == (0, 20)


FALL = {"start": 70.0, "end": 1.0, "rate": 15.0, "total_steps": 8000}
FALL_ERRORS = [
    ({"thresholds": (12.0, 30.0)}, "must fall"),
    ({"thresholds": (30.0, 30.0)}, "must fall"),
    ({"thresholds": (71.0,)}, "stages.thresholds must lie below the first beta, 71"),
    ({"thresholds": (30.0, 1.0)}, r"stages.thresholds must lie above the last beta, .* got 1$"),
    ({"thresholds": (30.0, 0.5)}, r"stages.thresholds must lie above the last beta, .* got 0.5"),
    ({"thresholds": (1 + 70 * np.exp(-15.0) * 1.0001,)}, "total_steps = 8000"),
    ({"thresholds": (30.0, 29.9999)}, "same step"),
    ({"thresholds": (30.0,), "rate": 0.0}, "rate > 0"),
    ({"thresholds": (30.0,), "start": -1.0}, "start > 0"),
    ({"thresholds": (30.0,), "end": -1.0}, "end >= 0"),
]


@pytest.mark.parametrize(("change", "fault"), FALL_ERRORS)
def test_invalid_exponential_stages_are_refused(change, fault):
    with refused(fault):
        schedules.exponential_stages(**{**FALL, **change})


def test_group_learning_rate_is_zero_before_full_in_and_gamma_times_after_its_stage():
    """The rate is 0, base(step), gamma * base(step), and the base falls throughout."""
    base, starts, gamma = schedules.cosine(1e-3, 12), (0, 4, 8), 0.1
    steps = np.arange(12)
    base_T = values(base, steps)
    for group, factors in enumerate([[1, 0.1, 0.1], [0, 1, 0.1], [0, 0, 1]]):
        rate = values(learning_rates.group_learning_rate(base, gamma, starts, group), steps)
        np.testing.assert_allclose(rate, np.repeat(factors, 4) * base_T, rtol=1e-6)


def test_one_length_in_a_sequence_is_the_length_of_every_stage():
    betas = (8.0, 4.0, 1.0)
    assert schedules.fixed_stages(betas, (5,), 20).starts == schedules.fixed_stages(betas, 5, 20).starts == (0, 5, 10)


@pytest.mark.parametrize("fall", [schedules.geometric_fall, schedules.linear_fall])
def test_fall_ends_at_total_steps_and_is_constant_after_it(fall):
    schedule = fall(80.0, 5.0, 100)
    np.testing.assert_allclose([schedule(0), schedule(100), schedule(150)], [80, 5, 5], rtol=1e-5)
    halfway = {schedules.geometric_fall: 20.0, schedules.linear_fall: 42.5}[fall]
    np.testing.assert_allclose(schedule(50), halfway, rtol=1e-5)
