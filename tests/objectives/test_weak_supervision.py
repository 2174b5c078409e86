"""Pairs of images that differ in few factors; the averages of Ada-GVAE and Ada-ML-VAE against their closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from scipy import stats

from deft_jax.models.posterior import Posterior, kl_per_latent
from deft_jax.objectives import registry
from deft_jax.objectives.weak_supervision import shared_latents
from deft_jax.runtime.validation import ConfigErrors
from deft_jax.training import schedules
from deft_jax.training.draws import draw_batch
from deft_jax.training.pairs import pair_factors
from deft_jax.training.runner import Runner

KEY, SIZES = jax.random.key(5), (3, 1, 4, 7, 2)
VARYING = np.array([0, 2, 3, 4])
NAMES = ("ada_gvae", "ada_ml_vae")


def pairs_of(count, changed_factors, first=0):
    examples = first + jnp.arange(count)
    factors = draw_batch(KEY, examples, SIZES, 0).factors
    paired = jax.jit(pair_factors, static_argnums=(3, 4))(KEY, factors, examples, SIZES, changed_factors)
    return np.asarray(factors), np.asarray(paired)


@pytest.mark.parametrize("changed_factors", [1, 2, 4, None])
def test_images_of_a_pair_differ_in_the_chosen_number_of_factors(changed_factors):
    factors, paired = pairs_of(20_000, changed_factors)
    np.testing.assert_array_equal(paired[::2], factors[::2])
    assert (paired >= 0).all()
    assert (paired < np.array(SIZES)).all()
    differ = paired[::2] != paired[1::2]
    numbers = np.bincount(differ.sum(axis=1), minlength=5)
    if changed_factors is None:
        assert numbers[[0, 4]].tolist() == [0, 0]
        assert stats.chisquare(numbers[1:4]).pvalue > 1e-4
    else:
        assert numbers[changed_factors] == len(differ)
    chosen = differ[:, VARYING].sum(axis=0)
    assert not differ[:, 1].any(), "it has one value"
    assert len(set(chosen)) == 1 or stats.chisquare(chosen).pvalue > 1e-4
    shift = (paired[1::2] - paired[::2])[differ[:, 3], 3] % SIZES[3]
    assert stats.chisquare(np.bincount(shift, minlength=7)[1:]).pvalue > 1e-4


def test_a_pair_depends_on_its_examples_only():
    _, whole = pairs_of(12, None)
    _, part = pairs_of(4, None, first=6)
    np.testing.assert_array_equal(whole[6:10], part)


def draw(seed=0, pairs=6, latents=4):
    keys = jax.random.split(jax.random.key(seed), 2)
    return Posterior(*(jax.random.normal(key, (2 * pairs, latents)) for key in keys))


def get(name, beta=3.0):
    return registry.get(name, schedules.constant(beta), latents=4, num_images=100)


def averaged(name, posterior):
    """What the objective makes of a posterior, read from what it decodes at noise 0 and 1."""
    mean, at_one = (get(name).spaces((), posterior, jnp.full(posterior.mean.shape, noise))[0] for noise in (0.0, 1.0))
    return np.asarray(mean), np.asarray(at_one - mean) ** 2


def test_shared_latents_are_those_below_the_middle_of_the_divergences():
    posterior = draw()
    mean, variance = (np.asarray(leaf, float).reshape(-1, 2, 4) for leaf in (posterior.mean, jnp.exp(posterior.logvar)))
    z = np.linspace(-30, 30, 20_001)
    density = stats.norm(mean[..., None], np.sqrt(variance)[..., None])
    log_ratio = density.logpdf(z)[:, 0] - density.logpdf(z)[:, 1]
    kl_PxD = np.trapezoid(density.pdf(z)[:, 0] * log_ratio, z)
    expected = kl_PxD < (kl_PxD.min(axis=1) + kl_PxD.max(axis=1))[:, None] / 2
    found = shared_latents(Posterior(*(leaf.reshape(-1, 2, 4) for leaf in posterior)))[:, 0]
    np.testing.assert_array_equal(found, expected)
    assert 0 < expected.mean() < 1


@pytest.mark.parametrize("name", NAMES)
def test_shared_latents_have_one_average_and_others_stay(name):
    posterior = draw()
    shared = np.repeat(shared_latents(Posterior(*(leaf.reshape(-1, 2, 4) for leaf in posterior))), 2, axis=1)
    mean, variance = averaged(name, posterior)
    own_mean, own_variance = np.asarray(posterior.mean), np.exp(posterior.logvar)
    first, second = ((own_mean[i::2], own_variance[i::2]) for i in (0, 1))
    if name == "ada_gvae":
        expected = (first[0] + second[0]) / 2, (first[1] + second[1]) / 2
    else:  # the square root of the product of both densities, normalised
        precision = (1 / first[1] + 1 / second[1]) / 2
        expected = (first[0] / first[1] + second[0] / second[1]) / 2 / precision, 1 / precision
    for found, own, value in zip((mean, variance), (own_mean, own_variance), expected, strict=True):
        wanted = np.where(shared.reshape(own.shape), np.repeat(value, 2, axis=0), own)
        np.testing.assert_allclose(found, wanted, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_regulariser_is_the_kl_of_the_averages(name):
    posterior = draw(1)
    mean, variance = averaged(name, posterior)
    kl_BxD = np.asarray(kl_per_latent(Posterior(jnp.asarray(mean), jnp.log(variance))))
    terms, _ = get(name).apply((), (), jnp.int32(0), posterior, posterior.mean, KEY)
    np.testing.assert_allclose(terms["regulariser"], 3 * kl_BxD.sum(axis=1), rtol=1e-4)
    np.testing.assert_allclose(terms["kl_per_latent"], kl_BxD.mean(axis=0), rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_equal_images_train_as_a_beta_vae(name):
    posterior = Posterior(*(jnp.repeat(leaf[::2], 2, axis=0) for leaf in draw(2)))
    terms, _ = get(name).apply((), (), jnp.int32(0), posterior, posterior.mean, KEY)
    np.testing.assert_allclose(terms["regulariser"], 3 * kl_per_latent(posterior).sum(axis=1), rtol=1e-5)


@pytest.mark.parametrize(("changes", "field"), [
    ({"objective": {"changed_factors": 3}}, "objective.changed_factors"),
    ({"data": {"name": "listed_squares"}}, "data.name"),
    ({"data": {"name": "squares", "only": {"posX": 0, "size": 1}}}, "data.name"),
])
def test_sets_without_pairs_are_refused(changes, field):
    with pytest.raises(ConfigErrors, match=field):
        tiny.experiment(**{"objective": {"name": "ada_gvae"} | changes.pop("objective", {})}, **changes)


def test_a_pair_is_not_shared_by_devices():
    with pytest.raises(ValueError, match="multiple of 2"):
        Runner(tiny.experiment(objective={"name": "ada_gvae"}, batch_size=7), jax.devices()[:1])
