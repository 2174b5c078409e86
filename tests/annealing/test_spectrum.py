"""The freezing spectrum: its closed form against plain linear algebra, and its theorem against trained VAEs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny  # noqa: F401 -- registers the data set 'squares'

from deft_jax import data
from deft_jax.annealing import freezing_points, spectrum, trial_plan, trial_program
from deft_jax.annealing.config import TrialsConfig
from deft_jax.data.source import Source


def binary_images(count=300, pixels=24, seed=0):
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(count, 3))
    logits = hidden @ rng.normal(size=(3, pixels)) * 2 + rng.normal(size=pixels)
    return (rng.random((count, pixels)) < 1 / (1 + np.exp(-logits))).astype(np.float32)


def test_bernoulli_bound_is_the_top_eigenvalue_of_the_pixels_correlation_matrix():
    images = binary_images()
    assert spectrum.bound(images, "bernoulli") == pytest.approx(np.linalg.eigvalsh(np.corrcoef(images.T))[-1], rel=1e-5)


def test_gaussian_bound_is_twice_the_top_eigenvalue_of_the_covariance():
    images = np.random.default_rng(1).random((200, 12)).astype(np.float32)
    covariance = np.cov(images.T, bias=True)
    assert spectrum.bound(images, "gaussian") == pytest.approx(2 * np.linalg.eigvalsh(covariance)[-1], rel=1e-5)


def test_grey_pixels_count_by_the_curvature_of_the_loss_not_by_their_own_variance():
    """Pixels of 1/4 and 3/4: variance 1/16, but the logits' curvature mu (1 - mu) stays 1/4."""
    values = np.random.default_rng(2).integers(0, 2, 500)
    images = np.where(values, 0.75, 0.25)[:, None].repeat(8, axis=1).astype(np.float32)
    mean = images.mean()
    expected = 8 * images[:, 0].astype(float).var() / (mean * (1 - mean))
    assert spectrum.bound(images, "bernoulli") == pytest.approx(expected, rel=1e-4)


def test_two_values_of_one_factor_freeze_at_the_number_of_pixels_that_differ():
    images = np.zeros((2, 30), np.float32)
    images[1, :17] = 1
    assert spectrum.bound(images, "bernoulli") == pytest.approx(17, rel=1e-6)
    assert spectrum.bound(images, "gaussian") == pytest.approx(17 / 2, rel=1e-6)


def test_pixels_that_never_vary_change_nothing():
    images = binary_images()
    wider = np.concatenate([np.ones((len(images), 5), np.float32), images, np.zeros((len(images), 7), np.float32)], 1)
    assert spectrum.bound(wider, "bernoulli") == pytest.approx(spectrum.bound(images, "bernoulli"), rel=1e-6)


def test_images_all_the_same_are_refused():
    with pytest.raises(ValueError, match="all the same"):
        spectrum.bound(np.full((9, 4), 0.3, np.float32), "bernoulli")


@pytest.mark.parametrize("shape", [(40, 90), (90, 40)])
def test_in_images_or_in_pixels_the_modes_are_those_of_the_second_moments(shape):
    scaled = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    values, modes = spectrum.leading(scaled, 5)
    moments = scaled.astype(float).T @ scaled / len(scaled)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(moments)[::-1][:5], rtol=1e-5)
    np.testing.assert_allclose(modes.T @ modes, np.eye(5), atol=1e-5)
    np.testing.assert_allclose(moments @ modes, modes * values, atol=1e-4)


def test_without_the_matrix_the_modes_are_the_same():
    rng = np.random.default_rng(4)
    scaled = rng.normal(size=(1100, 1060)).astype(np.float32)
    scaled += rng.normal(size=(1100, 6)).astype(np.float32) @ rng.normal(size=(6, 1060)).astype(np.float32)
    assert min(scaled.shape) > spectrum._DENSE
    values, modes = spectrum.leading(scaled, 4)
    moments = scaled.astype(float).T @ scaled / len(scaled)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(moments)[::-1][:4], rtol=1e-3)
    np.testing.assert_allclose(modes.T @ moments @ modes, np.diag(values), atol=0.02 * values[0])


def bars(sizes=(4, 3, 2)):
    """Each value of factor 0 lights 40 separate pixels, each of factor 1 lights 8, factor 2 changes nothing."""

    def render(arrays, factors_NxF, key):
        del arrays, key
        first = jax.nn.one_hot(factors_NxF[:, 0], sizes[0]).repeat(40, axis=1)
        second = jax.nn.one_hot(factors_NxF[:, 1], sizes[1]).repeat(8, axis=1)
        pixels = jnp.concatenate([first, second], axis=1)
        return jnp.pad(pixels, ((0, 0), (0, 256 - pixels.shape[1]))).reshape(-1, 16, 16, 1)

    return Source(("wide", "narrow", "nothing"), sizes, (16, 16, 1), "bernoulli", (), render)


