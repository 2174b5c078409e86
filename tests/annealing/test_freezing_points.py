"""Freezing points are read off curves by a rule with closed forms."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from deft_jax.annealing import freezing_points, stages
from deft_jax.annealing.freezing_points import ABOVE, BELOW, Point
from deft_jax.studies import presets

BETAS = np.geomspace(100, 1, 41)


def ramp(start):
    """0 down to beta = start, then linear in the logarithm of beta."""
    return np.maximum(0, np.log(start / BETAS))


def test_a_crossing_is_interpolated_in_the_logarithm_of_beta():
    point = freezing_points.freezing_point(BETAS, ramp(40.0) - 0.3 * (BETAS > 40), threshold=0.25, window=1)
    assert point.censored == ""
    np.testing.assert_allclose(point.beta, 40 * math.exp(-0.25), rtol=1e-9)


def test_smoothing_does_not_move_the_crossing_of_a_straight_curve():
    straight = np.log(100 / BETAS)
    points = [freezing_points.freezing_point(BETAS, straight, 1.0, window).beta for window in (1, 3, 7)]
    np.testing.assert_allclose(points, 100 / math.e, rtol=1e-9)


def test_only_the_last_rise_counts():
    kl = np.where((BETAS < 90) & (BETAS > 70), 1.0, 0.0) + np.where(BETAS < 10, 1.0, 0.0)
    assert freezing_points.freezing_point(BETAS, kl, 0.5, window=1).beta == pytest.approx(10, rel=0.13)


def test_a_curve_that_never_collapses_lies_above_the_sweep_and_one_that_never_freezes_below():
    assert freezing_points.freezing_point(BETAS, np.ones(41)) == Point(100.0, ABOVE)
    assert freezing_points.freezing_point(BETAS, np.zeros(41)) == Point(BETAS[-1], BELOW)
    collapses_at_the_end = np.where(BETAS < 2, 0.0, 1.0)
    assert freezing_points.freezing_point(BETAS, collapses_at_the_end).censored == BELOW
    assert [str(Point(100.0, ABOVE)), str(Point(1.0, BELOW)), str(Point(41.25))] == [">100", "<1", "41.2"]


@pytest.mark.parametrize(("betas", "values", "key_words"), [
    (BETAS[::-1], np.zeros(41), "fall"),
    (BETAS, np.zeros(40), "equally long"),
    (BETAS, np.full(41, np.nan), "finite"),
    (np.array([]), np.array([]), "equally long"),
    (BETAS - 2, np.zeros(41), "positive"),
])
def test_curves_that_cannot_be_read_are_refused(betas, values, key_words):
    with pytest.raises(ValueError, match=key_words):
        freezing_points.freezing_point(betas, values)


def test_smoothing_keeps_lines_and_averages_noise():
    line = np.linspace(3, 9, 20)
    np.testing.assert_allclose(freezing_points.smooth(line, 5), line)
    spike = np.zeros(11)
    spike[5] = 6
    np.testing.assert_allclose(freezing_points.smooth(spike, 3)[4:7], 2)
    with pytest.raises(ValueError, match="odd"):
        freezing_points.smooth(line, 4)


@pytest.mark.parametrize("count", [6, 7, 12, 20, 50])
def test_the_interval_of_the_median_is_the_narrowest_pair_of_order_statistics_that_covers_it(count):
    summary = freezing_points.summarise([Point(float(beta)) for beta in range(1, count + 1)])
    low = int(summary.interval[0].beta)
    assert summary.interval[1].beta == count + 1 - low
    missed = lambda rank: 2 * binom.cdf(rank - 1, count, 0.5)  # noqa: E731
    assert missed(low) <= 0.05 < missed(low + 1)


def test_too_few_trials_have_no_interval():
    assert freezing_points.summarise([Point(1.0)] * 5).interval is None
    with pytest.raises(ValueError, match="no freezing points"):
        freezing_points.summarise([])


def test_censored_trials_count_by_their_side():
    points = [Point(100.0, ABOVE), Point(5.0), Point(7.0), Point(1.0, BELOW), Point(6.0)]
    summary = freezing_points.summarise(points)
    assert (summary.median, summary.above, summary.below, summary.count) == (Point(6.0), 1, 1, 5)
    assert summary.lower == Point(5.0)
    assert freezing_points.summarise([Point(1.0, BELOW)] * 3 + [Point(9.0)]).median.censored == BELOW


def test_the_rate_of_linear_latents_is_half_their_number():
    """I = 1/2 sum log(beta_k / beta) over the frozen ones."""
    information = 0.5 * sum(np.maximum(0, np.log(start / BETAS)) for start in (60.0, 8.0))
    rate = freezing_points.information_rate(BETAS, information, window=1)
    np.testing.assert_allclose(rate[BETAS > 70], 0, atol=1e-12)
    np.testing.assert_allclose(rate[(BETAS < 45) & (BETAS > 10)], 0.5, rtol=1e-9)
    np.testing.assert_allclose(rate[BETAS < 6], 1.0, rtol=1e-9)


def test_jumps_of_information_are_found_as_peaks_from_the_highest_beta_down():
    log = np.log(BETAS)
    information = 2 / (1 + np.exp((log - np.log(50)) / 0.1)) + 1 / (1 + np.exp((log - np.log(5)) / 0.1))
    peaks = freezing_points.peaks(BETAS, information, window=1)
    np.testing.assert_allclose([peak.beta for peak in peaks], [50, 5], rtol=0.12)
    assert peaks[0].height > peaks[1].height
    assert freezing_points.peaks(BETAS, np.log(100 / BETAS), window=1) == []


def test_betas_of_stages_lie_at_the_geometric_means_of_the_gaps():
    points = {"posX": 200.0, "scale": 50.0, "posY": 190.0, "orientation": 12.5}
    result = stages.stage_betas(points)
    np.testing.assert_allclose(result.betas, [math.sqrt(190 * 50), 25, 1])
    assert result.thresholds == result.betas[:-1]
    assert result.stages == [["posX", "posY"], ["scale"], ["orientation"]]


def test_groups_are_as_large_as_what_freezes_in_their_stage():
    """A latent that froze before the sweep began is of the first stage; one that never did is of none."""
    points = [Point(100.0), Point(120.0, "above"), Point(36.2), Point(1.0, "below")]
    assert stages.group_sizes([51.1, 18.9, 1.0], points) == [2, 1, 1]
    late = [Point(beta) for beta in (60.0, 20.0, 18.0, 5.0, 1.5)]
    assert stages.group_sizes([51.1, 18.9, 1.0], late) == [1, 1, 3]
    assert stages.group_sizes([1.0], points) == [3]
    assert tuple(stages.group_sizes(presets.ANNEALED_BETAS, points)) == presets.ANNEALED_GROUPS


def test_the_widest_gaps_are_kept_where_stages_are_few():
    points = {"a": 100.0, "b": 60.0, "c": 10.0, "d": 7.0, "e": 2.0}
    result = stages.stage_betas(points, max_stages=3)
    assert result.stages == [["a", "b"], ["c", "d"], ["e"]]
    one = stages.stage_betas(points, max_stages=1, last=1.5)
    assert one.betas == [1.5]
    assert one.stages == [["a", "b", "c", "d", "e"]]


@pytest.mark.parametrize(("points", "rule", "key_words"), [
    ({}, {}, "nothing to separate"),
    ({"a": 100.0, "b": 4.0}, {"last": 30.0}, "betas.last"),
    ({"a": 3.0}, {"last": 5.0}, "betas.last"),
    ({"a": 3.0, "b": 0.0}, {}, "above 0"),
])
def test_points_that_give_no_betas_are_refused(points, rule, key_words):
    with pytest.raises(ValueError, match=key_words):
        stages.stage_betas(points, **rule)
