"""The training step in bfloat16 (config.model.dtype) beside float32.

    python -m benchmarks.precision [--repeats 5] [--seconds 0.5]
"""

from benchmarks import suite, training
from deft_jax.training import build
from deft_jax.training.runner import Runner


def rows(options, notes):
    """Rows of DEFT's last stage and of the beta-VAE."""
    batch_size = 64 if options.quick else 256
    found = []
    for name in ("dsprites_deft", "beta_vae"):
        columns = {}
        for dtype in ("bfloat16", "float32"):
            built = build.build(training.load(name, batch_size=batch_size, model__dtype=dtype))
            stage = len(built.stages) - 1
            columns[dtype] = training.ours(Runner(built), stage, training.start(built))
        title = f"{name}, last stage, batch {batch_size}, bfloat16"
        found.append(suite.Row(title, "step", "float32", columns["bfloat16"], columns["float32"]))
    return found


if __name__ == "__main__":
    suite.main("precision", rows)
