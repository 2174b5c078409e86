"""Tripod: each of its three terms alone against closed forms. test_objectives_learned.py trains it on devices."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from deft_jax.models.posterior import Posterior
from deft_jax.objectives import registry, tripod
from deft_jax.training import schedules
from deft_jax.training.step import state_shapes, train_step


def get(beta=1.0, **options):
    return registry.get("tripod", schedules.constant(beta), latents=3, num_images=1000, **options)


# ---- quantisation ----


@pytest.mark.parametrize("num_values", [2, 5, 12])
def test_codes_are_the_fixed_values_nearest_to_the_tanh_and_have_its_gradient(num_values):
    mean = jnp.linspace(-4.0, 4.0, 501)[:, None]
    codes, index = jax.jit(tripod.quantise, static_argnums=1)(mean, num_values)
    values = np.linspace(-1, 1, num_values)
    np.testing.assert_allclose(codes[:, 0], values[np.asarray(index[:, 0])], atol=1e-6)
    assert np.abs(np.asarray(codes) - np.tanh(mean)).max() <= 1 / (num_values - 1) + 1e-6
    assert set(np.unique(index)) == set(range(num_values))
    slope = jax.jit(jax.grad(lambda mean: jnp.sum(tripod.quantise(mean, num_values)[0])))(mean)
    np.testing.assert_allclose(slope, 1 - np.tanh(mean) ** 2, rtol=1e-4, atol=1e-6)


def test_the_quantised_codes_are_decoded_scored_and_their_entropy_logged():
    objective = get(num_values=3)
    mean = jnp.array([[-9.0, 0.0, 9.0], [-9.0, 0.1, 9.0], [0.1, 0.0, 9.0], [9.0, -0.1, -9.0]])
    posterior = Posterior(mean, jnp.ones_like(mean))
    expected = np.array([[-1, 0, 1], [-1, 0, 1], [0, 0, 1], [1, 0, -1]])
    np.testing.assert_allclose(objective.spaces((), posterior, mean)[0], expected, atol=1e-6)
    represented = objective.represent((), posterior)
    np.testing.assert_allclose(represented.mean, expected, atol=1e-6)
    np.testing.assert_allclose(np.exp(represented.logvar), 1 / 12, rtol=1e-5)
    terms = jax.jit(lambda: objective.apply((), (), 0, posterior, mean, jax.random.key(0))[0])()
    entropies = [1.5 * np.log(2), 0.0, np.log(4) - 0.75 * np.log(3)]
    np.testing.assert_allclose(terms["kl_per_latent"], entropies, rtol=1e-5, atol=1e-6)


# ---- multiinformation ----


def silverman(batch, latents):
    return (4 / (latents + 2)) ** (1 / (latents + 4)) * batch ** (-1 / (latents + 4))


def brute_force(z, deviation, marginal_width):
    """log of the joint over the product of the marginals, with kernels written out in two loops."""

    def kernel(difference, width):
        return np.exp(-(difference**2) / (2 * width**2)) / (width * np.sqrt(2 * np.pi))

    batch, latents = z.shape
    ratios = []
    for i in range(batch):
        joint, marginals = 0.0, np.zeros(latents)
        for j in range(batch):
            joint += kernel(z[i] - z[j], silverman(batch, latents) * deviation).prod() / batch
            marginals += kernel(z[i] - z[j], marginal_width * deviation) / batch
        ratios.append(np.log(joint / marginals.prod()))
    return ratios


@pytest.mark.parametrize("bandwidth", ["deviation", "joint"])
def test_multiinformation_equals_brute_force_and_does_not_change_with_the_scale_of_a_latent(bandwidth):
    rng = np.random.default_rng(0)
    z, deviation = rng.normal(size=(7, 3)), np.array([0.5, 1.0, 2.0])
    marginal_width = 1.0 if bandwidth == "deviation" else silverman(7, 3)
    estimate = jax.jit(tripod.kernel_multiinformation, static_argnums=2)
    information = estimate(jnp.asarray(z), jnp.asarray(deviation), bandwidth)
    np.testing.assert_allclose(information, brute_force(z, deviation, marginal_width), rtol=1e-4, atol=1e-5)
    scale, shift = np.array([7.0, 1e-3, 1.0]), np.array([1.0, 0.0, -3.0])
    scaled = estimate(jnp.asarray(z * scale + shift), jnp.asarray(deviation * scale), bandwidth)
    np.testing.assert_allclose(scaled, information, rtol=1e-3, atol=1e-4)


def of_gaussian(correlation, width, marginal_width):
    """Expectation of log N(z; 0, R + width^2 I) - sum_d log N(z_d; 0, 1 + marginal_width^2) for z from N(0, R)."""
    covariance = np.array([[1.0, correlation], [correlation, 1.0]])
    smoothed, marginal = covariance + width**2 * np.eye(2), 1 + marginal_width**2
    joint = -0.5 * (np.log(np.linalg.det(smoothed)) + np.trace(np.linalg.solve(smoothed, covariance)))
    return joint + 0.5 * 2 * (np.log(marginal) + 1 / marginal)


def test_multiinformation_of_gaussian_codes():
    """With the bandwidth of the joint density it is 0 of independent ones. Samples of 1,024 scatter by 0.02."""
    rng, batch = np.random.default_rng(0), 1024
    estimate = jax.jit(tripod.kernel_multiinformation, static_argnums=2)
    width = silverman(batch, 2)
    assert of_gaussian(0.0, width, width) == 0
    assert of_gaussian(0.8, width, width) > 0.4  # of 0.51, that of the unsmoothed density
    for correlation in (0.0, 0.8):
        z = rng.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], batch)
        for name, marginal_width in (("joint", width), ("deviation", 1.0)):
            measured = float(jnp.mean(estimate(jnp.asarray(z, jnp.float32), jnp.ones(2), name)))
            assert measured == pytest.approx(of_gaussian(correlation, width, marginal_width), abs=0.06)


def test_two_equal_latents_of_two_values_have_log_2_in_the_limit_of_narrow_kernels():
    z, width = jnp.array([[-1.0, -1.0], [1.0, 1.0]]), silverman(2, 2)
    estimate = jax.jit(tripod.kernel_multiinformation, static_argnums=2)
    near = (1 + np.exp(-4 / width**2)) / 2  # both kernels of the joint density, over that of the example itself
    for name, marginal_width in (("joint", width), ("deviation", 1.0)):
        marginal = (1 + np.exp(-2 / marginal_width**2)) / 2
        expected = np.log(near / marginal**2) + 2 * np.log(marginal_width / width)
        np.testing.assert_allclose(estimate(z, jnp.ones(2), name), expected, rtol=1e-5)
    np.testing.assert_allclose(estimate(z, jnp.full(2, 0.1), "joint"), np.log(2), rtol=1e-5)


def test_a_constant_latent_has_finite_terms_and_gradients():
    mean = jnp.stack([jnp.zeros(5), jnp.linspace(-1.0, 1.0, 5), jnp.full(5, 30.0)], axis=1)

    def loss(mean):
        posterior = Posterior(mean, jnp.zeros_like(mean))
        terms, _ = get().apply((), (), 0, posterior, mean, jax.random.key(0))
        return jnp.mean(terms["regulariser"])

    value, gradient = jax.jit(jax.value_and_grad(loss))(mean)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


# ---- Hessian penalty ----

KEYS = jax.random.split(jax.random.key(1), 3)
Z = jnp.array([[0.3, -1.0, 2.0], [1.0, 0.5, 0.0], [-2.0, 0.1, 0.7]])
SCALE = jnp.array([0.5, 1.0, 2.0])


def penalty(decode, z=Z, scale=SCALE, num_directions=2, epsilon=0.1):
    mean = functools.partial(jnp.mean, axis=0)
    return tripod.normalised_hessian_penalty(decode, z, scale, KEYS, mean, num_directions, epsilon)


def additive(z):
    return [jnp.stack([jnp.sin(z[:, 0]) + z[:, 1] ** 3, jax.nn.relu(z[:, 2]) - z[:, 0] ** 2], axis=1)]


def test_the_penalty_of_an_additive_decoder_vanishes_and_so_does_that_of_a_linear_one():
    """In finite differences too: those of an additive function do not depend on the signs of the directions."""

    def linear(z):
        return [z @ jnp.array([[1.0], [2.0], [-4.0]])]

    penalties = jax.jit(lambda: (penalty(additive, epsilon=0.5), penalty(linear)))()
    np.testing.assert_allclose(penalties, 0, atol=0.01)


def quadratic(matrices):
    """Decoder of one output z^T M z / 2 for each matrix, whose Hessian it is."""
    return lambda z: [0.5 * jnp.einsum("ni,oij,nj->no", z, matrices, z)]


def test_the_penalty_of_a_quadratic_decoder_is_the_share_of_its_hessian_off_the_diagonal():
    product = np.zeros((1, 3, 3))  # z_0 z_1
    product[0, [0, 1], [1, 0]] = 1.0
    with_squares = product + 0.7 * np.eye(3)
    several = np.concatenate([with_squares, 3 * np.eye(3)[None], 2 * product])
    decoders = [product, with_squares, several]
    measured = jax.jit(lambda: [penalty(quadratic(m), num_directions=4_000, epsilon=1.0) for m in decoders])()
    for matrices, share in zip(decoders, measured, strict=True):
        scaled = matrices * np.outer(SCALE, SCALE)
        diagonal = np.sum(np.diagonal(scaled, axis1=1, axis2=2) ** 2)
        np.testing.assert_allclose(share, 1 - diagonal / np.sum(scaled**2), rtol=0.08)


def smooth(z):
    return [jnp.sin(z @ jnp.array([[1.0, 2.0], [-1.0, 0.5], [0.3, 1.0]])), jnp.cos(z[:, :1] * z[:, 1:2])]


def test_the_penalty_does_not_change_with_the_scale_of_a_latent_or_of_a_layer_and_layers_add_up():
    stretch = jnp.array([4.0, 0.25, 2.0])  # powers of two round alike

    @jax.jit
    def penalties():
        stretched = penalty(lambda z: smooth(z / stretch), Z * stretch, SCALE * stretch)
        scaled = penalty(lambda z: [1e6 * smooth(z)[0], 1e-6 * smooth(z)[1]])
        both = sum(penalty(lambda z, layer=layer: [smooth(z)[layer]]) for layer in range(2))
        return penalty(smooth), stretched, scaled, both

    base, *others = penalties()
    assert base > 0.1
    np.testing.assert_allclose(others, base, rtol=1e-2)


# ---- in training ----


def test_a_weight_of_zero_leaves_the_penalty_out():
    assert get(hessian_weight=0.0).decoder_terms is None


def test_the_penalty_reads_the_hidden_layers_of_the_decoder_in_float32():
    model = tiny.experiment(model={"dtype": "bfloat16"}).model
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    layers = jax.eval_shape(model.decode_hidden, shapes, jnp.zeros((5, 4)))
    assert [layer.shape for layer in layers] == [(5, 8), (5, 4, 1, 1), (5, 4, 2, 2), (5, 2, 4, 4), (5, 2, 8, 8)]
    assert all(layer.dtype == jnp.float32 for layer in layers)


def test_a_term_of_the_decoder_may_not_have_the_name_of_a_metric_of_the_step():
    experiment = tiny.experiment(objective={"name": "tripod"})
    terms = {"regulariser": jnp.zeros(()), "loss": jnp.zeros(())}
    objective = experiment.objective._replace(decoder_terms=lambda *arguments: terms)
    wrong = dataclasses.replace(experiment, objective=objective)
    with pytest.raises(ValueError, match="loss"):
        jax.eval_shape(lambda state: train_step(wrong, 0, experiment.source.arrays, state), state_shapes(experiment))
