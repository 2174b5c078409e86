"""The parameters of a model in one archive of arrays, without the state of its optimiser.

weights.npz holds one array per parameter under its path in the tree, such as encoder/group_0/Dense_0/kernel, and the
numbers `step` and `stage`. The arrays are those of the checkpoint, bit for bit.
"""

import io
import pathlib
from typing import Any

import jax
import numpy as np

from deft_jax.runtime.files import write_atomically
from deft_jax.runtime.messages import short_repr
from deft_jax.training.state import TrainState

WEIGHTS = "weights.npz"
_NUMBERS = ("step", "stage")


def is_exported(workdir: pathlib.Path) -> bool:
    """Whether a folder holds an exported model: weights.npz in place of checkpoints."""
    return (workdir / WEIGHTS).is_file() and not (workdir / "checkpoints").is_dir()


def write_weights(folder: pathlib.Path, params: Any, step: int, stage: int) -> None:
    """Writes weights.npz into a folder.

    Args:
      folder: created where it is missing.
      params: a tree of arrays.
      step: updates done.
      stage: index of the stage in which the parameters were saved.

    Raises:
      CannotWrite: on a full disk.
    """
    arrays: dict[str, Any] = {"step": np.int32(step), "stage": np.int32(stage)}
    arrays |= {name: np.asarray(leaf) for name, leaf in _named_leaves(params)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomically(folder / WEIGHTS, buffer.getvalue())


def read_weights(folder: pathlib.Path, like: TrainState, num_stages: int) -> TrainState:
    """The parameters in weights.npz, in a state that has nothing else than they, step and stage.

    Args:
      folder: which holds the file.
      like: a state whose parameters have the structure, shapes and types that are expected.
      num_stages: of the training, more than `stage`.

    Raises:
      ValueError: the file is damaged, or its parameters are not those of this model.
    """
    path = folder / WEIGHTS
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive}
    except Exception as error:  # zipfile, zlib and numpy report damage in many ways
        raise ValueError(f"cannot read {path}: {short_repr(error)}") from None
    expected = dict(_named_leaves(like.params))
    faults = [f"lacks {name}" for name in (*_NUMBERS, *expected) if name not in arrays]
    faults += [f"has {name}, which the model has not" for name in arrays if name not in (*_NUMBERS, *expected)]
    for name, leaf in expected.items():
        if name in arrays and (arrays[name].shape, arrays[name].dtype) != (leaf.shape, leaf.dtype):
            faults.append(f"has {name} as {arrays[name].dtype} {arrays[name].shape}, not {leaf.dtype} {leaf.shape}")
        elif name in arrays and not np.isfinite(arrays[name]).all():
            faults.append(f"has numbers in {name} that are not finite")
    for name in _NUMBERS:
        if name in arrays and not (arrays[name].shape == () and arrays[name].dtype.kind == "i" and arrays[name] >= 0):
            faults.append(f"has no whole number as {name}")
    if not faults and arrays["stage"] >= num_stages:
        faults.append(f"is of stage {arrays['stage']}, and there are {num_stages}")
    if faults:
        more = f", and {len(faults) - 1} more faults" if len(faults) > 1 else ""
        raise ValueError(f"{path} does not fit the config.json beside it: it {faults[0]}{more}")
    params = jax.tree.unflatten(jax.tree.structure(like.params), [arrays[name] for name in expected])
    numbers = {name: arrays[name] for name in _NUMBERS}
    return like.replace(params=params, key=(), opt_state=(), objective_state=(), **numbers)


def _named_leaves(params: Any) -> list[tuple[str, Any]]:
    """The leaves of a tree with their paths, in the order of the tree."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]
