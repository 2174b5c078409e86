"""A model as a small folder that can be given away: its parameters without what only a training needs."""

import json
import os
import pathlib
import shutil
import tempfile

from deft_jax.runtime.errors import reraise_as_cannot_write
from deft_jax.runtime.files import read_object, write_atomically, write_json
from deft_jax.runtime.paths import local_path
from deft_jax.training import restore
from deft_jax.training.weights_file import write_weights

_COPIED = ("config.json", "source.json", "sample.npz")


def export(workdir: str | pathlib.Path, folder: str | pathlib.Path, step: int | None = None) -> pathlib.Path:
    """Writes the model of a workdir into a folder without checkpoints, figures and events.

    It has config.json, source.json, sample.npz, metrics.jsonl up to the step, weights.npz, and results.json where that
    is of the same step. Whatever reads a workdir reads the folder: `load`, and the commands `report`, `evaluate` and
    `encode`. No training can go on from it.

    Args:
      workdir: of a training, finished or not, or an exported folder; nothing in it is changed.
      folder: where the model goes, not there yet or empty; it appears complete or not at all.
      step: of the checkpoint. Default: None, the newest readable one.

    Returns:
      The folder.

    Raises:
      ValueError: the folder holds something, or the workdir has no such model.
      CannotWrite: on a full disk.
    """
    target = local_path(folder, "folder")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} is not empty; give a folder that is not there yet")
    model = restore.load(workdir, step)
    with reraise_as_cannot_write(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            for name in _COPIED:
                if (model.workdir / name).exists():
                    shutil.copyfile(model.workdir / name, temporary / name)
            results = read_object(model.workdir / "results.json")
            if results is not None and results.get("step") == model.step:
                write_json(temporary / "results.json", results)
            lines = (json.dumps(record) + "\n" for record in model.records)
            write_atomically(temporary / "metrics.jsonl", "".join(lines))
            write_weights(temporary, model.params, model.step, model.stage)
            temporary.chmod(0o755)
            os.replace(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return target
