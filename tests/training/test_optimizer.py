"""Each encoder group has its Adam and its learning rate, which start with its stage."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from deft_jax.models import networks
from deft_jax.training import optimizer as training_optimizer
from deft_jax.training import schedules

STAGES = schedules.fixed_stages((9.0, 4.0, 1.0), 5, 15)
RATE, DECODER_RATE, GAMMA = schedules.cosine(1e-2, 15), schedules.constant(3e-3), 0.1


def optimizer_of(stage, gamma=GAMMA, num_groups=3):
    return training_optimizer.deft_optimizer(
        stages=STAGES,
        stage=stage,
        num_groups=num_groups,
        learning_rate=RATE,
        decoder_learning_rate=DECODER_RATE,
        gamma=gamma,
    )


def parameters(num_groups=3):
    key = jax.random.key(0)
    encoder = {}
    for group in range(num_groups):
        encoder[f"group_{group}"] = {"kernel": jax.random.normal(jax.random.fold_in(key, group), (4,))}
        encoder |= {f"scale_{group}": jnp.ones(2), f"shift_{group}": jnp.zeros(2)}
    return {"encoder": encoder, "decoder": {"kernel": jnp.ones(3)}, "objective": {"kernel": jnp.ones(3)}}


def gradients(params, step):
    """Gradients of all parameters, closed groups too, of varying size and well above Adam's epsilon."""
    key = jax.random.fold_in(jax.random.key(1), step)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(
        tree, [5.0 + jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
    )


def history(gamma=GAMMA, num_groups=3):
    """Updates, parameters and optimiser state after each step of a run through all stages."""
    params = parameters(num_groups)
    state = optimizer_of(0, gamma, num_groups).init(params)
    steps = []
    apply = {s: jax.jit(optimizer_of(s, gamma, num_groups).update) for s in range(len(STAGES))}
    for step in range(STAGES.total_steps):
        updates, state = apply[STAGES.at(step)](gradients(params, step), state, params)
        params = optax.apply_updates(params, updates)
        steps.append((updates, params, state))
    return steps


@pytest.fixture(scope="module")
def run():
    return history()


def inner(state, label):
    return state.inner_states[label]


def counts(state, label):
    return {int(count) for _, count in optax.tree_utils.tree_get_all_with_path(inner(state, label), "count")}


def by_hand(params, rate, first, last, leaf):
    """Updates of one leaf under an Adam that starts at step `first`, at the rates of the run's steps."""
    adam = optax.scale_by_adam()
    state = adam.init(leaf(params))
    out = []
    for step in range(first, last):
        update, state = adam.update(leaf(gradients(params, step)), state)
        out.append(-float(rate(step)) * np.asarray(update))
    return np.stack(out)


@pytest.mark.parametrize("group", [0, 1, 2])
def test_group_updates_are_those_of_an_adam_that_starts_with_its_stage(run, group):
    """In its stage at the rate lr, in later ones at exactly gamma * lr, with the moments running on."""
    leaf = lambda params: params["encoder"][f"group_{group}"]["kernel"]  # noqa: E731
    start, end = STAGES.starts[group], STAGES.end(group)

    def rate(step):
        return RATE(step) * (1.0 if step < end else GAMMA)

    want = by_hand(parameters(), rate, start, STAGES.total_steps, leaf)
    got = np.stack([leaf(updates) for updates, _, _ in run])
    np.testing.assert_array_equal(got[:start], np.zeros_like(got[:start]))
    np.testing.assert_allclose(got[start:], want, rtol=1e-5)


def test_closed_group_keeps_its_parameters_moments_and_count(run):
    before = parameters()
    initial = optimizer_of(0).init(before)
    for group in (1, 2):
        _, params, state = run[STAGES.starts[group] - 1]
        name = f"group_{group}"
        assert tiny.fingerprint(params["encoder"][name]) == tiny.fingerprint(before["encoder"][name])
        assert tiny.fingerprint(inner(state, name)) == tiny.fingerprint(inner(initial, name))
        assert counts(state, name) == {0}
        assert counts(run[STAGES.starts[group]][2], name) == {1}


def test_gamma_zero_freezes_a_group_bit_for_bit_after_its_stage():
    steps = history(gamma=0.0)
    for group in range(3):
        name, last = f"group_{group}", STAGES.end(group) - 1
        frozen = tiny.fingerprint((steps[last][1]["encoder"][name], inner(steps[last][2], name)))
        for _, params, state in steps[last + 1 :]:
            assert tiny.fingerprint((params["encoder"][name], inner(state, name))) == frozen
        assert counts(steps[-1][2], name) == {5}


def test_groups_without_a_stage_never_learn():
    steps = history(num_groups=4)
    before = parameters(4)["encoder"]
    after = steps[-1][1]["encoder"]
    for name in ("group_3", "scale_3", "shift_3"):
        assert tiny.fingerprint(after[name]) == tiny.fingerprint(before[name])


@pytest.mark.parametrize("kind", ["scale", "shift"])
@pytest.mark.parametrize("group", [0, 1])
def test_calibration_learns_from_the_stage_after_its_group_at_the_full_rate(run, group, kind):
    leaf = lambda params: params["encoder"][f"{kind}_{group}"]  # noqa: E731
    start = STAGES.end(group)
    got = np.stack([leaf(updates) for updates, _, _ in run])
    np.testing.assert_array_equal(got[:start], np.zeros_like(got[:start]))
    want = by_hand(parameters(), RATE, start, STAGES.total_steps, leaf)
    np.testing.assert_allclose(got[start:], want, rtol=1e-5)


def test_calibration_of_the_last_group_never_learns(run):
    last = run[-1][1]["encoder"]
    np.testing.assert_array_equal(last["scale_2"], np.ones(2))
    np.testing.assert_array_equal(last["shift_2"], np.zeros(2))


@pytest.mark.parametrize("label", ["decoder", "objective"])
def test_decoder_and_objective_follow_the_schedule_of_the_decoder_in_all_stages(run, label):
    leaf = lambda params: params[label]["kernel"]  # noqa: E731
    want = by_hand(parameters(), DECODER_RATE, 0, STAGES.total_steps, leaf)
    np.testing.assert_allclose(np.stack([leaf(updates) for updates, _, _ in run]), want, rtol=1e-5)


def test_state_passes_from_stage_to_stage():
    """Structure, shapes and types of the state are the same in every stage, before and after an update."""
    params = parameters()
    shapes = []
    for stage in range(len(STAGES)):
        optimizer = optimizer_of(stage)
        state = jax.eval_shape(optimizer.init, params)
        shapes += [state, jax.eval_shape(optimizer.update, params, state, params)[1]]
    described = [jax.tree.map(lambda leaf: f"{leaf.dtype} {leaf.shape}", state) for state in shapes]
    assert all(one == described[0] for one in described)


def test_labels_cover_every_parameter_of_the_model():
    sizes = {"latents": 6, "groups": 3, "width": 2, "hidden": 8, "decoder_width": 2, "decoder_hidden": 8}
    model = networks.build((16, 16, 1), **sizes, freeze=True, calibrate=True)
    params = jax.eval_shape(model.init, jax.random.key(0)) | {"objective": {"weight": jnp.zeros(())}}
    labels = training_optimizer.labels(params)
    assert set(jax.tree.leaves(labels)) == set(optimizer_of(0).init(parameters()).inner_states)
    for group in range(3):
        assert set(jax.tree.leaves(labels["encoder"][f"group_{group}"])) == {f"group_{group}"}
        for kind in ("scale", "shift"):
            assert labels["encoder"][f"{kind}_{group}"] == f"calibration_{group}"
    assert set(jax.tree.leaves(labels["decoder"])) == {"decoder"}


@pytest.mark.parametrize(("extra", "name"), [
    ({"discriminator": {"kernel": 0.0}}, "discriminator/kernel"),
    ({"encoder": {"group_0": {"kernel": 0.0}, "trunk": {"kernel": 0.0}}}, "encoder/trunk/kernel"),
    ({"encoder": {"group_x": {"kernel": 0.0}}}, "encoder/group_x/kernel"),
    ({"critic": 0.0, "encoder": {"offset_0": 0.0}}, "critic, encoder/offset_0"),
])
def test_parameter_without_a_schedule_is_refused_by_name(extra, name):
    with pytest.raises(ValueError, match=f"parameters {name}$"):
        optimizer_of(0).init(parameters() | extra)
