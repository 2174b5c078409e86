"""DEFT and eight baselines on triangles whose orientation follows their position, ten seeds each.

    python -m deft_jax.sweep --config configs/studies/correlated.py --workdir runs/study_correlated
    python -m deft_jax.sweep --config configs/studies/correlated.py --workdir runs/small_correlated --config.scale=small

The scales are those of configs/studies/dsprites.py. All have 70,000 steps, the baselines ten latents and DEFT five in
two groups, as its author has it.
"""

from deft_jax.studies import study_presets


def get_config():
    return study_presets.comparison("correlated", (20.0, 1.0), groups=(3, 2))
