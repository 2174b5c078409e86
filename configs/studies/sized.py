"""configs/dsprites_sized.py on ten fresh seeds, with a smaller start of the encoders, and with a fifth latent.

    python -m deft_jax.sweep --config configs/studies/sized.py --workdir runs/sized

`small_start` starts the encoders' means near the prior (model.head_init_scale = 0.01), so that no pattern of signs is
ahead when size enters; `small_start_five` has two latents in its last group in place of one, `open_earlier` opens the
groups at betas that are a fifth higher. A run takes ten CPU minutes. The metrics are those of the small scale.
"""

from deft_jax.studies import presets, scales, study_presets


def _small_start(groups=presets.ANNEALED_GROUPS):
    config = presets.sized_dsprites(groups)
    config.model.head_init_scale = 0.01
    return config


def _open_earlier():
    config = _small_start()
    config.stages.thresholds = tuple(1.2 * beta for beta in config.stages.thresholds)
    return config


def get_config():
    runs = {
        "sized": presets.sized_dsprites(),
        "small_start": _small_start(),
        "small_start_five": _small_start((2, 1, 2)),
        "open_earlier": _open_earlier(),
    }
    study = study_presets.study(runs, scale=None)
    scales.fill_in(study, range(10, 20), num_samples=10_000)
    with study.ignore_type():
        study.metrics = scales.SMALL_METRICS
    return study
