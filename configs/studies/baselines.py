"""Every objective on every set that needs no files, in short runs: does each learn, and what does it cost?

    python -m deft_jax.sweep --config configs/studies/baselines.py --workdir runs/baselines

91 runs of 2,100 steps on narrow models, one seed. This is not a comparison of methods: schedules made for 70,000 steps
are squeezed into 2,100, models have a quarter of the width, and a single seed is not enough. For that:
--config.scale=full, ten seeds and all scores, a job for accelerators.
"""

from deft_jax.studies import presets, study_presets

SETS = ("dsprites", "color_dsprites", "noisy_dsprites", "scream_dsprites", "correlated", "translation", "xy_squares")
BETAS = {  # of DEFT; those of the configs of these sets, in the same five groups
    "dsprites": (70.0, 30.0, 12.0, 4.0),
    "color_dsprites": (160.0, 105.0, 30.0, 1.0),
    "noisy_dsprites": (20.0, 9.0, 3.5, 1.0),
    "scream_dsprites": (100.0, 1.0),
    "correlated": (20.0, 1.0),
    "translation": (120.0, 1.0),
    "xy_squares": (40.0, 1.0),
}


def get_config():
    runs = {}
    for name in SETS:
        groups = (2,) * 5 if len(BETAS[name]) > 2 else (5, 5)
        runs[f"{name}/deft"] = presets.deft(name, BETAS[name], groups=groups)
        for objective, options in presets.BASELINES.items():
            runs[f"{name}/{objective}"] = presets.baseline(objective, name, **options)
    scales = {name: f"deft_jax.studies.scales:{name}" for name in ("short", "full")}
    return study_presets.study(runs, scales, scale="short")
