"""Trials of the annealing test do not depend on each other, on the number of devices, or on interruptions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from deft_jax import data
from deft_jax.annealing import spectrum, trial_model, trial_plan, trial_program
from deft_jax.annealing.config import TrialsConfig
from deft_jax.data.source import Source

SQUARES = data.get("squares")
CONFIG = TrialsConfig(beta_min=1.0, steps=60, points=12, batch_size=16, hidden=8)
SWEEP = trial_program.Sweep(CONFIG, beta_max=200.0)
FACTORS = SQUARES.factor_names


@pytest.fixture(scope="module")
def plan():
    return trial_plan.plan(SQUARES, FACTORS, 3, seed=0)


def train(buckets, steps=SWEEP.steps, sweep=SWEEP, source=SQUARES, state=None, devices=None):
    runner = trial_program.TrialRunner(sweep, source, buckets, devices or jax.devices()[:1])
    state = runner.run(runner.init() if state is None else runner.put(state), steps)
    return runner.host(state), runner.curves(state)


def test_a_trial_fixes_all_factors_but_one_at_a_draw_that_all_factors_share(plan):
    rows = trial_plan.in_order(plan, [bucket.row for bucket in plan])
    np.testing.assert_array_equal(rows, np.arange(3 * len(FACTORS)))
    factor = trial_plan.in_order(plan, [bucket.factor for bucket in plan])
    np.testing.assert_array_equal(factor, np.repeat(np.arange(len(FACTORS)), 3))
    base = trial_plan.in_order(plan, [bucket.base for bucket in plan]).reshape(len(FACTORS), 3, len(FACTORS))
    np.testing.assert_array_equal(base, np.broadcast_to(base[0], base.shape))
    assert len(np.unique(base[0], axis=0)) > 1


def test_the_images_of_a_trial_are_its_sweep_on_the_pixels_that_vary(plan):
    for bucket in plan:
        for row in range(len(bucket)):
            swept = np.tile(bucket.base[row], (bucket.size[row], 1))
            swept[:, bucket.factor[row]] = np.arange(bucket.size[row])
            images = np.asarray(SQUARES.render(SQUARES.arrays, jnp.asarray(swept), jax.random.key(0)))
            images = images.reshape(len(swept), -1)
            used = bucket.mask[row] > 0
            assert set(bucket.pixels[row][used]) == set(np.flatnonzero(images.var(axis=0) > 0))
            np.testing.assert_array_equal(
                bucket.images[row][: len(swept)][:, used], images[:, bucket.pixels[row][used]]
            )
            assert not bucket.images[row][:, ~used].any()
            np.testing.assert_allclose(bucket.bound[row], spectrum.bound(images, "bernoulli"), rtol=1e-5)


def test_a_trial_equals_the_same_trial_in_a_program_of_one(plan):
    state, together = train(plan)
    assert together.max() > 0.05, "the trials must have learned something"
    for position, bucket in enumerate(plan):
        for place in (0, len(bucket) - 1):
            one = jax.tree.map(lambda leaf: leaf[place : place + 1], bucket)  # noqa: B023
            single, [kl] = train((one,))
            np.testing.assert_allclose(kl, together[bucket.row[place]], rtol=2e-3, atol=1e-4)
            params = jax.tree.map(lambda leaf: leaf[place : place + 1], state.params[position])  # noqa: B023
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3), single.params[0], params
            )


def test_a_resumed_program_is_the_same_bit_for_bit(plan):
    whole, _ = train(plan)
    first, _ = train(plan, steps=23)
    assert int(first.step) == 23
    resumed, _ = train(plan, steps=SWEEP.steps - 23, state=first)
    assert tiny.fingerprint(resumed) == tiny.fingerprint(whole)


def test_entries_of_the_curve_are_means_over_their_steps(plan):
    fine = dataclasses.replace(SWEEP, config=dataclasses.replace(CONFIG, points=CONFIG.steps))
    _, every_step = train(plan[:1], sweep=fine)
    _, means = train(plan[:1])
    np.testing.assert_allclose(means, every_step.reshape(*means.shape, -1).mean(axis=-1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        SWEEP.betas, np.exp(np.log(fine.betas).reshape(CONFIG.points, -1).mean(axis=1)), rtol=1e-4
    )


def test_trials_start_at_the_collapsed_state(plan):
    """The decoder's bias is the mean image, its answer to z and the posterior's to x are small."""
    state = trial_program.init_state(SWEEP, "bernoulli", plan)
    for bucket, params in zip(plan, state.params, strict=True):
        bias = jax.nn.sigmoid(params["decoder"]["out"]["bias"])
        np.testing.assert_allclose(np.where(bucket.mask > 0, bias, bucket.mean), bucket.mean, atol=1e-5)
        assert np.abs(params["decoder"]["out"]["kernel"]).max() < 0.06
        encoder = trial_model.Encoder(CONFIG.latents, CONFIG.hidden)
        posterior = encoder.apply(
            {"params": jax.tree.map(lambda leaf: leaf[0], params["encoder"])}, bucket.images[0] - bucket.mean[0]
        )
        assert np.abs(posterior.mean).max() < 0.2


@pytest.mark.slow
def test_two_devices_with_an_odd_number_of_trials_give_the_numbers_of_one():
    program = """
