"""Information diffusion of DEFT, of annealing without groups, and of rivals on dSprites, in nats.

    python -m deft_jax.sweep --config configs/studies/diffusion.py --workdir runs/study_diffusion
    python -m deft_jax.sweep --config configs/studies/diffusion.py --workdir runs/small_diffusion --config.scale=small

Beta falls from 70 to 4 in all runs of DEFT and of annealing: `annealing` has one encoder and a smooth fall,
`beta_stages` one encoder and a fall in steps, and the others one encoder per group, opened step by step, with several
gamma. Those called `decoder_...` have gamma = 0.1 and a decoder that learns at 0.3 or 0.1 of the encoders' rate. The
rivals have the settings of configs/studies/dsprites.py. `rotated/...` are the same with latents rotated onto
independent axes, which CascadeVAE-C does not allow.

All runs are evaluated at the same steps, since diffusion adds up over the intervals between evaluations. Tables:
docs/experiments/diffusion/ledgers.py. At the small scale a run takes two to three minutes on one CPU core.
"""

from deft_jax.studies import presets, study_presets

BETAS = (70.0, 30.0, 12.0, 4.0)
GAMMAS = (1.0, 0.3, 0.1, 0.03, 0.0)
RIVALS = ("beta_vae", "annealed_vae", "cascade_vae_c", "dynamic_vae")


def _annealing():
    config = presets.baseline("beta_vae", beta=BETAS[0])
    config.stages = presets.SMOOTH_FALL | {"thresholds": ()}
    return config


def _beta_stages():
    config = presets.baseline("beta_vae", beta=BETAS[0])
    config.stages.update({"betas": BETAS, "steps": (15_000,), "open_groups": False})
    return config


def _calibrated():
    config = presets.deft("dsprites", BETAS, gamma=0.0)
    config.model.calibrate = True
    return config


def _slow_decoder(factor):
    config = presets.deft("dsprites", BETAS, gamma=0.1)
    config.optimizer.decoder_learning_rate *= factor
    return config


def _runs():
    runs = {"annealing": _annealing(), "beta_stages": _beta_stages()}
    for gamma in GAMMAS:
        runs[f"gamma_{gamma:g}".replace(".", "_")] = presets.deft("dsprites", BETAS, gamma=gamma)
    runs |= {"gamma_0_calibrated": _calibrated(), "decoder_0_3": _slow_decoder(0.3), "decoder_0_1": _slow_decoder(0.1)}
    for name in RIVALS:
        runs[name] = presets.baseline(name, **presets.BASELINES[name])
    return runs


def get_config():
    runs = _runs()
    for name, config in _runs().items():
        if name != "cascade_vae_c":
            runs[f"rotated/{name}"] = presets.with_rotation(config)
    for config in runs.values():
        config.evaluation.update({"every": 5_000, "num_samples": 2_000})
    return study_presets.study(runs, study_presets.SCALES | {"small": "deft_jax.studies.scales:small_ledger"})
