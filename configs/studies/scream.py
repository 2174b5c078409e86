"""DEFT and eight baselines on dSprites before patches of The Scream, ten seeds each.

    python -m deft_jax.sweep --config configs/studies/scream.py --workdir runs/study_scream
    python -m deft_jax.sweep --config configs/studies/scream.py --workdir runs/small_scream --config.scale=small

The scales are those of configs/studies/dsprites.py, but the small one has two seeds. DEFT has two groups of five
latents, as its author has it for this set.
"""

from deft_jax.studies import study_presets


def get_config():
    scales = study_presets.with_two_seeds()
    return study_presets.comparison("scream_dsprites", (100.0, 1.0), groups=(5, 5), scales=scales)
