"""Rotation of latents: the axes, the parameters and moments that rotate with them, the runs with rotations."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import runs
import shared_programs as programs
import tiny

from deft_jax.models import likelihoods
from deft_jax.models.posterior import Posterior
from deft_jax.objectives import registry
from deft_jax.studies import presets
from deft_jax.training import build as training_build
from deft_jax.training import optimizer, schedules, session
from deft_jax.training.latent_rotation import independent_axes
from deft_jax.training.runner import Runner
from deft_jax.training.step import init_state, rotate_latents

# Independent latents of unit variance whose fourth cumulants are far from zero: below (-1.2, -1.5) and above (3) it.
DRAWS = {
    "uniform": lambda rng, shape: rng.uniform(-np.sqrt(3), np.sqrt(3), shape),
    "arcsine": lambda rng, shape: np.sqrt(2) * np.sin(rng.uniform(0, 2 * np.pi, shape)),
    "laplace": lambda rng, shape: rng.laplace(0, np.sqrt(0.5), shape),
}


def rotation_by(degrees):
    angle = np.radians(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def axes_of(codes):
    return np.asarray(independent_axes(jnp.asarray(codes, jnp.float32)))


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("degrees", [-44, 0, 7, 31, 45, 90])
def test_rotated_pair_is_rotated_back_onto_its_axes(draw, degrees):
    independent = DRAWS[draw](np.random.default_rng(0), (20_000, 2))
    axes = axes_of(independent @ rotation_by(degrees).T + 3.0)  # independent of the mean
    left = np.abs(axes @ rotation_by(degrees))
    # A permutation, to the 3 degrees of the sampling error.
    assert np.sort(left, axis=None)[2:].min() > np.cos(np.radians(3))
    np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-5)
    assert np.degrees(np.arccos(axes[0, 0])) <= 45.5
    if abs(degrees) < 42:  # then latents keep their indices and signs
        np.testing.assert_allclose(axes @ rotation_by(degrees), np.eye(2), atol=0.06)


@pytest.mark.parametrize("num", [1, 3, 6])
def test_axes_of_groups_of_any_size(num):
    rng = np.random.default_rng(num)
    mixed, _ = np.linalg.qr(rng.normal(size=(num, num)))
    axes = axes_of(DRAWS["uniform"](rng, (20_000, num)) @ mixed.T)
    left = np.abs(axes @ mixed)
    np.testing.assert_allclose(np.sort(left, axis=1)[:, -1], 1.0, atol=0.01)
    assert sorted(left.argmax(axis=1)) == list(range(num))  # one factor per latent


def test_axes_have_the_largest_cumulants_of_a_finer_search():
    """The sum of squared cumulants, by numpy and at a tenth of the grid's angle, is nowhere higher."""
    rng = np.random.default_rng(3)
    codes = DRAWS["laplace"](rng, (2_000, 2)) * (1.0, 0.7) @ rotation_by(25).T
    codes -= codes.mean(axis=0)

    def contrast(rotation):
        rotated = codes @ np.asarray(rotation).T
        return np.sum((np.mean(rotated**4, axis=0) - 3 * np.mean(rotated**2, axis=0) ** 2) ** 2)

    best = max(contrast(rotation_by(degrees)) for degrees in np.arange(-45, 45, 0.05))
    np.testing.assert_allclose(contrast(axes_of(codes)), best, rtol=1e-4)


def test_constant_latents_are_not_rotated():
    np.testing.assert_array_equal(axes_of(np.full((64, 3), 0.5)), np.eye(3))
    varied = np.zeros((4_096, 2))
    varied[:, 0] = DRAWS["uniform"](np.random.default_rng(0), 4_096)
    np.testing.assert_allclose(axes_of(varied), np.eye(2), atol=0.01)


# Parameters and moments.


@pytest.fixture(scope="module")
def experiment():
    return tiny.experiment()


@pytest.fixture(scope="module")
def state(experiment):
    """A state after some steps of the second stage: all groups open, moments of all of them."""
    runner = programs.runner(experiment)
    state, _ = runner.run(0, runner.put(init_state(experiment)), 3)
    state, _ = runner.run(1, runner.at_stage(state, 1), 3)
    return jax.tree.map(np.asarray, state)


@pytest.fixture(scope="module")
def images(experiment):
    drawn = np.stack([np.arange(24) % size for size in experiment.source.factor_sizes], axis=1).astype(np.int32)
    return experiment.source.render(experiment.source.arrays, drawn, jax.random.key(0))


