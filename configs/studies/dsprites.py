"""DEFT and eight rivals on dSprites, ten seeds each: MIG, FactorVAE score, DCI, SAP, NMI.

    python -m deft_jax.sweep --config configs/studies/dsprites.py --workdir runs/study_dsprites
    python -m deft_jax.sweep --config configs/studies/dsprites.py --workdir runs/small_dsprites --config.scale=small

The first trains for 70,000 steps of 256 images with ten seeds in one program, a job for an accelerator; the second
took 32 minutes on two CPU cores.
"""

from deft_jax import presets


def get_config():
    return presets.comparison("dsprites", (70.0, 30.0, 12.0, 4.0))
