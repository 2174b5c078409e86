"""configs/dsprites_sized.py on ten fresh seeds, and with one change each.

    python -m deft_jax.sweep --config configs/studies/sized.py --workdir runs/sized_ten

`start_at_1` starts the encoders with means of variance 1 instead of near the prior, `five_latents` has two latents in
its last group instead of one, `open_earlier` opens the groups at betas that are a fifth higher. A run takes ten CPU
minutes. The metrics are those of the small scale.
"""

from deft_jax.studies import presets, scales, study_presets


def get_config():
    runs = {name: presets.sized_dsprites() for name in ("sized", "start_at_1", "open_earlier")}
    runs["five_latents"] = presets.sized_dsprites((2, 1, 2))
    runs["start_at_1"].model.head_init_scale = 1.0
    thresholds = runs["open_earlier"].stages.thresholds
    runs["open_earlier"].stages.thresholds = tuple(1.2 * beta for beta in thresholds)
    study = study_presets.study(runs, scale=None)
    scales.fill_in(study, range(10, 20), num_samples=10_000)
    with study.ignore_type():
        study.metrics = scales.SMALL_METRICS
    return study