@pytest.mark.parametrize("group", [0, 1])
def test_codes_rotate_and_the_decoder_undoes_it(experiment, state, images, group):
    model, rotation = experiment.model, rotation_by(33.0).astype(np.float32)
    rotated = model.rotate_latents(state.params, group, rotation)
    before, after = model.encode(state.params, images, 1), model.encode(rotated, images, 1)
    whole = np.eye(4, dtype=np.float32)
    group_slice = slice(2 * group, 2 * group + 2)
    whole[group_slice, group_slice] = rotation
    np.testing.assert_allclose(after.mean, before.mean @ whole.T, atol=1e-5)
    np.testing.assert_allclose(after.logvar, before.logvar @ (whole**2).T, atol=1e-5)
    np.testing.assert_allclose(
        model.decode(rotated, after.mean), model.decode(state.params, before.mean), rtol=1e-4, atol=1e-4
    )


def test_inverse_rotation_restores_means_and_decoder_and_other_parameters_do_not_change(experiment, state):
    rotation = rotation_by(-20.0).astype(np.float32)
    rotated = experiment.model.rotate_latents(state.params, 0, rotation)
    back = experiment.model.rotate_latents(rotated, 0, rotation.T)
    changed = {
        jax.tree_util.keystr(path)
        for (path, old), new in zip(
            jax.tree_util.tree_leaves_with_path(state.params), jax.tree.leaves(rotated), strict=True
        )
        if not np.array_equal(old, new)
    }
    head = "['encoder']['group_0']['Dense_1']"
    assert changed == {f"{head}['kernel']", f"{head}['bias']", "['decoder']['Dense_0']['kernel']"}
    first, same = (tree["decoder"]["Dense_0"]["kernel"] for tree in (state.params, back))
    np.testing.assert_allclose(same, first, atol=1e-6)
    first, same = (tree["encoder"]["group_0"]["Dense_1"]["kernel"][:, :2] for tree in (state.params, back))
    np.testing.assert_allclose(same, first, atol=1e-6)


def test_gradient_after_a_rotation_is_the_rotated_gradient(experiment, state, images):
    """With isotropic posteriors; first moments of Adam therefore rotate as parameters do."""
    model, rotation = experiment.model, rotation_by(33.0).astype(np.float32)

    def loss(params):
        outputs = model.decode(params, model.encode(params, images, 1).mean)
        return jnp.mean(likelihoods.reconstruction_loss(experiment.source.likelihood, images, outputs))

    params = {name: state.params[name] for name in ("encoder", "decoder")}
    expected = model.rotate_latents(jax.grad(loss)(params), 1, rotation)
    got = jax.grad(loss)(model.rotate_latents(params, 1, rotation))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-3), got, expected)


def test_both_moments_of_every_adam_rotate_and_counts_do_not_change(experiment, state):
    rotation = rotation_by(33.0).astype(np.float32)

    def rotate_tree(tree, power):
        return experiment.model.rotate_latents(tree, 0, rotation**power)

    rotated = optimizer.rotate_moments(state.opt_state, state.params, rotate_tree)
    assert jax.tree.structure(rotated) == jax.tree.structure(state.opt_state)

    def adams(tree):
        is_adam = lambda leaf: isinstance(leaf, optax.ScaleByAdamState)  # noqa: E731
        return [leaf for leaf in jax.tree.leaves(tree, is_leaf=is_adam) if is_adam(leaf)]

    moved, label_of = 0, optimizer.labels(state.params)
    for label in set(jax.tree.leaves(label_of)):
        own = jax.tree.map(lambda leaf, of: leaf if of == label else optax.MaskedNode(), state.params, label_of)  # noqa: B023
        unravel = jax.flatten_util.ravel_pytree(own)[1]
        states = (each.inner_states[label] for each in (state.opt_state, rotated))
        for old, new in zip(*map(adams, states), strict=True):
            assert np.array_equal(old.count, new.count)
            for vector, power, result in ((old.mu, 1, new.mu), (old.nu, 2, new.nu)):
                tree = unravel(jnp.asarray(vector))
                trees = (tree, rotate_tree(tree, power), unravel(result))
                for a, b, c in zip(*map(jax.tree.leaves, trees), strict=True):
                    np.testing.assert_array_equal(b, c)
                    moved += not np.array_equal(a, c)
                    assert power == 1 or np.min(c) >= 0  # a second moment stays one
    assert moved == 6  # two kernels and a bias, two moments each


# A whole rotation.


def rotate(experiment, state, stage):
    program = jax.jit(lambda s: rotate_latents(experiment, stage, experiment.source.arrays, s))
    return jax.tree.map(np.asarray, program(state))


def test_rotation_is_a_function_of_the_state_and_idempotent(experiment, state):
    once, degrees = rotate(experiment, state, 1)
    again, same = rotate(experiment, state, 1)
    assert tiny.fingerprint(once) == tiny.fingerprint(again)
    assert degrees == same
    assert degrees > 3  # an untrained model has no axes yet
    assert (once.step, once.stage) == (state.step, state.stage)
    np.testing.assert_array_equal(once.key, state.key)
    assert rotate(experiment, once, 1)[1] < 0.3
    other = once.params["encoder"]["group_0"]
    jax.tree.map(np.testing.assert_array_equal, other, state.params["encoder"]["group_0"])


