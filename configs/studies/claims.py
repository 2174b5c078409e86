"""DEFT and its two best rivals on dSprites, plain, before noise and in colour, on ten seeds that chose no setting.

    python -m deft_jax.sweep --config configs/studies/claims.py --workdir runs/study_claims
    python -m deft_jax.sweep --config configs/studies/claims.py --workdir runs/small_claims --config.scale=small
    python -m deft_jax.sweep --config configs/studies/claims.py:rotated --workdir runs/small_claims_rotated \
        --config.scale=small

Runs are called SET/METHOD. Each has the setting of the best mean MIG among three that were tried by
configs/studies/claims_settings.py on other seeds. The word `rotated` after the colon chooses the same runs with latents
rotated onto independent axes, SET/METHOD_rotated; the rotation is an addition of this package. At the small scale each
ninety runs take 1.5 to 3 CPU minutes a run.
"""

from deft_jax.studies import presets, study_presets, tried_settings

SEEDS = tuple(range(200, 210))

# Set -> method -> setting, by `python docs/experiments/claims/measure.py choose runs/small_settings`.
CHOSEN = {
    "dsprites": {"deft": "by_hand_gamma_0_3", "beta_tcvae": "beta_24", "dynamic_vae": "kl_25"},
    "noisy_dsprites": {"deft": "by_hand_gamma_0_3", "beta_tcvae": "beta_12", "dynamic_vae": "kl_10"},
    "color_dsprites": {"deft": "by_hand_gamma_0_3", "beta_tcvae": "beta_24", "dynamic_vae": "kl_30_start_100"},
}


def get_config(choice=""):
    if choice not in ("", "rotated"):
        raise ValueError(f"unknown choice {choice!r} after the colon; known: rotated")
    runs = {}
    for data, chosen in CHOSEN.items():
        settings = tried_settings.settings(data)
        for method, setting in chosen.items():
            run = settings[f"{method}/{setting}"]
            runs[f"{data}/{method}" + ("_rotated" if choice else "")] = presets.with_rotation(run) if choice else run
    study = study_presets.study(runs, study_presets.SCALES | {"small": "deft_jax.studies.scales:small_fast_scores"})
    study.seeds = SEEDS
    return study
