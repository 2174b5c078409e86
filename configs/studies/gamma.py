"""What gamma does: DEFT on dSprites with earlier groups frozen (0), slowed down (0.1 to 0.5) or as fast as ever (1).

    python -m deft_jax.sweep --config configs/studies/gamma.py --workdir runs/study_gamma
    python -m deft_jax.sweep --config configs/studies/gamma.py --workdir runs/small_gamma --config.scale=small

gamma is the learning rate of a group once the next has opened, as a share of its own. The scales are those of
configs/studies/dsprites.py.
"""

from deft_jax.studies import presets, study_presets

GAMMAS = (0.0, 0.1, 0.3, 0.5, 1.0)


def get_config():
    betas = (70.0, 30.0, 12.0, 4.0)
    names = [f"gamma_{gamma:g}".replace(".", "_") for gamma in GAMMAS]
    runs = {name: presets.deft("dsprites", betas, gamma=gamma) for name, gamma in zip(names, GAMMAS, strict=True)}
    return study_presets.study(runs)
