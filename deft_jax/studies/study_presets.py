"""Presets of studies, which the files in configs/studies/ use."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict, config_dict

from deft_jax.studies.presets import BASELINES, baseline, deft

COMPARED = ("beta_vae", "beta_tcvae", "factor_vae", "annealed_vae", "cascade_vae_c", "control_vae", "dynamic_vae",
            "devae")  # fmt: skip
"""Baselines in the comparisons on single sets."""
SCALES: Mapping[str, str] = {
    name: f"deft_jax.studies.scales:{name}" for name in ("full", "large", "medium", "small")
}
"""Scales of a study by name."""


def study(
    runs: Mapping[str, ConfigDict], scales: Mapping[str, str] = SCALES, scale: str | None = "full"
) -> ConfigDict:
    """A study of these runs, as deft_jax.sweep takes it; see StudyConfig for its fields.

    Args:
      runs: name -> configuration of a training.
      scales: name -> 'module:function'. Default: full, with 10 seeds; large, medium and small, with 3.
      scale: the scale that is used unless the command line sets config.scale. None: the runs as they stand.
    """
    return ConfigDict(
        {
            "runs": dict(runs),
            "seeds": config_dict.placeholder(tuple),  # None: as the scale fills in
            "metrics": config_dict.placeholder(tuple),
            "num_samples": config_dict.placeholder(int),
            "pack": config_dict.placeholder(int),
            "only": config_dict.placeholder(tuple),  # None: all runs
            "set": config_dict.placeholder(tuple),  # fields of all chosen runs, as "model.width=16"
            "scale": config_dict.placeholder(str) if scale is None else scale,
            "scales": dict(scales),
        }
    )


def comparison(
    data: str, betas: Sequence[float], *, scales: Mapping[str, str] = SCALES, **deft_options: Any
) -> ConfigDict:
    """A study of DEFT and of its baselines on one set.

    Args:
      data: a key of data_sections.DATA.
      betas: of the stages of DEFT.
      scales: as of `study`.
      **deft_options: of presets.deft.
    """
    runs = {"deft": deft(data, betas, **deft_options)}
    for objective in COMPARED:
        runs[objective] = baseline(objective, data, **BASELINES[objective])
    return study(runs, scales)


def with_two_seeds(scales: Mapping[str, str] = SCALES) -> dict[str, str]:
    """The scales with two seeds at the small one, for sets of three channels."""
    return dict(scales) | {"small": "deft_jax.studies.scales:small_two_seeds"}
