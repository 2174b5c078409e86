"""Several seeds in one program (config.num_seeds) beside one run after another: a step of one model.

    python -m benchmarks.training.seeds [--repeats 5] [--seconds 0.5]

By this command every core is a device to JAX, as in `python -m deft_jax.train` with num_seeds; as one of several groups
of `python -m benchmarks` the seeds have the devices that are there.

'One run after another' is the single run's program, the same whatever the number of runs: it is timed once a round and
stands in every row.
"""

import jax
import numpy as np

from benchmarks import suite
from benchmarks.training import step
from deft_jax.runtime import parallel
from deft_jax.training import build
from deft_jax.training.runner import Runner

# An eighth of the images on a quarter of the width, as in a study's short runs.
NARROW = {
    "batch_size": 32,
    "model__width": 2,
    "model__hidden": 16,
    "model__decoder_width": 8,
    "model__decoder_hidden": 64,
}


def rows(options, notes):
    """Rows of 1, 2, 4 and 8 seeds of the quickstart and of a narrow DEFT, in their last stages."""
    rows = []
    notes.append(f"devices: {len(jax.devices())}")
    for name, changes in (("quickstart", {}), ("dsprites_deft", NARROW)):
        built = build.build(step.load(name, **changes))
        stage = len(built.stages) - 1
        state = step.start(built)
        # Parameters that are equal at first cost the same as others.
        states = [state.replace(key=state.key + np.uint32(seed)) for seed in range(8)]
        single = step.ours(Runner(built, jax.devices()[:1]), stage, states[0])
        title_of_model = "narrow DEFT" if changes else name
        for count in (1, 4) if options.quick else (1, 2, 4, 8):
            suite.report(f"{built.batch_size} images a batch, {count} seeds")
            together = step.ours(Runner(built, replicas=count), stage, states[:count])
            title = f"{title_of_model}, batch {built.batch_size}, {count} seed{'s' * (count > 1)}"
            rows.append(suite.Row(title, "model-step", "one run after another", together, single))
    return rows


if __name__ == "__main__":
    parallel.make_cores_devices()
    suite.main("training.seeds", rows)
