"""What makes DEFT's score on dSprites: schedule, gamma, width and start of the encoders, groups, decoder's rate.

    python -m deft_jax.sweep --config configs/studies/ablation.py --workdir runs/study_ablation
    python -m deft_jax.sweep --config configs/studies/ablation.py --workdir runs/small_ablation --config.scale=small

`base` is DEFT as in configs/dsprites_deft.py; each of the others differs from it in one setting, except
`smooth_gamma_1`, which has the two of configs/quickstart.py. The scales are those of configs/studies/dsprites.py.
"""

from deft_jax.studies import presets, study_presets

BETAS = (70.0, 30.0, 12.0, 4.0)


def get_config():
    def deft(**options):
        return presets.deft("dsprites", BETAS, **options)

    runs = {
        "base": deft(),
        "gamma_0": deft(gamma=0.0),
        "gamma_1": deft(gamma=1.0),
        "long_first": deft(steps=(30_000, 15_000, 15_000, 10_000)),
        "groups_of_1": deft(groups=(1,) * 5),
        "groups_of_4": deft(groups=(4,) * 5),
        "wide": deft(),
        "decoder_slow": deft(),
        "decoder_fast": deft(),
        "smooth": deft(),
        "smooth_gamma_1": deft(gamma=1.0),
        "near_prior": deft(),
        "rotated": deft(),
        "rotated_near_prior": deft(),
    }
    runs["wide"].model.width, runs["wide"].model.hidden = 16, 128
    runs["decoder_slow"].optimizer.decoder_learning_rate /= 2
    runs["decoder_fast"].optimizer.decoder_learning_rate *= 2
    # The variance of an encoder's first means is a hundredth of that of its last layer, instead of the same.
    runs["near_prior"].model.head_init_scale = runs["rotated_near_prior"].model.head_init_scale = 0.01
    runs["rotated"].stages.rotation_every = runs["rotated_near_prior"].stages.rotation_every = 3_000
    runs["smooth"].stages = runs["smooth_gamma_1"].stages = dict(presets.SMOOTH_FALL)
    return study_presets.study(runs)
