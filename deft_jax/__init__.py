"""DEFT and its baselines: unsupervised disentanglement in JAX."""

import pathlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deft_jax.training.restore import TrainedModel

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(workdir: str | pathlib.Path, step: int | None = None) -> "TrainedModel":
    """The model of a training, or one that comes with the package, with encode, decode, config and source.

    Args:
      workdir: of the training, finished or not: a folder, or an address gs://... or s3://... Or the name of a model
        that comes with the package, such as 'quickstart', where nothing of that name lies in the current folder.
      step: of the checkpoint. Default: None, the newest readable one.

    Raises:
      ValueError: there is no run or no such checkpoint, or it is damaged.
    """
    from deft_jax.training import restore  # imported here, so that `import deft_jax` loads neither jax nor flax

    return restore.load(workdir, step)