def test_each_mode_belongs_to_its_factor_and_each_factor_has_its_first_mode():
    """One-hot pixels in n blocks of m: n - 1 equal eigenvalues n m / (n - 1)."""
    modes = spectrum.freezing_spectrum(bars(), num_modes=5)
    np.testing.assert_allclose(modes.eigenvalues, [160 / 3] * 3 + [12] * 2, rtol=1e-5)
    np.testing.assert_array_equal(modes.standard_errors, 0)
    assert modes.num_samples == 24
    np.testing.assert_allclose(modes.total_effects[:, 2], 0, atol=1e-6)
    # Blocks are drawn with replacement: the pairs agree in a third or a fourth of the draws, within their error.
    np.testing.assert_allclose(modes.total_effects[:3, 0], 1, atol=0.75)
    assert np.all(modes.total_effects[:3, 0] > 0.4)
    np.testing.assert_allclose(modes.total_effects[:3, 1], 0, atol=1e-6)
    np.testing.assert_allclose(modes.total_effects[3:, 0], 0, atol=1e-6)
    assert spectrum.factor_points(modes, ("wide", "narrow", "nothing")) == {"wide": 0, "narrow": 3, "nothing": None}


def test_a_sample_comes_within_its_errors_of_the_whole_set():
    source = data.get("dsprites")
    large = spectrum.freezing_spectrum(source, num_modes=2, num_samples=4096, seed=0)
    small = spectrum.freezing_spectrum(source, num_modes=2, num_samples=1024, seed=5)
    error = np.hypot(large.standard_errors, small.standard_errors)
    assert np.all(np.abs(large.eigenvalues - small.eigenvalues) < 5 * error)
    assert np.all(small.standard_errors > large.standard_errors)


def test_the_top_of_dsprites_is_position():
    source = data.get("dsprites")
    leading = spectrum.freezing_spectrum(source, num_modes=16, num_samples=4096)
    modes = spectrum.factor_points(leading, source.factor_names)
    assert {modes["posX"], modes["posY"]} <= {0, 1}
    assert modes["scale"] in (10, 11)
    assert modes["orientation"] is None
    assert 185 < leading.eigenvalues[0] < 215


@pytest.mark.parametrize("counts", [{"num_modes": 0}, {"num_samples": 1}])
def test_counts_out_of_range_are_refused(counts):
    with pytest.raises(ValueError, match="num_"):
        spectrum.freezing_spectrum(bars(), **counts)


# The theorem: a VAE near the collapsed state stays there just above the bound, and leaves it just below.


def squares(likelihood):
    return dataclasses.replace(data.get("squares"), likelihood=likelihood)


def final_kl(source, high, low, steps=1500):
    """KL at the end of a fall of beta from high to low, in units of the bound of the sweep."""
    buckets = trial_plan.plan(source, ("posX",), 2, seed=0)
    bound = float(buckets[0].bound.max())
    top = buckets[0].bound.argmax()
    buckets = (jax.tree.map(lambda leaf: leaf[top][None], buckets[0]),)
    sweep = trial_program.Sweep(TrialsConfig(beta_min=low * bound, steps=steps, points=50), beta_max=high * bound)
    runner = trial_program.TrialRunner(sweep, source, buckets, jax.devices()[:1])
    [kl_E] = runner.curves(runner.run(runner.init(), steps))
    return sweep.betas / bound, kl_E


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_just_above_the_bound_a_vae_stays_collapsed_and_just_below_it_leaves(likelihood):
    source = squares(likelihood)
    assert final_kl(source, 1.101, 1.1)[1][-1] < 0.01
    # A linear model has KL = log(bound / beta) / 2 there, 0.053; one that is not linear may have more.
    assert final_kl(source, 0.901, 0.9)[1][-1] > 0.04


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_a_slow_sweep_freezes_where_the_bound_says_and_not_above_it(likelihood):
    """A linear model's KL passes 0.02 nat at exp(-0.04) = 0.96 of the bound, 0.1 nat at exp(-0.2) = 0.82."""
    betas, kl = final_kl(squares(likelihood), 1.3, 0.5, steps=3000)
    early, late = (freezing_points.freezing_point(betas, kl, threshold) for threshold in (0.02, 0.1))
    assert not early.censored
    assert not late.censored
    assert 0.8 < early.beta < 1.02
    assert 0.7 < late.beta < early.beta
