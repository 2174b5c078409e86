"""What half the bits cost: DEFT on dSprites with layers in float32 and in bfloat16.

    python -m deft_jax.sweep --config configs/studies/precision.py --workdir runs/study_precision
    python -m deft_jax.sweep --config configs/studies/precision.py --workdir runs/small_precision --config.scale=small

The scales are those of configs/studies/dsprites.py. `python -m benchmarks --only training.precision` times the step.
"""

from deft_jax.studies import presets, scales


def get_config():
    runs = {}
    for dtype in ("float32", "bfloat16"):
        runs[dtype] = presets.deft("dsprites", (70.0, 30.0, 12.0, 4.0))
        runs[dtype].model.dtype = dtype
    return scales.study(runs)
