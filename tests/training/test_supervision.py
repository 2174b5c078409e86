"""Labels of a few images: which are drawn, what they add to the loss, and that latents learn them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from deft_jax.runtime.validation import ConfigErrors
from deft_jax.training.runner import Runner, check_shares
from deft_jax.training.step import init_state, train_step
from deft_jax.training.supervision import cross_entropy, labelled_batch

FEW = {"labels": 6, "weight": 2.0, "batch_size": 4}
# One encoder: all latents are open from the first step on.
ONE = {"model": {"groups": 1}, "stages": {"rule": "steps", "betas": (1.0,), "steps": 8}}


def test_targets_are_the_factors_scaled_to_one():
    experiment = tiny.experiment(supervision=FEW)
    factors, targets = experiment.labelled.factors, experiment.labelled.targets
    assert len(np.unique(factors, axis=0)) == 6
    np.testing.assert_allclose(targets, factors / np.array([1, 3, 3]), rtol=1e-6)
    assert tiny.experiment(supervision=FEW, seed=7).labelled.factors.tolist() == factors.tolist()
    assert tiny.experiment(supervision=FEW | {"seed": 1}).labelled.factors.tolist() != factors.tolist()


def test_chosen_labels_of_a_list_belong_to_the_first_latents():
    experiment = tiny.experiment(data={"name": "listed_squares"}, supervision=FEW | {"factors": ("posX",)})
    labels = experiment.source.labels[experiment.labelled.factors[:, 0], 1]
    low, high = experiment.source.labels[:, 1].min(), experiment.source.labels[:, 1].max()
    np.testing.assert_allclose(experiment.labelled.targets[:, 0], (labels - low) / (high - low), rtol=1e-6)


def test_only_labelled_images_are_drawn_and_all_of_them():
    labelled = tiny.experiment(supervision=FEW).labelled
    batches = [labelled_batch(jax.random.key(step), labelled, jnp.arange(4))[0] for step in range(40)]
    drawn = {tuple(row) for batch in batches for row in batch.tolist()}
    assert drawn == {tuple(row) for row in labelled.factors.tolist()}


def test_a_labelled_example_depends_on_its_index_only():
    labelled = tiny.experiment(supervision=FEW).labelled
    whole, part = (labelled_batch(jax.random.key(0), labelled, jnp.array(of)) for of in (range(4), (3, 1)))
    for all_leaf, leaf in zip(whole[:2], part[:2], strict=True):
        np.testing.assert_array_equal(all_leaf[jnp.array([3, 1])], leaf)


def test_labelled_images_must_divide_over_the_devices():
    with pytest.raises(ValueError, match=r"supervision\.batch_size = 5"):
        check_shares(tiny.experiment(supervision=FEW | {"batch_size": 5}), 2)


def test_the_cross_entropy_is_least_where_latents_have_the_value_of_their_factor():
    targets = jnp.array([[0.25, 0.5], [0.75, 1.0]])
    logits = jnp.log(targets / (1 - targets)).at[1, 1].set(40.0)
    unused = jnp.ones((2, 1))
    gradient = jax.grad(lambda mean: cross_entropy(mean, targets))(jnp.concatenate([logits, unused], axis=1))
    np.testing.assert_allclose(gradient, 0.0, atol=1e-6)
    entropy = -(targets * jnp.log(targets) + (1 - targets) * jnp.log(jnp.maximum(1 - targets, 1e-30)))
    found = cross_entropy(jnp.concatenate([logits, unused], axis=1), targets)
    np.testing.assert_allclose(found, jnp.mean(jnp.sum(entropy, axis=1)), rtol=1e-5)


def test_the_loss_is_that_without_labels_and_the_weighted_cross_entropy():
    plain, supervised = (tiny.experiment(supervision=section, **ONE) for section in (None, FEW))
    state = init_state(plain)
    losses = [train_step(experiment, 0, plain.source.arrays, state)[1] for experiment in (plain, supervised)]
    expected = losses[0]["loss"] + 2.0 * losses[1]["supervised"]
    np.testing.assert_allclose(losses[1]["loss"], expected, rtol=1e-6)
    np.testing.assert_array_equal(losses[1]["kl_per_latent"], losses[0]["kl_per_latent"])


def test_latents_learn_the_factors_they_belong_to():
    experiment = tiny.experiment(supervision={"labels": 32, "weight": 100.0}, **ONE)
    runner = Runner(experiment, jax.devices()[:1])
    state, _ = runner.run(0, runner.put(init_state(experiment)), 300)
    labelled = experiment.labelled
    images = experiment.source.render(experiment.source.arrays, labelled.factors, jax.random.key(0))
    mean = np.asarray(experiment.encode(state.params, images, 0).mean)
    correlation = np.corrcoef(mean.T, labelled.targets.T)[: mean.shape[1], mean.shape[1] :]
    assert (np.diag(correlation) > 0.9).all(), correlation


@pytest.mark.parametrize(("section", "field"), [
    ({"labels": 33}, "supervision.labels"),
    ({"labels": 0}, "supervision.labels"),
    ({"weight": -1.0}, "supervision.weight"),
    ({"factors": ("colour",)}, "supervision.factors"),
    ({"share": 0.5}, "supervision"),
])
def test_faults_name_their_field(section, field):
    with pytest.raises((ConfigErrors, ValueError), match=field):
        tiny.experiment(supervision=FEW | section)


def test_factors_need_a_latent_each_and_no_rotation():
    with pytest.raises(ValueError, match=r"supervision\.factors"):
        tiny.experiment(supervision=FEW, model={"latents": 2})
    stages = {"rule": "steps", "betas": (8.0, 2.0), "steps": 4, "rotation_every": 2}
    with pytest.raises(ConfigErrors, match="rotation_every"):
        tiny.experiment(supervision=FEW, stages=stages)
