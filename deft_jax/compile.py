"""python -m deft_jax.compile --config configs/X.py --topology v5e:2x4 [--config.field=value ...]

Compiles the program of every stage for a TPU slice that is not there, and prints for each what it costs on a chip:
memory and whether it fits, operations, bytes, messages between chips, and the time of a step that the chip's peak rates
allow. Nothing runs. It needs libtpu: pip install 'deft_jax[tpu]'.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from deft_jax.runtime import cli

if TYPE_CHECKING:
    from deft_jax.training.ahead import ProgramCost


def main() -> None:
    """Runs the command."""
    from absl import flags

    topology = flags.DEFINE_string("topology", "v5e:1x1", "Version and shape of a TPU slice, as v5e:2x4.")

    def load() -> Callable[[ConfigDict], None]:
        return lambda config: compile_stages(config, str(topology.value))

    cli.run_command("deft_jax.compile", load, has_workdir=False)


def compile_stages(config: Any, topology: str) -> None:
    """Compiles all stages of a training and prints their costs.

    Args:
      config: a ConfigDict, a mapping of the same fields, or a TrainingConfig.
      topology: of a TPU slice, as 'v5e:2x4'.

    Raises:
      ConfigErrors: the configuration has faults.
      ValueError: there is no such slice, libtpu is not installed, or the batch does not divide over the devices.
    """
    from tabulate import tabulate

    from deft_jax.training import ahead, build, chips
    from deft_jax.training.config import parse_training

    parsed = parse_training(config)
    devices = chips.topology_devices(topology)
    platform = devices[0].platform
    parsed = build.for_platform(parsed, platform)
    experiment = build.build(parsed, platform=platform)
    print(f"{topology}: {len(devices)} x {devices[0].device_kind}, batch {experiment.batch_size}", flush=True)
    costs = {}
    for stage in range(len(experiment.stages)):
        costs[f"stage {stage}"] = ahead.compile_stage(experiment, stage, devices)
        print(f"stage {stage}: compiled in {costs[f'stage {stage}'].seconds:.0f} s", flush=True)
    print("\n" + tabulate(_rows(costs), ["of a chip", *costs], "plain", disable_numparse=True))


def _rows(costs: Mapping[str, "ProgramCost"]) -> list[list[str]]:
    """One row per quantity, one column per stage."""
    columns = [_column(cost) for cost in costs.values()]
    return [[name, *(column.get(name, "-") for column in columns)] for name in columns[0]]


def _column(cost: "ProgramCost") -> dict[str, str]:
    fits = {None: "", True: ", fits", False: ", does not fit"}[cost.fits]
    column = {
        "memory": _amount(cost.memory, "B") + fits,
        "of it temporaries": _amount(cost.temporaries, "B"),
        "operations of a step": _amount(cost.flops, "FLOP"),
        "bytes of a step": _amount(cost.bytes_accessed, "B"),
        "messages of a step": ", ".join(f"{n} {kind}" for kind, (n, _) in sorted(cost.collectives.items())) or "none",
        "bytes of messages": _amount(cost.collective_bytes, "B"),
    }
    for name, seconds in cost.bounds.items():
        column[f"step by peak of {name}"] = f"{1e6 * seconds:,.3g} us"
    if cost.bounds:
        column["bound by"] = max(cost.bounds, key=cost.bounds.__getitem__)
    return column


def _amount(value: float, unit: str) -> str:
    """1_234_567, 'B' -> '1.23 MB'."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:,.3g} {prefix}{unit}"
    return f"{value:.0f} {unit}"


if __name__ == "__main__":
    main()
