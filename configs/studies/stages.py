"""Where the betas of DEFT's stages come from: set by hand, from the annealing test, or from the spectrum.

    python -m deft_jax.sweep --config configs/studies/stages.py --workdir runs/study_stages
    python -m deft_jax.sweep --config configs/studies/stages.py --workdir runs/small_stages --config.scale=small

The betas of the test are those of `python -m deft_jax.annealing --config configs/ifp_dsprites.py`, as
docs/experiments/annealing_test.md has them. The scales are those of configs/studies/dsprites.py.
"""

from deft_jax.studies import presets, study_presets

BETAS = {
    "by_hand": (70.0, 30.0, 12.0, 1.0),
    "trials": (131.0, 80.5, 49.0, 1.0),  # one factor swept at a time
    "whole_set": presets.ANNEALED_BETAS,  # no labels used
    "spectrum": (102.0, 33.4, 18.6, 1.0),  # no training used
}


def get_config():
    runs = {name: presets.deft("dsprites", betas) for name, betas in BETAS.items()}
    smooth = presets.deft("dsprites", BETAS["by_hand"])
    smooth.stages = {"rule": "exponential", "start": 70.0, "end": 0.8, "rate": 5.0, "thresholds": (30.0, 12.0, 4.0)}
    return study_presets.study(runs | {"by_hand_smooth": smooth})
