"""DEFT, twice, and eight baselines on dSprites, ten seeds each: MIG, FactorVAE score, DCI, SAP, NMI.

    python -m deft_jax.sweep --config configs/studies/dsprites.py --workdir runs/study_dsprites
    python -m deft_jax.sweep --config configs/studies/dsprites.py --workdir runs/small_dsprites --config.scale=small

The first trains for 70,000 steps of 256 images with ten seeds in one program, a job for an accelerator; the second
took 32 minutes on two CPU cores for 27 of its 30 runs.

`deft` has the settings of its author, betas set by hand; `deft_annealed_rotated` has the betas of the annealing test,
without labels, and rotated latents, as in configs/dsprites_annealed.py.
"""

from deft_jax.studies import presets, study_presets


def get_config():
    study = study_presets.comparison("dsprites", (70.0, 30.0, 12.0, 4.0))
    study.runs.deft_annealed_rotated = presets.with_rotation(presets.deft("dsprites", presets.ANNEALED_BETAS))
    return study
