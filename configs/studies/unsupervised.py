"""Does agreement between seeds pick good models? Three settings each of DEFT and two rivals on dSprites, four seeds.

    python -m deft_jax.sweep --config configs/studies/unsupervised.py --workdir runs/study_unsupervised
    python -m deft_jax.sweep --config configs/studies/unsupervised.py --workdir runs/small_settings --config.scale=small

The runs are those of configs/studies/claims_settings.py on dSprites, with one more seed; in its workdir only that seed
is trained. UDR and its rank correlation with scores that need labels: docs/experiments/claims/measure.py.
"""

from deft_jax.studies import study_presets, tried_settings

SEEDS = (100, 101, 102, 103)


def get_config():
    runs = {f"dsprites/{name}": run for name, run in tried_settings.settings("dsprites").items()}
    study = study_presets.study(runs, study_presets.SCALES | {"small": "deft_jax.studies.scales:small_fast_scores"})
    study.seeds = SEEDS
    return study
