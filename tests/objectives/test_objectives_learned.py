"""Objectives with trained parameters; parameters and state through training steps, checkpoints and devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from deft_jax.models.posterior import Posterior, kl_per_latent, reparameterise
from deft_jax.objectives import registry
from deft_jax.training import schedules
from deft_jax.training.checkpoint import Checkpoints
from deft_jax.training.runner import Runner
from deft_jax.training.step import init_state

LATENTS = 3
SMALL = {"width": 16, "depth": 2}
# Options under which a few steps of the tiny run go through every part of an objective.
QUICK = {
    "beta_tcvae": {"estimator": "stratified"},
    "control_vae": {"period": 2, "ki": 0.05},
    "dynamic_vae": {"period": 2, "ramp_steps": 2, "window": 3},
    "factor_vae": SMALL,
    "tripod": {"num_values": 1000},  # so many that the codes of a batch differ
}


def get(name, beta=1.0, **kwargs):
    return registry.get(name, schedules.constant(beta), latents=LATENTS, num_images=1000, **kwargs)


def draw(batch=32, seed=0):
    """A posterior, noise, z, and a key."""
    keys = jax.random.split(jax.random.key(seed), 4)
    posterior = Posterior(jax.random.normal(keys[0], (batch, LATENTS)), jax.random.normal(keys[1], (batch, LATENTS)))
    noise = jax.random.normal(keys[2], (batch, LATENTS))
    return posterior, noise, reparameterise(posterior, noise), keys[3]


def plain_regulariser(posterior, beta=1.0):
    return beta * np.asarray(kl_per_latent(posterior)).sum(axis=1)


# ---- factor_vae ----


def test_neither_loss_of_factor_vae_has_a_gradient_to_the_parameters_of_the_other():
    objective = get("factor_vae", gamma=7.0, **SMALL)
    params, objective_state = objective.init(jax.random.key(0))
    posterior, _, z, key = draw()

    def terms(params, posterior, z):
        return objective.apply(params, objective_state, jnp.int32(0), posterior, z, key)[0]

    @jax.jit
    def gradients(params, posterior, z):
        regulariser = jax.grad(lambda *a: jnp.mean(terms(*a)["regulariser"]), (0, 1, 2))(params, posterior, z)
        loss = jax.grad(lambda *a: terms(*a)["objective_loss"], (0, 1, 2))(params, posterior, z)
        return regulariser, loss

    (to_params, to_posterior, to_z), (loss_to_params, *loss_to_codes) = gradients(params, posterior, z)
    for leaf in jax.tree.leaves((to_params, loss_to_codes)):
        np.testing.assert_array_equal(leaf, np.zeros_like(leaf))
    for tree in (to_posterior, to_z, loss_to_params):
        assert any(np.any(leaf != 0) for leaf in jax.tree.leaves(tree))


def test_the_training_step_updates_the_discriminator_by_its_loss_and_its_adam():
    """Its first update is that of Adam with 1e-4, b1 = 0.5, b2 = 0.9 on its cross-entropy, whatever the rest learns."""
    experiment = tiny.experiment(objective={"name": "factor_vae", **SMALL}, optimizer={"decoder_learning_rate": 0.3})
    runner, state = Runner(experiment, jax.devices()[:1]), init_state(experiment)
    before = jax.tree.map(np.array, state)
    after, _ = runner.run(0, runner.put(state), 1)
    moved = jax.tree.map(lambda a, b: np.abs(np.asarray(a) - b).max(), after.params, before.params)
    np.testing.assert_allclose(max(jax.tree.leaves(moved["objective"])), 1e-4, rtol=0.01)
    assert max(jax.tree.leaves(moved["decoder"])) > 0.1


@pytest.mark.parametrize(("correlation", "expected"), [(0.0, 0.0), (0.9, -0.5 * np.log(1 - 0.81))])
def test_a_trained_discriminator_estimates_the_total_correlation_of_gaussians(correlation, expected):
    """-log(1 - rho^2) / 2 nats for two latents of correlation rho and an independent third, within 0.1 nats."""
    objective = get("factor_vae", discriminator_learning_rate=2e-3, width=32, depth=2)
    mixing = jnp.array([[1.0, 0, 0], [correlation, (1 - correlation**2) ** 0.5, 0], [0, 0, 1.0]])

    def terms(params, key):
        key_z, key = jax.random.split(key)
        z = jax.random.normal(key_z, (512, LATENTS)) @ mixing.T
        return objective.apply(params, (), jnp.int32(0), Posterior(z, jnp.zeros_like(z)), z, key)[0]

    @jax.jit
    def train(params):
        def step(carry, key):
            params, state = carry
            grads = jax.grad(lambda p: terms(p, key)["objective_loss"])(params)
            updates, state = objective.optimizer.update(grads, state, params)
            params = jax.tree.map(jnp.add, params, updates)
            return (params, state), terms(params, jax.random.fold_in(key, 1))["total_correlation"]

        carry = (params, objective.optimizer.init(params))
        return jax.lax.scan(step, carry, jax.random.split(jax.random.key(1), 600))[1]

    params, _ = objective.init(jax.random.key(0))
    assert abs(float(train(params)[-200:].mean()) - expected) < 0.1


def test_a_discriminator_of_logit_0_has_loss_log_2_and_changes_no_regulariser():
    objective = get("factor_vae", gamma=7.0, beta=3.0, **SMALL)
    params = jax.tree.map(jnp.zeros_like, objective.init(jax.random.key(0))[0])
    posterior, _, z, key = draw()
    terms, _ = objective.apply(params, (), jnp.int32(0), posterior, z, key)
    np.testing.assert_allclose(terms["objective_loss"], np.log(2), rtol=1e-6)
    np.testing.assert_allclose(terms["regulariser"], plain_regulariser(posterior, 3.0), rtol=1e-5)


@pytest.mark.parametrize("name", ["factor_vae", "devae"])
def test_each_is_the_beta_vae_where_its_further_weights_vanish(name):
    objective = get(name, beta=3.0, **({"gamma": 0.0, **SMALL} if name == "factor_vae" else {"betas": ()}))
    params, objective_state = objective.init(jax.random.key(0))
    posterior, noise, z, key = draw()
    terms, _ = objective.apply(params, objective_state, jnp.int32(0), posterior, z, key)
    np.testing.assert_allclose(terms["regulariser"], plain_regulariser(posterior, 3.0), rtol=1e-5)
    spaces = objective.spaces(params, posterior, noise)
    np.testing.assert_allclose(spaces, z[None], rtol=1e-6)


# ---- devae ----


def test_the_spaces_of_devae_are_scaled_and_shifted_latent_by_latent():
    objective = get("devae", beta=2.0, betas=(10.0, 40.0))
    posterior, noise, z, key = draw()
    params, objective_state = objective.init(jax.random.key(0))
    start = objective.spaces(params, posterior, noise)
    np.testing.assert_allclose(start, np.broadcast_to(z, start.shape), rtol=1e-6)  # all spaces start as the first

    scale, shift = np.array([[2.0, 1.0, 0.5], [3.0, 0.25, 1.0]]), np.array([[0.5, -1.0, 0.0], [1.0, 0.0, -0.5]])
    params = {"log_scale": jnp.log(jnp.asarray(scale)), "shift": jnp.asarray(shift)}
    spaces = objective.spaces(params, posterior, noise)
    terms, _ = objective.apply(params, objective_state, jnp.int32(0), posterior, z, key)
    total = plain_regulariser(posterior, 2.0)
    for k, beta in enumerate((10.0, 40.0)):
        moved = Posterior(scale[k] * posterior.mean, posterior.logvar + shift[k])
        np.testing.assert_allclose(spaces[k + 1], reparameterise(moved, noise), rtol=1e-5)
        total = total + plain_regulariser(moved, beta)
        np.testing.assert_allclose(terms[f"kl_space_{k + 1}"], plain_regulariser(moved).mean(), rtol=1e-5)
    np.testing.assert_allclose(terms["regulariser"], total / 3, rtol=1e-5)


def test_the_reconstruction_of_a_step_is_the_mean_over_spaces():
    """With all spaces equal, as at the start, it is that of the beta-VAE, and so is the loss under equal weights."""
    losses = []
    for objective in ({"name": "beta_vae"}, {"name": "devae", "betas": (8.0, 8.0)}):
        experiment = tiny.experiment(objective=objective)
        runner = Runner(experiment, jax.devices()[:1])
        losses.append(runner.run(0, runner.put(init_state(experiment)), 1)[1])
    for name in ("reconstruction", "loss", "kl"):
        np.testing.assert_allclose(losses[0][name], losses[1][name], rtol=1e-5)


# ---- qlae ----


def test_codes_are_the_nearest_values_of_each_latent_and_represent_themselves():
    objective = get("qlae", num_values=4)
    values = np.array([[-1.0, 0.0, 0.5, 2.0], [0.0, 1.0, 2.0, 3.0], [-3.0, -2.0, -1.0, 0.0]])
    params = {"values": jnp.asarray(values)}
    posterior, noise, _, _ = draw()
    mean = np.asarray(posterior.mean)
    nearest = np.stack([v[np.abs(mean[:, d, None] - v).argmin(1)] for d, v in enumerate(values)], axis=1)
    np.testing.assert_allclose(objective.spaces(params, posterior, noise)[0], nearest, rtol=1e-6)
    represented = objective.represent(params, posterior)
    np.testing.assert_allclose(represented.mean, nearest, rtol=1e-6)
    np.testing.assert_allclose(objective.represent(params, represented).mean, nearest, rtol=1e-6)
    np.testing.assert_allclose(np.exp(represented.logvar), 1 / 9 / 12, rtol=1e-5)


def test_the_gradient_passes_straight_through_and_each_value_follows_the_means_nearest_to_it():
    objective = get("qlae", beta=0.5, num_values=3)
    params, objective_state = objective.init(jax.random.key(0))
    np.testing.assert_allclose(params["values"], [[-0.5, 0, 0.5]] * LATENTS)
    posterior, noise, z, key = draw()

    def decoded(params, mean):
        return jnp.sum(objective.spaces(params, Posterior(mean, posterior.logvar), noise) * noise)

    to_params, to_mean = jax.grad(decoded, (0, 1))(params, posterior.mean)
    np.testing.assert_allclose(to_mean, noise)
    np.testing.assert_array_equal(to_params["values"], np.zeros((LATENTS, 3)))

    def pulled(params, mean):
        here = Posterior(mean, posterior.logvar)
        return jnp.sum(objective.apply(params, objective_state, jnp.int32(0), here, z, key)[0]["regulariser"])

    to_params, to_mean = jax.grad(pulled, (0, 1))(params, posterior.mean)
    code = np.asarray(objective.represent(params, posterior).mean)
    off = np.asarray(posterior.mean) - code
    np.testing.assert_allclose(to_mean, 2 * 0.5 * off, rtol=1e-4, atol=1e-6)
    for d in range(LATENTS):
        for v, value in enumerate((-0.5, 0.0, 0.5)):
            expected = -2 * 0.5 * off[code[:, d] == value, d].sum()
            np.testing.assert_allclose(to_params["values"][d, v], expected, rtol=1e-4, atol=1e-5)


def test_the_kl_of_qlae_is_the_entropy_of_the_values_in_use():
    objective = get("qlae", num_values=3)
    params, objective_state = objective.init(jax.random.key(0))
    column = np.array([-0.5, -0.5, 0.0, 0.5])
    mean = jnp.asarray(np.stack([column, np.full(4, 0.49), np.array([-9.0, -9, 9, 9])], axis=1))
    posterior = Posterior(mean, jnp.zeros_like(mean))
    terms, _ = objective.apply(params, objective_state, jnp.int32(0), posterior, mean, jax.random.key(0))
    np.testing.assert_allclose(terms["kl_per_latent"], [1.5 * np.log(2), 0.0, np.log(2)], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(terms["kl"], 2.5 * np.log(2), rtol=1e-5)


# ---- parameters and state of objectives ----


def objective_options(name):
    return {"name": name, **QUICK.get(name, {})}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["control_vae", "devae", "dynamic_vae", "factor_vae", "qlae"])
def test_a_run_through_a_checkpoint_equals_one_without_bit_for_bit(name, tmp_path):
    """Objectives with parameters or state: six steps, and three, a checkpoint, its restoration, and three more."""
    experiment = tiny.experiment(objective=objective_options(name))
    runner, initial = Runner(experiment, jax.devices()[:1]), jax.tree.map(np.array, init_state(experiment))
    uninterrupted, metrics = runner.run(0, runner.put(initial), 6)
    assert np.isfinite(metrics["loss"])
    half, _ = runner.run(0, runner.put(initial), 3)
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1)
    checkpoints.save(half)
    checkpoints.close()
    again = Checkpoints(tmp_path / "checkpoints", keep=1)
    restored = again.restore(init_state(experiment))
    again.close()
    resumed, _ = runner.run(0, runner.put(restored), 3)
    assert tiny.fingerprint(resumed) == tiny.fingerprint(uninterrupted)
    if experiment.objective.init(jax.random.key(0))[1]:
        assert tiny.fingerprint(uninterrupted.objective_state) != tiny.fingerprint(initial.objective_state)


DEVICES = """
import sys
import jax
import numpy as np
import tiny
from test_objectives_learned import objective_options
from deft_jax.training.runner import Runner
from deft_jax.training.step import init_state

