"""DEFT and eight baselines on SmallNORB, ten seeds each.

    python -m deft_jax.sweep --config configs/studies/smallnorb.py --workdir runs/study_smallnorb
    python -m deft_jax.sweep --config configs/studies/smallnorb.py --workdir runs/small_smallnorb --config.scale=small

The scales are those of configs/studies/dsprites.py. The set has to be prepared once by tensorflow-datasets, for which
README.md has the line.
"""

from deft_jax.studies import study_presets


def get_config():
    return study_presets.comparison("smallnorb", (30.0, 5.0, 3.0, 1.0))
