"""The section `data` of a configuration for each data set, as the presets use it."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict, config_dict

from deft_jax import data as data_sets

# What each set is trained on, as deft_jax.data.get takes it. Sets with a path are read from files that the user
# has downloaded or made.
DATA: Mapping[str, Mapping[str, Any]] = {
    "dsprites": {"name": "dsprites"},
    "color_dsprites": {"name": "color_dsprites"},
    "noisy_dsprites": {"name": "noisy_dsprites"},
    "scream_dsprites": {"name": "scream_dsprites"},
    "correlated": {"name": "correlated"},
    "translation": {"name": "translation", "grid": "cartesian"},
    "xy_squares": {"name": "xy_squares", "spacing": 8},
    "smallnorb": {"name": "smallnorb"},
    "shapes3d": {"name": "shapes3d"},
    "cars3d": {"name": "cars3d"},
    "digits": {"name": "digits"},
    "breast_cancer": {"name": "breast_cancer"},
    "mpi3d_toy": {"name": "mpi3d", "variant": "toy", "path": "data/mpi3d_toy.npz"},
    "mpi3d_realistic": {"name": "mpi3d", "variant": "realistic", "path": "data/mpi3d_realistic.npz"},
    "mpi3d_real": {"name": "mpi3d", "variant": "real", "path": "data/mpi3d_real.npz"},
    "mpi3d_real_complex": {
        "name": "mpi3d", "variant": "real_complex", "path": "data/real3d_complicated_shapes_ordered.npz"
    },
    "falcor3d": {"name": "falcor3d", "path": "data/Falcor3D_down128", "cache": "data/falcor3d.npy"},
    "isaac3d": {"name": "isaac3d", "path": "data/Isaac3D_down128", "cache": "data/isaac3d.npy"},
    "archive": {"name": "archive", "path": "data/archive.npz"},
    "folder": {"name": "folder", "path": "data/pictures", "size": 64, "channels": 3},
    "chairs": {"name": "folder", "path": "data/chairs", "size": 64, "channels": 1},
    "celeba": {"name": "folder", "path": "data/celeba", "size": 64, "channels": 3, "crop": 148},
}


def data_section(data: str = "dsprites") -> ConfigDict:
    """The section `data` of a configuration: what DATA has for this set, and every option of every set.

    Options that DATA does not set are None, which stands for the default of the set's function; so data.name and what
    belongs to it can be set on the command line in any configuration: --config.data.name=archive
    --config.data.path=FILE.npz --config.data.images=arr_0.

    Args:
      data: a key of DATA.

    Raises:
      ValueError: the set is unknown.
    """
    if data not in DATA:
        raise ValueError(f"unknown data set {data!r} after the colon; known: {', '.join(DATA)}")
    unset = {option: config_dict.placeholder(kind) for option, kind in data_sets.option_types().items()}
    section = ConfigDict({"name": DATA[data]["name"], **unset})
    section.update(DATA[data])
    return section
