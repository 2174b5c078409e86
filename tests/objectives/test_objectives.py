"""Losses take their closed forms and units."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deft_jax.models import likelihoods
from deft_jax.models.posterior import Posterior, kl_per_latent
from deft_jax.objectives import registry
from deft_jax.training import schedules

CONTEXT = {"latents": 3, "num_images": 1000}


def test_bernoulli_loss_is_log_2_a_pixel_at_logit_zero_whatever_the_image():
    images = jax.random.uniform(jax.random.key(0), (3, 4, 5, 2))
    loss = likelihoods.reconstruction_loss("bernoulli", images, jnp.zeros_like(images))
    np.testing.assert_allclose(loss, np.full(3, 40 * np.log(2)), rtol=1e-6)


def test_bernoulli_loss_is_the_negative_log_likelihood_summed_over_pixels_and_channels():
    images = np.random.default_rng(0).uniform(size=(2, 3, 3, 2))
    logits = np.random.default_rng(1).normal(size=images.shape) * 3
    white = 1 / (1 + np.exp(-logits))
    expected = -(images * np.log(white) + (1 - images) * np.log(1 - white)).sum(axis=(1, 2, 3))
    loss = likelihoods.reconstruction_loss("bernoulli", jnp.asarray(images), jnp.asarray(logits))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_bernoulli_loss_stays_finite_at_extreme_logits():
    images = jnp.array([0.0, 1.0]).reshape(1, 2, 1, 1)
    for sign in (-1, 1):
        logits = jnp.array([1e4 * sign, -1e4 * sign]).reshape(1, 2, 1, 1)
        loss = float(likelihoods.reconstruction_loss("bernoulli", images, logits)[0])
        np.testing.assert_allclose(loss, 2e4 if sign == 1 else 0.0, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.uint8, bool])
def test_bernoulli_loss_has_the_derivatives_of_its_closed_form(dtype):
    logits = jnp.array([-1e4, -90.0, -3.0, 0.0, 0.5, 20.0, 1e4])
    images = jnp.array([0, 1, 1, 0, 1, 1, 0]).astype(dtype)

    def loss(logits):
        return jnp.sum(likelihoods.pixel_losses("bernoulli", images, logits))

    def closed_form(logits):
        return jnp.sum(jax.nn.softplus(logits) - images * logits)

    for derivative in (jax.grad, jax.jacfwd, jax.hessian):
        np.testing.assert_allclose(derivative(loss)(logits), derivative(closed_form)(logits), rtol=1e-5, atol=1e-6)
    if dtype == jnp.float32:
        by_image = jax.grad(lambda images: jnp.sum(likelihoods.pixel_losses("bernoulli", images, logits)))(images)
        np.testing.assert_array_equal(by_image, -logits)


def test_gaussian_loss_is_the_squared_error_summed_over_pixels_and_channels():
    images, outputs = jnp.full((2, 4, 4, 3), 0.75), jnp.full((2, 4, 4, 3), 0.25)
    np.testing.assert_allclose(likelihoods.reconstruction_loss("gaussian", images, outputs), [12.0, 12.0])
    np.testing.assert_array_equal(likelihoods.reconstruction_loss("gaussian", images, images), [0.0, 0.0])


def test_an_unknown_likelihood_is_refused():
    with pytest.raises(ValueError, match="'poisson'"):
        likelihoods.reconstruction_loss("poisson", jnp.zeros((1, 1, 1, 1)), jnp.zeros((1, 1, 1, 1)))


def test_beta_vae_regularises_each_example_with_beta_of_the_step_times_its_kl():
    objective = registry.get("beta_vae", schedules.piecewise([7.0, 2.0], [0, 10]), **CONTEXT)
    params, objective_state = objective.init(jax.random.key(0))
    posterior = Posterior(*jax.random.normal(jax.random.key(1), (2, 4, 3)))
    kl_B = np.asarray(kl_per_latent(posterior)).sum(axis=1)
    for step, beta in ((0, 7.0), (9, 7.0), (10, 2.0)):
        z, key = posterior.mean, jax.random.key(3)
        terms, after = objective.apply(params, objective_state, jnp.int32(step), posterior, z, key)
        np.testing.assert_allclose(terms["regulariser"], beta * kl_B, rtol=1e-6)
        assert float(terms["beta"]) == beta
        assert after == objective_state == ()


def test_an_unknown_objective_is_refused():
    with pytest.raises(ValueError, match="objective 'gan'"):
        registry.get("gan", schedules.constant(1.0), **CONTEXT)


INVALID = [
    ("annealed_vae", {"capacity": -1.0}),
    ("annealed_vae", {"ramp_steps": 0}),
    ("beta_tcvae", {"estimator": "plain"}),
    ("dip_vae_i", {"lambda_od": -1.0}),
    ("dip_vae_ii", {"lambda_d": math.nan}),
    ("cascade_vae_c", {"beta_high": -1.0}),
    ("cascade_vae_c", {"period": 0}),
    ("control_vae", {"kp": -0.1}),
    ("control_vae", {"beta_max": 0.0}),
    ("control_vae", {"kl_target": math.inf}),
    ("dynamic_vae", {"window": 0}),
    ("dynamic_vae", {"ramp_steps": 7, "period": 6}),
    ("dynamic_vae", {"ki": -1.0}),
    ("dynamic_vae", {"gain": 1.0}),  # no such option
    ("factor_vae", {"gamma": -1.0}),
    ("factor_vae", {"depth": 0}),
    ("devae", {"betas": (1.0, -2.0)}),
    ("qlae", {"num_values": 1}),
    ("tripod", {"num_values": 1}),
    ("tripod", {"hessian_weight": -1.0}),
    ("tripod", {"marginal_bandwidth": "silverman"}),
    ("tripod", {"num_directions": 1}),
    ("tripod", {"epsilon": 1e-9}),
]


@pytest.mark.parametrize(("name", "options"), INVALID)
def test_an_invalid_option_is_refused_by_name(name, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        registry.get(name, schedules.constant(1.0), **CONTEXT, **options)
