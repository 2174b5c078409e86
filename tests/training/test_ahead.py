"""Programs compiled ahead of time: their costs equal closed forms, and small ones compile for a TPU slice."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from deft_jax.training import ahead, build, chips
from deft_jax.training.config import parse_training
from deft_jax.training.step import init_state, train_step

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="the extra tpu has libtpu")


def test_bytes_of_collectives_are_those_of_their_results():
    hlo = """
      %gather = f32[8,16,6]{2,1,0} all-gather(f32[1,16,6]{2,1,0} %z), replica_groups={}, dimensions={0}
      %sum = (bf16[10]{0}, f32[]) all-reduce(bf16[10]{0} %a, f32[] %b), to_apply=%add
      %other = f32[] all-reduce(f32[] %b), to_apply=%add
      %start = (f32[4]{0}, f32[32]{0}) all-gather-start(f32[4]{0} %a), dimensions={0}
      %done = f32[32]{0} all-gather-done((f32[4]{0}, f32[32]{0}) %start)
      %one = f32[6]{0} all-to-all(f32[6]{0} %z), channel_id=3
      %same = f32[6]{0} all-to-all(f32[6]{0} %y), channel_id=3
      %no = f32[9]{0} add(f32[9]{0} %all-reduce.1, f32[9]{0} %x)
    """
    gathers, sums = (2, 8 * 16 * 6 * 4 + 32 * 4), (2, 10 * 2 + 4 + 4)
    assert ahead.collectives(hlo) == {"all-gather": gathers, "all-reduce": sums, "all-to-all": (1, 6 * 4)}


def test_bounds_are_amounts_over_peak_rates():
    chip = chips.Chip(flops=100.0, bandwidth=10.0, links=5.0, memory=1000.0)
    cost = ahead.ProgramCost(1.0, 900, 100, 200.0, 50.0, {"all-reduce": (1, 20)}, chip)
    assert cost.bounds == {"arithmetic": 2.0, "memory": 5.0, "links": 4.0}
    assert cost.fits
    unknown = ahead.ProgramCost(1.0, 900, 100, 200.0, 50.0, {}, None)
    assert (unknown.bounds, unknown.fits) == ({}, None)


def test_cost_of_a_product_has_its_operations_and_arguments():
    rows, inner, columns = 64, 128, 32
    shapes = jax.ShapeDtypeStruct((rows, inner), np.float32), jax.ShapeDtypeStruct((inner, columns), np.float32)
    cost = ahead.cost_of(jax.jit(jnp.matmul).lower(*shapes).compile(), 0.0, None)
    assert cost.flops == pytest.approx(2 * rows * inner * columns, rel=0.01)
    assert cost.memory >= 4 * (rows * inner + inner * columns + rows * columns)


def test_a_model_of_another_platform_has_the_same_parameters_and_step():
    source = tiny.squares()
    outcomes = []
    for platform in ("cpu", "tpu"):
        experiment = build.build(tiny.config(), source, platform)
        step = jax.jit(lambda arrays, state, experiment=experiment: train_step(experiment, 1, arrays, state))
        state, metrics = step(source.arrays, init_state(experiment))
        outcomes.append((state.params, metrics["loss"]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), *outcomes)


def test_storage_is_decided_for_the_platform_unless_it_is_given():
    config = parse_training(tiny.config(data={"name": "noisy_dsprites"}))
    assert build.for_platform(config, "tpu").data.options == {"storage": "packed"}
    assert build.for_platform(config, "cpu").data.options == {"storage": "rendered"}
    given = parse_training(tiny.config(data={"name": "dsprites", "storage": "rendered"}))
    assert build.for_platform(given, "tpu") == given


@needs_libtpu
@pytest.mark.parametrize(("slice_name", "kinds"), [("v5e:1x1", set()), ("v5e:2x2", {"all-reduce"})])
def test_a_small_program_compiles_for_a_tpu_slice_that_is_not_there(slice_name, kinds):
    devices = chips.topology_devices(slice_name)
    cost = ahead.compile_stage(build.build(tiny.config(), tiny.squares(), "tpu"), 0, devices)
    assert cost.fits
    assert cost.bytes_accessed > 0
    assert set(cost.collectives) >= kinds
    assert bool(cost.collectives) == bool(kinds)


@needs_libtpu
@pytest.mark.parametrize("slice_name", ["v5e:3x7x9", "v9:2x2", "v5e:16x32"])
def test_an_unknown_slice_is_refused(slice_name):
    with pytest.raises(ValueError, match="--topology"):
        chips.topology_devices(slice_name)


@pytest.mark.parametrize("slice_name", ["", "v5e", "v5e:0x4", "v5e:2x", "v5e:2 x4"])
def test_what_is_no_shape_of_a_slice_is_refused(slice_name):
    with pytest.raises(ValueError, match="--topology must be a version and a shape"):
        chips.topology_devices(slice_name)


def test_a_batch_that_does_not_divide_is_refused():
    devices = jax.devices() * 3
    with pytest.raises(ValueError, match="batch_size"):
        ahead.compile_stage(build.build(tiny.config(), tiny.squares()), 0, devices)
