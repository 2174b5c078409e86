"""Programs of a training compiled ahead of time, for a TPU slice that is not there, and what they will cost.

The rates are bounds, not forecasts: no program runs at the peak of the arithmetic, of the memory and of the links.
"""

import dataclasses
import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from deft_jax.training.chips import CHIPS, Chip, without_variable
from deft_jax.training.experiment import Experiment
from deft_jax.training.runner import check_shares, program
from deft_jax.training.step import DEVICE_AXIS, run_steps, state_shapes

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")

_BITS = {"pred": 8, "s8": 8, "u8": 8, "bf16": 16, "f16": 16, "s16": 16, "u16": 16, "s32": 32, "u32": 32, "f32": 32,
         "s64": 64, "u64": 64, "f64": 64}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class ProgramCost:
    """What the compiled program of a stage costs on each device.

    Attributes:
      seconds: time of the compilation.
      memory: bytes of arguments, results, temporaries and code together.
      temporaries: bytes of temporaries.
      flops: floating-point operations of a step.
      bytes_accessed: bytes that a step reads and writes, by XLA's account; of a table that is looked up it may count
        all, and what stays in the chip's own fast memory as well.
      collectives: kind -> (number, bytes of their results), of a step.
      chip: peak rates of the device; None if unknown.
    """

    seconds: float
    memory: int
    temporaries: int
    flops: float
    bytes_accessed: float
    collectives: Mapping[str, tuple[int, int]]
    chip: Chip | None

    @property
    def collective_bytes(self) -> int:
        """Bytes of all results of collectives."""
        return sum(size for _, size in self.collectives.values())

    @property
    def fits(self) -> bool | None:
        """Whether the program fits the device's memory; None if that is unknown."""
        return None if self.chip is None else self.memory <= self.chip.memory

    @property
    def bounds(self) -> dict[str, float]:
        """Seconds of a step at the peak of the arithmetic, the memory and the links; {} if the device is unknown."""
        if self.chip is None:
            return {}
        return {
            "arithmetic": self.flops / self.chip.flops,
            "memory": self.bytes_accessed / self.chip.bandwidth,
            "links": self.collective_bytes / self.chip.links,
        }


def compile_stage(experiment: Experiment, stage: int, devices: Sequence[jax.Device]) -> ProgramCost:
    """Compiles the program of a stage for devices that need not be there, and reads its cost.

    Args:
      experiment: built for the platform of the devices.
      stage: index of the stage.
      devices: they share each batch.

    Raises:
      ValueError: the batch is no multiple of the number of devices.
    """
    check_shares(experiment, len(devices))

    def run(arrays: Any, state: Any, steps: jax.Array) -> Any:
        return run_steps(experiment, stage, arrays, state, steps, len(devices))

    trees = (experiment.source.arrays, state_shapes(experiment))
    arrays, state = (jax.tree.map(lambda leaf: _shape_on(leaf, devices), tree) for tree in trees)
    compiled_for = program(run, devices, shared=1)
    lowered = compiled_for.lower(arrays, state, jax.ShapeDtypeStruct((), np.int32))
    begin = time.perf_counter()
    with without_variable("XLA_FLAGS"):  # read long ago; libtpu ends the process at a flag of another platform
        compiled = lowered.compile()
    return cost_of(compiled, time.perf_counter() - begin, CHIPS.get(devices[0].device_kind))


def cost_of(compiled: Any, seconds: float, chip: Chip | None) -> ProgramCost:
    """The cost of a compiled program (jax.stages.Compiled); the body of its loop counts once."""
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    cost = cost[0] if isinstance(cost, list) else cost
    return ProgramCost(
        seconds=seconds,
        memory=memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes + memory.generated_code_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        flops=cost.get("flops", 0.0),
        bytes_accessed=cost.get("bytes accessed", 0.0),
        collectives=collectives(compiled.as_text()),
        chip=chip,
    )  # fmt: skip


def collectives(hlo: str) -> dict[str, tuple[int, int]]:
    """Collectives in the text of an HLO module: kind -> (number, bytes of their results).

    Operations of one channel are one message: a TPU's compiler repeats it in every computation that overlaps it.

    Example:
      >>> collectives("  %x = f32[8,16]{1,0} all-gather(f32[1,16]{1,0} %y), dimensions={0}")
      {'all-gather': (1, 512)}
    """
    found: dict[str, tuple[int, int]] = {}
    channels = set()
    pattern = re.compile(rf"= (.+?) ({'|'.join(COLLECTIVES)})(?:-start)?\(")
    for line in hlo.splitlines():
        match, channel = pattern.search(line), re.search(r"channel_id=(\d+)", line)
        if match and (channel is None or (match[2], channel[1]) not in channels):
            if channel is not None:
                channels.add((match[2], channel[1]))
            number, size = found.get(match[2], (0, 0))
            found[match[2]] = number + 1, size + _bytes_of(match[1], is_start="-start(" in line)
    return found


def _bytes_of(shape: str, is_start: bool) -> int:
    """Bytes of an HLO shape; of a '-start' operation, whose shape has the arguments too, those of the last part."""
    sizes = [
        math.prod(int(side) for side in sides.split(",") if side) * _BITS.get(kind, 32) // 8
        for kind, sides in re.findall(r"(\w+)\[([\d,]*)\]", shape)
    ]
    return sizes[-1] if is_start and sizes else sum(sizes)


def _shape_on(leaf: Any, devices: Sequence[jax.Device]) -> jax.ShapeDtypeStruct:
    """The shape of a leaf on one device, or with a leading device axis on several."""
    if len(devices) == 1:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=SingleDeviceSharding(devices[0]))
    sharding = NamedSharding(Mesh(np.asarray(devices), (DEVICE_AXIS,)), PartitionSpec(DEVICE_AXIS))
    return jax.ShapeDtypeStruct((len(devices), *leaf.shape), leaf.dtype, sharding=sharding)