assert len(jax.devices()) == 2, jax.devices()
for name in sys.argv[1:]:
    labels = {"labels": 6, "weight": 2.0, "batch_size": 4} if name == "ada_gvae" else None
    experiment = tiny.experiment(objective=objective_options(name), supervision=labels)
    state = jax.tree.map(np.array, init_state(experiment))
    ends = []
    for devices in (jax.devices()[:1], jax.devices()):
        runner = Runner(experiment, devices)
        end, metrics = runner.run(0, runner.put(state), 3)
        end = runner.unreplicate(end)
        ends.append(jax.tree.map(np.asarray, (end.params, end.objective_state, metrics)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4, err_msg=name), *ends)
    if name == "tripod":  # beta of the tiny run and the default of hessian_weight
        parts = metrics["reconstruction"] + 8.0 * metrics["multiinformation"] + 41.0 * metrics["hessian_penalty"]
        np.testing.assert_allclose(metrics["loss"], parts, rtol=1e-5)
        assert metrics["hessian_penalty"] > 0.1
    print(name)
"""


@pytest.mark.slow
def test_one_device_and_two_agree_where_a_term_depends_on_the_whole_batch():
    """Batch-wide terms, permutations, pairs, labels and controllers see the whole batch on however many devices."""
    names = ["ada_gvae", "beta_tcvae", "control_vae", "factor_vae", "tripod"]
    assert tiny.run_python(DEVICES, *names, environment=tiny.devices(2)).split() == names