import jax, numpy as np, tiny, test_trial_program as t
from deft_jax.annealing import trial_plan
plan = trial_plan.plan(t.SQUARES, t.FACTORS, 3, seed=0)
_, one = t.train(plan, steps=30)
first, _ = t.train(plan, steps=11, devices=jax.devices())
_, two = t.train(plan, steps=19, state=first, devices=jax.devices())
assert len(jax.devices()) == 2 and any(len(bucket) % 2 for bucket in plan)
np.testing.assert_allclose(two, one, rtol=2e-3, atol=1e-4)
print("equal")
"""
    assert tiny.run_python(program, environment=tiny.devices(2)).strip() == "equal"


@pytest.mark.parametrize("dimensions", [2, 3, 5])
def test_points_of_the_lattice_are_uniform_and_their_means_vary_less_than_independent_ones(dimensions):
    count, draws = 32, 400
    keys = jax.random.split(jax.random.key(0), draws)
    points = np.asarray(jax.vmap(lambda key: trial_program._lattice(key, count, dimensions))(keys))
    assert points.shape == (draws, count, dimensions)
    assert points.min() >= 0
    assert points.max() < 1
    some = np.sort(points[:, 5, :], axis=0)  # one point over many draws
    assert np.abs(some - (np.arange(draws) + 0.5)[:, None] / draws).max() < 1.63 / draws**0.5  # Kolmogorov, 1 %
    first = np.sort(points[0, :, 0])
    np.testing.assert_allclose(np.diff(first), 1 / count, atol=1e-5)
    means = (12**0.5 * (points - 0.5)).mean(axis=1)  # of variance 1 a point
    assert np.all(np.abs(means.mean(axis=0)) < 5 * (count * draws) ** -0.5)
    assert means[:, 0].std() < 0.2 * count**-0.5
    assert np.all(means.std(axis=0) < 0.9 * count**-0.5)


def noisy(arrays, factors_NxF, key):
    clean = SQUARES.render(arrays, factors_NxF, key)
    return jnp.clip(clean + 0.5 * jax.random.uniform(key, clean.shape), 0, 1)


def test_images_with_noise_are_rendered_anew_in_every_step():
    source = dataclasses.replace(SQUARES, render=noisy)
    plan = trial_plan.plan(source, ("posX",), 1, seed=0)
    assert all(bucket.images is None for bucket in plan)
    assert plan[0].mask.sum() == tiny.SIDE**2, "with noise every pixel varies"
    clean = trial_plan.plan(SQUARES, ("posX",), 1, seed=0)
    assert 1 < plan[0].bound[0] < clean[0].bound[0], "noise lowers the freezing point"
    _, kl = train(plan, source=source, steps=20)
    assert np.all(np.isfinite(kl))


def constant(arrays, factors_NxF, key):
    return jnp.full((len(factors_NxF), 16, 16, 1), 0.5)


def test_trials_that_cannot_be_planned_are_refused():
    single = Source(("a", "b"), (1, 3), (16, 16, 1), "bernoulli", (), constant)
    for source, names, count, key_words in (
        (SQUARES, ("colour",), 2, "unknown factor 'colour'"),
        (single, ("a",), 2, "one value"),
        (single, ("b",), 2, "all the same"),
        (SQUARES, ("posX",), 0, "num_trials"),
    ):
        with pytest.raises(ValueError, match=key_words):
            trial_plan.plan(source, names, count, seed=0)


def test_a_sweep_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="beta_min"):
        dataclasses.replace(SWEEP, beta_max=0.5)
    with pytest.raises(ValueError, match="steps"):
        dataclasses.replace(SWEEP, speed=4)  # 15 steps for 12 points


@pytest.mark.parametrize("fall", trial_program.FALLS)
def test_every_fall_goes_from_beta_max_to_beta_min(fall):
    sweep = dataclasses.replace(SWEEP, config=dataclasses.replace(CONFIG, fall=fall))
    np.testing.assert_allclose([sweep.beta(0), sweep.beta(sweep.steps)], [200, 1], rtol=1e-3)
    assert np.all(np.diff(sweep.betas) < 0)
