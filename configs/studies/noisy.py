"""DEFT and eight baselines on dSprites before noise, ten seeds each.

    python -m deft_jax.sweep --config configs/studies/noisy.py --workdir runs/study_noisy
    python -m deft_jax.sweep --config configs/studies/noisy.py --workdir runs/small_noisy --config.scale=small

The scales are those of configs/studies/dsprites.py, but the small one has two seeds. The betas
are ours (configs/noisy_dsprites_deft.py). All encoders start near the prior (presets.HEAD_INIT_SCALES).
"""

from deft_jax.studies import study_presets


def get_config():
    return study_presets.comparison("noisy_dsprites", (20.0, 9.0, 3.5, 1.0), scales=study_presets.with_two_seeds())
