"""Three settings each of DEFT and two rivals on three sets, on seeds that no comparison reports.

    python -m deft_jax.sweep --config configs/studies/claims_settings.py --workdir runs/study_settings
    python -m deft_jax.sweep --config configs/studies/claims_settings.py --workdir runs/small_settings \
        --config.scale=small

Runs are called SET/METHOD/SETTING. The setting of the best mean MIG of each set and method is the one of
configs/studies/claims.py, which has other seeds. At the small scale the 81 runs take 1.5 to 3 CPU minutes each.
"""

from deft_jax.studies import study_presets, tried_settings

SEEDS = (100, 101, 102)


def get_config():
    runs = {}
    for data in tried_settings.SETS:
        runs |= {f"{data}/{name}": run for name, run in tried_settings.settings(data).items()}
    study = study_presets.study(runs, study_presets.SCALES | {"small": "deft_jax.studies.scales:small_fast_scores"})
    study.seeds = SEEDS
    return study