def test_replicas_rotate_like_single_runs(experiment, state):
    other = jax.tree.map(np.asarray, init_state(dataclasses.replace(experiment, seed=5)))
    runner = Runner(experiment, jax.devices()[:1], replicas=2)
    together, degrees = runner.rotate(0, runner.put([state, other]))
    for index, single in enumerate((state, other)):
        expected, by = rotate(experiment, single, 0)
        got = jax.tree.map(np.asarray, runner.split(together)[index])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), got.params, expected.params)
        np.testing.assert_allclose(degrees[index], by, atol=0.1)


# When.


def test_rotations_come_at_fixed_intervals_within_a_stage_and_not_at_its_ends():
    stages = dataclasses.replace(schedules.fixed_stages((8.0, 2.0), (6, 1), 11), rotation_every=2)
    assert [step for step in range(12) if stages.rotates_at(step)] == [2, 4, 8, 10]
    assert [stages.next_rotation(step) for step in range(11)] == [2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 11]
    never = dataclasses.replace(stages, rotation_every=None)
    assert not any(never.rotates_at(step) for step in range(12))
    assert [never.next_rotation(step) for step in (0, 5, 6)] == [6, 6, 11]


def test_run_interrupted_before_at_and_after_a_rotation_ends_like_the_whole_one(shared_programs, stop_at, tmp_path):
    config = tiny.config() | {"stages": tiny.config()["stages"] | {"rotation_every": 3}}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    expected = session.run(config, whole)
    rotations = [record for record in runs.records(whole) if record["kind"] == "rotation"]
    assert [(record["step"], record["stage"]) for record in rotations] == [(3, 0), (7, 1)]
    assert all(0 < record["degrees"] <= 90 for record in rotations)
    for stop in (2, 3, 7):
        stop_at(config, parts, stop)
    assert session.run(config, parts) == expected
    assert runs.records(parts) == runs.records(whole)
    assert runs.state_of(parts) == runs.state_of(whole)


# Objectives that allow rotations.


UNSAFE = {"factor_vae", "cascade_vae_c", "devae", "qlae", "tripod"}


@pytest.mark.parametrize("name", sorted(UNSAFE))
def test_objective_that_distinguishes_latents_is_refused(name):
    config = presets.baseline(name, **presets.BASELINES[name])
    config.stages.rotation_every = 100
    with pytest.raises(ValueError, match=rf"rotation_every .* '{name}'"):
        training_build.build(config)


@pytest.mark.parametrize("name", sorted(set(presets.BASELINES) - UNSAFE))
def test_rotation_safe_objective_does_not_depend_on_order_and_signs_of_latents(name):
    options = {key: value for key, value in presets.BASELINES[name].items() if key != "beta"}
    objective = registry.get(name, schedules.constant(3.0), latents=4, num_images=1_000, **options)
    assert objective.rotation_safe
    rng = np.random.default_rng(0)
    mean, logvar, z = (jnp.asarray(rng.normal(size=(16, 4)), jnp.float32) for _ in range(3))
    order, signs = np.array([2, 0, 3, 1]), np.array([1, -1, -1, 1], np.float32)
    params, objective_state = objective.init(jax.random.key(0))

    def regulariser(mean, logvar, z):
        return objective.apply(params, objective_state, jnp.int32(5), Posterior(mean, logvar), z, jax.random.key(1))[0][
            "regulariser"
        ]

    changed = regulariser(mean[:, order] * signs, logvar[:, order], z[:, order] * signs)
    np.testing.assert_allclose(changed, regulariser(mean, logvar, z), rtol=1e-4)


@pytest.mark.parametrize("name", ["beta_vae", "annealed_vae", "control_vae", "dynamic_vae", "beta_tcvae"])
def test_kl_objectives_are_invariant_to_rotation_and_the_total_correlation_is_not(name):
    """With isotropic posteriors the KL is the same for codes rotated by any angle."""
    options = {key: value for key, value in presets.BASELINES[name].items() if key != "beta"}
    objective = registry.get(name, schedules.constant(3.0), latents=2, num_images=10_000, **options)
    rng = np.random.default_rng(0)
    mean = DRAWS["uniform"](rng, (512, 2)).astype(np.float32)
    noise = 0.3 * rng.normal(size=mean.shape).astype(np.float32)
    params, objective_state = objective.init(jax.random.key(0))

    def regulariser(degrees):
        codes, z = ((array @ rotation_by(degrees).T).astype(np.float32) for array in (mean, mean + noise))
        posterior = Posterior(jnp.asarray(codes), jnp.full((512, 2), 2 * np.log(0.3)))
        terms, _ = objective.apply(params, objective_state, jnp.int32(5), posterior, jnp.asarray(z), jax.random.key(1))
        return float(jnp.mean(terms["regulariser"]))

    gained = regulariser(45) - regulariser(0)
    if name == "beta_tcvae":
        assert gained > 0.1  # nats, of independent uniform codes that are mixed
    else:
        assert abs(gained) < 1e-3
