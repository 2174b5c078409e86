"""Quantised latents beside continuous ones on dSprites: Tripod, QLAE, beta-TCVAE and DEFT, scored by InfoMEC.

    python -m deft_jax.sweep --config configs/studies/quantised.py --workdir runs/study_quantised
    python -m deft_jax.sweep --config configs/studies/quantised.py --workdir runs/small_quantised --config.scale=small

`qlae_decay_1e-3` and `qlae_no_decay` are QLAE with less weight decay than its paper, `tripod_no_hessian` and
`tripod_no_multiinformation` are Tripod without one of its terms. Five seeds, at the small scale one to seven CPU
minutes each; QLAE keeps the learning rate of its paper there. InfoMEC is estimated in bins for all, which have every
value of a quantised latent apart.
"""

from deft_jax.studies import presets, study_presets

METRICS = {"infomec": {"estimator": "binned"}, "mig": {}, "dci": {"model": "linear", "num_train": 2_000}, "nmi": {}}


def get_config():
    tripod = presets.BASELINES["tripod"]
    runs = {
        "tripod": presets.baseline("tripod", **tripod),
        "tripod_no_hessian": presets.baseline("tripod", **tripod | {"hessian_weight": 0.0}),
        "tripod_no_multiinformation": presets.baseline("tripod", **tripod | {"beta": 0.0}),
        "qlae": presets.baseline("qlae", **presets.BASELINES["qlae"]),
        "qlae_decay_1e-3": presets.baseline("qlae", **presets.BASELINES["qlae"] | {"weight_decay": 1e-3}),
        "qlae_no_decay": presets.baseline("qlae", **presets.BASELINES["qlae"] | {"weight_decay": 0.0}),
        "beta_tcvae": presets.baseline("beta_tcvae", **presets.BASELINES["beta_tcvae"]),
        "deft": presets.deft("dsprites", (70.0, 30.0, 12.0, 4.0)),
    }
    study = study_presets.study(runs, study_presets.SCALES | {"small": "deft_jax.studies.scales:small_quantised"})
    study.seeds = tuple(range(5))
    with study.ignore_type():
        study.metrics = METRICS
    return study
