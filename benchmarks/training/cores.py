"""A batch shared by the cores of a CPU, each a device to JAX, beside one device that has all cores.

    python -m benchmarks.training.cores [--repeats 5] [--seconds 0.5]

In a training: XLA_FLAGS=--xla_force_host_platform_device_count=2 python -m deft_jax.train ...
"""

import jax

from benchmarks import suite
from benchmarks.training import step
from deft_jax.runtime import parallel
from deft_jax.training import build
from deft_jax.training.runner import Runner

CASES = (("quickstart", 16), ("dsprites_deft", 64), ("dsprites_deft", 256), ("beta_vae", 64), ("beta_vae", 256))


def rows(options, notes):
    """Rows of the last stages of some configs; none where there is one device."""
    notes.append(f"devices: {len(jax.devices())}")
    found = []
    if len(jax.devices()) == 1:
        return found
    for name, batch_size in CASES[:2] if options.quick else CASES:
        suite.report(f"{name}, batch {batch_size}")
        built = build.build(step.load(name, batch_size=batch_size))
        stage, state = len(built.stages) - 1, step.start(built)
        shared, single = (step.ours(Runner(built, devices), stage, state) for devices in (None, jax.devices()[:1]))
        found.append(suite.Row(f"{name}, batch {batch_size}, {len(jax.devices())} cores", "step", "one device",
                               shared, single))  # fmt: skip
    return found


if __name__ == "__main__":
    parallel.make_cores_devices()
    suite.main("training.cores", rows)
