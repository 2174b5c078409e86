"""The baselines' objectives against closed forms, brute force in numpy, finite differences and limiting cases."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deft_jax.models.posterior import Posterior, kl_per_latent, reparameterise
from deft_jax.objectives import registry
from deft_jax.training import schedules

CONTEXT = {"latents": 3, "num_images": 1000}
# Objectives without trained parameters; test_objectives_learned.py has the others.
OTHERS = {"ada_gvae", "ada_ml_vae", "beta_vae", "deft", "devae", "factor_vae", "qlae", "tripod"}
BASELINES = sorted(set(registry.OBJECTIVES) - OTHERS)
CONTROLLERS = ["control_vae", "dynamic_vae"]


def baseline(name, beta=1.0, num_images=1000, **kwargs):
    return registry.get(name, schedules.constant(beta), latents=3, num_images=num_images, **kwargs)


def draw(seed=1, batch=6, latents=3):
    key_mean, key_logvar, key_noise = jax.random.split(jax.random.key(seed), 3)
    posterior = Posterior(
        jax.random.normal(key_mean, (batch, latents)), 0.5 * jax.random.normal(key_logvar, (batch, latents)) - 1.0
    )
    return posterior, reparameterise(posterior, jax.random.normal(key_noise, (batch, latents)))


def apply(objective, posterior, z, step=0, objective_state=None):
    """(terms, objective_state) of one compiled call."""
    objective_state = objective.init(jax.random.key(0))[1] if objective_state is None else objective_state
    return _apply(objective, objective_state, step, posterior, z)


@functools.partial(jax.jit, static_argnums=0)
def _apply(objective, objective_state, step, posterior, z):
    return objective.apply((), objective_state, step, posterior, z, jax.random.key(1))


def kl_b(posterior):
    return np.asarray(kl_per_latent(posterior)).sum(axis=1)


def with_kl(total):
    """A posterior of one example and one latent whose KL is `total` nats."""
    return Posterior(jnp.full((1, 1), jnp.sqrt(2.0 * total)), jnp.zeros((1, 1)))


def run(objective, kls, steps=None):
    """Betas, targets and final state of a controller that measures these KLs one after another, in one compiled scan.

    steps: of the training. Default: 0, 1, 2, ...
    """

    def body(objective_state, at):
        step, kl = at
        posterior = with_kl(kl)
        terms, objective_state = objective.apply(
            (), objective_state, step, posterior, posterior.mean, jax.random.key(0)
        )
        return objective_state, (terms["beta"], terms["kl_target"])

    steps = jnp.arange(len(kls)) if steps is None else jnp.asarray(steps)
    objective_state, (betas, targets) = jax.jit(lambda m, a: jax.lax.scan(body, m, a))(
        objective.init(jax.random.key(0))[1], (steps, jnp.asarray(kls, jnp.float32))
    )
    return np.asarray(betas), np.asarray(targets), objective_state


# ---- every baseline ----


@pytest.mark.parametrize("name", BASELINES)
def test_terms_and_state_keep_their_shapes_and_types_in_a_compiled_loop(name):
    objective = baseline(name)
    posterior, z = draw()
    params, objective_state = objective.init(jax.random.key(0))
    assert params == ()
    terms, after = apply(objective, posterior, z, jnp.int32(7))
    assert terms["regulariser"].shape == (6,)
    assert all(value.shape == () for key, value in terms.items() if key != "regulariser")

    def types(tree):
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), tree)

    assert types(after) == types(objective_state)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(objective_state))
    assert all(leaf.dtype in (jnp.float32, jnp.int32) for leaf in jax.tree.leaves(objective_state))

    def body(step, objective_state):  # the carry of a loop must not change its type
        return objective.apply((), objective_state, step, posterior, z, jax.random.key(1))[1]

    looped = jax.jit(lambda m: jax.lax.fori_loop(0, 3, body, m))(objective_state)
    assert types(looped) == types(objective_state)


@pytest.mark.parametrize("name", [name for name in BASELINES if name not in CONTROLLERS])
def test_gradients_agree_with_finite_differences_in_float64(name):
    # Through mean and logvar, z = mean + exp(logvar / 2) * noise included; the KL is some nats above the capacity.
    kwargs = {"annealed_vae": {"ramp_steps": 1, "capacity": 1.0}, "cascade_vae_c": {"period": 1}}.get(name, {})
    kwargs = [{"estimator": "weighted"}, {"estimator": "stratified"}] if name == "beta_tcvae" else [kwargs]
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        at, noise = rng.normal(size=(2, 4, 3)) - np.array([0.0, 1.0])[:, None, None], rng.normal(size=(4, 3))
        directions = rng.normal(size=(5, 2, 4, 3))
        for options in kwargs:
            objective = baseline(name, 3.0, num_images=50, **options)

            def loss(both, objective=objective):
                posterior = Posterior(*both)
                z = reparameterise(posterior, noise)
                objective_state = objective.init(jax.random.key(0))[1]
                terms, _ = objective.apply((), objective_state, 1, posterior, z, jax.random.key(0))
                return jnp.mean(terms["regulariser"])

            compiled = jax.jit(loss)
            gradient = np.asarray(jax.jit(jax.grad(loss))(at))
            assert gradient.dtype == np.float64
            for direction in directions:
                step = 1e-6 * direction
                slope = (float(compiled(at + step)) - float(compiled(at - step))) / 2e-6
                # beta(step) is float32, as schedules are: exact at 3.
                np.testing.assert_allclose(np.sum(gradient * direction), slope, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", CONTROLLERS)
def test_the_weight_of_a_controller_has_no_gradient(name):
    objective = baseline(name, 2.0, kl_start=1.0)
    posterior, z = draw()
    objective_state = objective.init(jax.random.key(0))[1]

    def loss(posterior):
        terms, _ = objective.apply((), objective_state, 0, posterior, z, jax.random.key(0))
        return jnp.sum(terms["regulariser"]), terms["beta"]

    gradient, weight = jax.jit(jax.grad(loss, has_aux=True))(posterior)
    mean, logvar = posterior
    np.testing.assert_allclose(gradient.mean, weight * mean, rtol=1e-5)
    np.testing.assert_allclose(gradient.logvar, 0.5 * weight * (jnp.exp(logvar) - 1.0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "beta", "kwargs"), [
    ("beta_tcvae", 1.0, {"estimator": "weighted"}),
    ("beta_tcvae", 1.0, {"estimator": "stratified"}),
    ("dip_vae_i", 5.0, {"lambda_od": 0.0}),
    ("dip_vae_ii", 5.0, {"lambda_od": 0.0, "lambda_d": 0.0}),
    ("cascade_vae_c", 5.0, {"beta_high": 5.0}),
    ("cascade_vae_c", 5.0, {"beta_high": 70.0, "period": 1}),  # at step 3 all latents are open
    ("control_vae", 5.0, {"kp": 0.0, "ki": 0.0}),
    ("dynamic_vae", 5.0, {"kp": 0.0, "ki": 0.0, "beta_start": 5.0}),
])
def test_each_is_the_beta_vae_where_its_further_weights_vanish(name, beta, kwargs):
    posterior, z = draw()
    terms, _ = apply(baseline(name, beta, **kwargs), posterior, z, 3)
    np.testing.assert_allclose(terms["regulariser"], beta * kl_b(posterior), rtol=1e-6)
    assert float(terms["beta"]) == beta


# ---- annealed_vae ----


def test_the_capacity_rises_linearly_and_stays():
    objective = baseline("annealed_vae", 100.0, capacity=25.0, ramp_steps=1000)
    posterior, z = draw()
    kl = kl_b(posterior).mean()
    for step, capacity in ((0, 0.0), (1, 0.025), (400, 10.0), (1000, 25.0), (5000, 25.0)):
        terms, _ = apply(objective, posterior, z, step)
        np.testing.assert_allclose(terms["capacity"], capacity, rtol=1e-6)
        np.testing.assert_allclose(terms["regulariser"], np.full(6, 100.0 * abs(kl - capacity)), rtol=1e-5)


# ---- beta_tcvae ----


def brute_force_tc(z, mean, logvar, num_images, estimator):
    """TC of each example by two plain loops in float64."""
    batch, latents = z.shape
    tc = []
    for i in range(batch):
        joint, marginals, weight_sum = 0.0, np.zeros(latents), 0.0
        for j in range(batch):
            variance = np.exp(logvar[j])
            density = np.exp(-((z[i] - mean[j]) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
            if estimator == "weighted":
                weight = 1 / (num_images * batch)
            else:
                weight = 1 / num_images if i == j else (num_images - 1) / (num_images * (batch - 1))
            joint += weight * density.prod()
            marginals += weight * density
            weight_sum += weight
        assert np.isclose(weight_sum, 1 / num_images if estimator == "weighted" else 1.0)
        tc.append(np.log(joint) - np.log(marginals).sum())
    return np.array(tc)


@pytest.mark.parametrize("estimator", ["weighted", "stratified"])
@pytest.mark.parametrize("num_images", [7, 737_280])
def test_total_correlation_equals_brute_force(estimator, num_images):
    posterior, z = draw(batch=7)
    terms, _ = apply(baseline("beta_tcvae", 6.0, num_images=num_images, estimator=estimator), posterior, z)
    expected = brute_force_tc(*(np.asarray(x, np.float64) for x in (z, *posterior)), num_images, estimator)
    np.testing.assert_allclose(terms["total_correlation"], expected.mean(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(terms["regulariser"], kl_b(posterior) + 5.0 * expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("shared", "expected"), [(False, 0.0), (True, -0.5 * np.log(1 - 0.9**2))])
def test_total_correlation_of_a_gaussian_aggregate(shared, expected):
    # Means of variance 0.9 and posteriors of variance 0.1: q(z) is a unit Gaussian, and where the two latents share
    # their mean the correlation is 0.9. The mean over 2,048 images scatters by about 0.02; N = B.
    batch = 2048
    key_mean, key_noise = jax.random.split(jax.random.key(0))
    means = jnp.sqrt(0.9) * jax.random.normal(key_mean, (batch, 2))
    means = jnp.stack([means[:, 0]] * 2, axis=1) if shared else means
    posterior = Posterior(means, jnp.full((batch, 2), jnp.log(0.1)))
    z = reparameterise(posterior, jax.random.normal(key_noise, (batch, 2)))
    totals = {
        name: float(
            apply(baseline("beta_tcvae", num_images=batch, estimator=name), posterior, z)[0]["total_correlation"]
        )
        for name in ("weighted", "stratified")
    }
    assert abs(totals["stratified"] - expected) < 0.08
    assert abs(totals["weighted"] - np.log(batch) - expected) < 0.08  # its constant, (D - 1) log N


def test_stratified_sampling_of_one_example_is_refused():
    with pytest.raises(ValueError, match="batch_size"):
        apply(baseline("beta_tcvae", estimator="stratified"), *draw(batch=1))


# ---- dip_vae ----


def test_dip_penalties_of_a_known_covariance():
    # Means at +-(1, 1, 0) and +-(1, -1, 0) scaled: covariance [[a, b, 0], [b, a, 0], [0, 0, 0]] with a = 2.5, b = 1.5.
    means = jnp.array([[2.0, 2.0, 0.0], [-2.0, -2.0, 0.0], [1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]]) + 0.3
    posterior = Posterior(means, jnp.log(jnp.array([[0.1, 0.5, 0.8]] * 2 + [[0.3, 0.5, 1.0]] * 2)))
    penalties = {
        "dip_vae_i": 10 * 2 * 1.5**2 + 100 * (1.5**2 + 1.5**2 + 1.0),  # variances 2.5, 2.5, 0
        "dip_vae_ii": 10 * 2 * 1.5**2 + 10 * (1.7**2 + 2.0**2 + 0.1**2),  # 2.5 + 0.2, 2.5 + 0.5, 0.9
    }
    for name, expected in penalties.items():
        terms, _ = apply(baseline(name, 2.0), posterior, means)
        np.testing.assert_allclose(terms["covariance_penalty"], expected, rtol=1e-5)
        np.testing.assert_allclose(terms["regulariser"], 2.0 * kl_b(posterior) + expected, rtol=1e-5)


def test_dip_weights_are_the_options():
    posterior, z = draw()
    covariance = np.cov(np.asarray(posterior.mean).T, bias=True)
    off = np.sum(covariance**2) - np.sum(np.diag(covariance) ** 2)
    diagonal = np.sum((np.diag(covariance) - 1) ** 2)
    terms, _ = apply(baseline("dip_vae_i", lambda_od=3.0, lambda_d=0.5), posterior, z)
    np.testing.assert_allclose(terms["covariance_penalty"], 3.0 * off + 0.5 * diagonal, rtol=1e-5)


# ---- cascade_vae_c ----


def test_the_first_latent_is_open_at_step_0_and_one_more_opens_every_period():
    objective = baseline("cascade_vae_c", 1.0, beta_high=10.0, period=100)
    posterior, z = draw()
    kl_bxd = np.asarray(kl_per_latent(posterior))
    for step, weights in ((0, (1, 10, 10)), (99, (1, 10, 10)), (100, (1, 1, 10)), (200, (1, 1, 1)), (999, (1, 1, 1))):
        terms, _ = apply(objective, posterior, z, step)
        np.testing.assert_allclose(terms["regulariser"], kl_bxd @ np.array(weights, np.float32), rtol=1e-5)
        assert float(terms["open_latents"]) == weights.count(1)


# ---- control_vae ----


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_the_pi_controller_equals_a_plain_loop():
    kls = np.random.default_rng(0).uniform(0.0, 9.0, 50)
    objective = baseline("control_vae", 1.0, kl_target=3.0, kl_start=0.5, increment=0.4, period=5, kp=0.5, ki=0.02)
    betas, targets, objective_state = run(objective, kls)
    expected, integral = [], 0.0
    for step, kl in enumerate(kls):
        target = min(0.5 + 0.4 * (step // 5), 3.0)
        np.testing.assert_allclose(targets[step], target, rtol=1e-6)
        proportional = 0.5 / (1 + np.exp(target - kl))
        integral = max(integral - 0.02 * (target - kl), -proportional)
        expected.append(1.0 + proportional + integral)
    np.testing.assert_allclose(betas, expected, rtol=1e-5)
    np.testing.assert_allclose(objective_state["integral"], integral, rtol=1e-4)
    assert np.ptp(betas) > 0.5


@pytest.mark.parametrize(("away", "back", "limit"), [(0.0, 20.0, 1.0), (20.0, 0.0, 4.0)])
def test_a_saturated_controller_leaves_its_limit_with_the_first_error_of_the_other_sign(away, back, limit):
    objective = baseline("control_vae", 1.0, kl_target=10.0, kl_start=10.0, kp=0.01, ki=0.01, beta_max=4.0)
    betas, _, _ = run(objective, [away] * 400 + [back] * 3)
    np.testing.assert_allclose(betas[350:400], limit, atol=1e-6)  # a sum that went on would be 40 nats beyond
    assert np.all((betas >= 1.0) & (betas <= 4.0 + 1e-6))
    # Each step back is ki * 10 nats, and the proportional part goes from one of its ends to the other.
    np.testing.assert_allclose(np.abs(betas[400:] - limit), [0.11, 0.21, 0.31], atol=1e-4)


def test_beta_of_the_stage_is_the_smallest_weight_even_above_beta_max():
    objective = registry.get("control_vae", schedules.piecewise([9.0, 2.0], [0, 5]), beta_max=4.0, **CONTEXT)
    betas, _, _ = run(objective, [0.0] * 10)
    np.testing.assert_allclose(betas, [9.0] * 5 + [2.0] * 5, rtol=1e-6)


# ---- dynamic_vae ----


def test_the_incremental_controller_equals_a_plain_loop():
    kls = np.random.default_rng(1).uniform(0.0, 6.0, 50)
    options = {"kl_target": 4.0, "kl_start": 0.5, "increment": 0.8, "period": 10, "ramp_steps": 4}
    objective = baseline("dynamic_vae", 0.1, kp=0.3, ki=0.02, beta_start=2.0, window=5, **options)
    betas, targets, objective_state = run(objective, kls)
    weight, before, expected = 2.0, 0.0, []
    for step in range(50):
        target = min(0.5 + 0.8 * max(step // 10 - 1 + min(step % 10 / 4, 1.0), 0.0), 4.0)
        np.testing.assert_allclose(targets[step], target, rtol=1e-6)
        error = target - kls[max(step - 4, 0) : step + 1].mean()
        weight = max(weight + 0.3 * (sigmoid(-error) - sigmoid(-before)) - 0.02 * error, 0.1)
        before = error
        expected.append(weight)
    np.testing.assert_allclose(betas, expected, rtol=1e-4)
    np.testing.assert_allclose(objective_state["kls"], kls[-5:], rtol=1e-5)
    assert int(objective_state["seen"]) == 5


def test_the_incremental_controller_does_not_wind_up_below_the_smallest_weight():
    objective = baseline("dynamic_vae", 0.1, kl_start=10.0, beta_start=1.0, kp=0.0, ki=0.01, window=1)
    betas, _, _ = run(objective, [0.0] * 200 + [20.0] * 3)
    np.testing.assert_allclose(betas[:3], [0.9, 0.8, 0.7], rtol=1e-5)
    np.testing.assert_allclose(betas[20:200], 0.1, rtol=1e-6)
    np.testing.assert_allclose(betas[200:], [0.2, 0.3, 0.4], rtol=1e-5)


def test_the_target_of_dynamic_vae_waits_rises_in_ramps_and_stops():
    objective = baseline("dynamic_vae", kl_start=0.5, kl_target=0.9, increment=0.15, period=6000, ramp_steps=1000)
    expected = {0: 0.5, 5999: 0.5, 6500: 0.575, 7000: 0.65, 11_999: 0.65, 12_500: 0.725, 18_500: 0.875, 10**6: 0.9}
    _, targets, _ = run(objective, [1.0] * len(expected), steps=list(expected))
    np.testing.assert_allclose(targets, list(expected.values()), rtol=1e-5)
