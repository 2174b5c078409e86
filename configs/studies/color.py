"""DEFT and eight baselines on dSprites whose sprites have random colours, ten seeds each.

    python -m deft_jax.sweep --config configs/studies/color.py --workdir runs/study_color
    python -m deft_jax.sweep --config configs/studies/color.py --workdir runs/small_color --config.scale=small

The scales are those of configs/studies/dsprites.py, but the small one has two seeds.
"""

from deft_jax.studies import study_presets


def get_config():
    return study_presets.comparison("color_dsprites", (160.0, 105.0, 30.0, 1.0), scales=study_presets.with_two_seeds())
