"""Settings of DEFT and of two rivals that are tried on each set before the methods are compared on other seeds.

Each method has three settings per set, so that all have the same effort. Those of the literature are among them, except
where none exists: betas of DEFT before noise are of this library.
"""

from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

from deft_jax.studies import presets

# Betas of DEFT: set by hand, by its author where there are some; and those of the annealing test of the whole set,
# without labels.
DEFT_BETAS: Mapping[str, Mapping[str, Sequence[float]]] = {
    "dsprites": {"by_hand": (70.0, 30.0, 12.0, 4.0), "annealed": presets.ANNEALED_BETAS},
    "noisy_dsprites": {"by_hand": (20.0, 9.0, 3.5, 1.0), "annealed": (21.7, 12.1, 4.27, 1.0)},
    "color_dsprites": {"by_hand": (160.0, 105.0, 30.0, 1.0), "annealed": (101.0, 42.0, 1.0)},
}

# The weight of the total correlation.
TCVAE_BETAS: Mapping[str, Sequence[float]] = {
    "dsprites": (6.0, 12.0, 24.0),
    "noisy_dsprites": (3.0, 6.0, 12.0),
    "color_dsprites": (6.0, 12.0, 24.0),
}
# The KL in nats that DynamicVAE aims at, and the beta it starts with. Images in colour hold more information than those
# of dSprites and freeze at higher betas; images before noise hold less. All targets are reached at the same share of a
# run, that of the literature's 20 nats.
KL_TARGETS: Mapping[str, Sequence[tuple[float, float]]] = {
    "dsprites": ((15.0, 50.0), (20.0, 50.0), (25.0, 50.0)),
    "noisy_dsprites": ((10.0, 50.0), (15.0, 50.0), (20.0, 50.0)),
    "color_dsprites": ((20.0, 50.0), (30.0, 100.0), (30.0, 200.0)),
}
INCREMENT = 0.15  # rise of DynamicVAE's target per period in the literature, with a target of 20 nats

SETS = tuple(DEFT_BETAS)
"""Keys of data_sections.DATA that have settings."""
METHODS = ("deft", "beta_tcvae", "dynamic_vae")
LITERATURE: Mapping[str, str] = {"deft": "by_hand", "beta_tcvae": "beta_6", "dynamic_vae": "kl_20"}
"""Method -> the name of its setting in the literature; of DEFT, the one whose betas are set by hand."""


def settings(data: str) -> dict[str, ConfigDict]:
    """All settings on one set.

    Args:
      data: one of SETS.

    Returns:
      'METHOD/SETTING' -> a configuration of a training, without rotation of latents.

    Example:
      >>> list(settings("dsprites"))[:3]
      ['deft/by_hand', 'deft/by_hand_gamma_0_3', 'deft/annealed']
    """
    by_hand, annealed = DEFT_BETAS[data]["by_hand"], DEFT_BETAS[data]["annealed"]
    runs = {
        "deft/by_hand": presets.deft(data, by_hand),
        "deft/by_hand_gamma_0_3": presets.deft(data, by_hand, gamma=0.3),
        "deft/annealed": presets.deft(data, annealed),
    }
    for beta in TCVAE_BETAS[data]:
        runs[f"beta_tcvae/beta_{beta:g}"] = presets.baseline("beta_tcvae", data, beta=beta)
    for target, start in KL_TARGETS[data]:
        options = dict(presets.BASELINES["dynamic_vae"]) | {
            "kl_target": target,
            "increment": INCREMENT * target / 20,
            "beta_start": start,
        }
        name = f"dynamic_vae/kl_{target:g}" + (f"_start_{start:g}" if start != 50 else "")
        runs[name] = presets.baseline("dynamic_vae", data, **options)
    return runs
