"""What labels and pairs are worth on dSprites: no labels, 100, 1,000; or pairs of images that differ in few factors.

    python -m deft_jax.sweep --config configs/studies/supervision.py --workdir runs/study_supervision
    python -m deft_jax.sweep --config configs/studies/supervision.py --workdir runs/small_supervision \
        --config.scale=small

Runs are called SUPERVISION/METHOD. `labels_N` are beta-VAE, beta-TCVAE and DEFT with labels of N images, as in
configs/semi_supervised.py; `pairs_any` are Ada-GVAE and Ada-ML-VAE with pairs that differ in a number of factors that
is drawn, `pairs_1` with pairs that differ in one. All have 10 latents, batches and steps of DEFT. Five seeds, at the
small scale two to four CPU minutes each.
"""

from deft_jax.studies import presets, study_presets

LABELS = (0, 100, 1_000)
METHODS = ("beta_vae", "beta_tcvae", "deft")
CHANGED_FACTORS = {"pairs_any": None, "pairs_1": 1}
# In the order in which they freeze: with DEFT a factor is the target of a latent that its stage opens.
FACTORS = ("posX", "posY", "scale", "shape", "orientation")


def _with_labels(method, labels):
    if method == "deft":
        config = presets.deft("dsprites", (70.0, 30.0, 12.0, 4.0))
    else:
        config = presets.baseline(method, **presets.BASELINES[method])
    if labels:
        config.supervision = {"labels": labels, "weight": 50.0, "batch_size": 16, "factors": FACTORS, "seed": 0}
    return config


def get_config():
    runs = {f"labels_{labels}/{method}": _with_labels(method, labels) for labels in LABELS for method in METHODS}
    for name, changed in CHANGED_FACTORS.items():
        for method in ("ada_gvae", "ada_ml_vae"):
            runs[f"{name}/{method}"] = presets.baseline(method, beta=1.0, changed_factors=changed)
    study = study_presets.study(runs)
    study.seeds = tuple(range(5))
    return study
