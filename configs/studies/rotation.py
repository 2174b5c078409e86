"""Latents rotated onto independent axes while they train: DEFT and its baselines on dSprites, with and without.

    python -m deft_jax.sweep --config configs/studies/rotation.py --workdir runs/study_rotation
    python -m deft_jax.sweep --config configs/studies/rotation.py --workdir runs/small_rotation --config.scale=small

The rotation is an addition of this package: none of the papers has it. It is tried on every objective of the comparison
that treats all latents alike, which CascadeVAE-C, FactorVAE and DeVAE do not. `deft_smooth` is `smooth_gamma_1` of
configs/studies/ablation.py, `deft_annealed` is `whole_set` of configs/studies/stages.py. `deft_sized` has as many
latents as froze in the annealing test, and beta falls smoothly past the betas of that test. The scales are those of
configs/studies/dsprites.py.
"""

from deft_jax.studies import presets, study_presets

BASELINES = ("beta_vae", "beta_tcvae", "annealed_vae", "control_vae", "dynamic_vae")


def get_config():
    def deft():
        return presets.deft("dsprites", (70.0, 30.0, 12.0, 4.0))

    def smooth():
        config = presets.deft("dsprites", (70.0, 30.0, 12.0, 4.0), gamma=1.0)
        config.stages = dict(presets.SMOOTH_FALL)
        return config

    def annealed():
        return presets.deft("dsprites", presets.ANNEALED_BETAS)

    def sized():
        config = presets.deft("dsprites", presets.ANNEALED_BETAS, groups=presets.ANNEALED_GROUPS, gamma=1.0)
        config.stages = dict(presets.ANNEALED_FALL)
        return config

    functions = {"deft": deft, "deft_smooth": smooth, "deft_annealed": annealed, "deft_sized": sized}
    for name in BASELINES:
        functions[name] = lambda name=name: presets.baseline(name, **presets.BASELINES[name])
    runs = {}
    for name, preset in functions.items():
        runs[name], runs[f"{name}_rotated"] = preset(), presets.with_rotation(preset())
    return study_presets.study(runs)
