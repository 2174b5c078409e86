"""The training step in bfloat16 (config.model.dtype) beside float32.

    python -m benchmarks.training.precision [--repeats 5] [--seconds 0.5]
"""

from benchmarks import suite
from benchmarks.training import step
from deft_jax.training import build
from deft_jax.training.runner import Runner


def rows(options, notes):
    """Rows of DEFT's last stage and of the beta-VAE."""
    batch_size = 64 if options.quick else 256
    found = []
    for name in ("dsprites_deft", "beta_vae"):
        columns = {}
        for dtype in ("bfloat16", "float32"):
            built = build.build(step.load(name, batch_size=batch_size, model__dtype=dtype))
            stage = len(built.stages) - 1
            columns[dtype] = step.ours(Runner(built), stage, step.start(built))
        title = f"{name}, last stage, batch {batch_size}, bfloat16"
        found.append(suite.Row(title, "step", "float32", columns["bfloat16"], columns["float32"]))
    return found


if __name__ == "__main__":
    suite.main("training.precision", rows)
