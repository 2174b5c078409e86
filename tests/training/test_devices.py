"""Results do not depend on the number of devices: one and four agree, for one state, replicas and rotations."""

import jax
import numpy as np
import pytest
import tiny

PROGRAM = """
import dataclasses
import sys
import jax
import numpy as np
import tiny
from deft_jax.training.runner import Runner
from deft_jax.training.step import init_state

experiment = tiny.experiment()

def on_host(runner, state):
    for leaf in jax.tree.leaves(state):  # every device has the same state
        copies = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(copies) == len(runner.devices) and all(np.array_equal(copy, copies[0]) for copy in copies)
    return jax.tree.map(np.asarray, runner.unreplicate(state))

def train(devices):
    runner = Runner(experiment, devices)
    state, degrees = runner.rotate(0, runner.put(init_state(experiment)))
    rotated = on_host(runner, state)
    state, first = runner.run(1, state, 1)
    first = jax.tree.map(np.asarray, first)
    state, last = runner.run(1, state, 5)
    return {"degrees": degrees, "rotated": rotated.params, "trained": on_host(runner, state).params,
            "first": first, "last": jax.tree.map(np.asarray, last)}

def replicas(devices):
    runner = Runner(experiment, devices, replicas=6)
    states = [init_state(dataclasses.replace(experiment, seed=seed)) for seed in range(6)]
    end, metrics = runner.run(0, runner.put(states), 2)
    assert runner.finite(end).all()
    params = [jax.tree.map(np.asarray, state.params) for state in runner.split(end)]
    return {"used": len(runner.devices), "params": params, "metrics": runner.split_metrics(metrics)}

one, four = jax.devices()[:1], jax.devices()
results = {"one": train(one), "four": train(four), "replicas_one": replicas(one), "replicas_four": replicas(four)}
leaves, _ = jax.tree_util.tree_flatten_with_path(results)
np.savez(sys.argv[1], **{jax.tree_util.keystr(path): leaf for path, leaf in leaves})
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """path of a leaf -> array, of one process with four devices."""
    path = tmp_path_factory.mktemp("devices") / "results.npz"
    tiny.run_python(PROGRAM, path, environment=tiny.devices(4))
    return dict(np.load(path))


def part(results, *names):
    prefix = "".join(f"['{name}']" for name in names)
    return {path.removeprefix(prefix): leaf for path, leaf in results.items() if path.startswith(prefix)}


def assert_close(got, want):
    assert got
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), got, want)


@pytest.mark.parametrize("name", ["degrees", "rotated", "trained", "first", "last"])
def test_one_device_and_four_agree(results, name):
    assert_close(part(results, "four", name), part(results, "one", name))


def test_the_compared_parameters_have_been_rotated_and_trained(results):
    assert results["['one']['degrees']"].item() > 1
    rotated, trained = part(results, "one", "rotated"), part(results, "one", "trained")
    assert max(np.abs(trained[path] - rotated[path]).max() for path in rotated) > 0.02


def test_replicas_spread_over_the_most_devices_that_divide_them_and_keep_their_order(results):
    one, four = part(results, "replicas_one"), part(results, "replicas_four")
    assert (one.pop("['used']"), four.pop("['used']")) == (1, 3)
    assert_close(four, one)
