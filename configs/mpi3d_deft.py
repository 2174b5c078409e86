"""DEFT on MPI3D, betas 160, 105, 30, 1. After a colon: one of SETS.

    python -m deft_jax.train --config configs/mpi3d_deft.py --workdir runs/mpi3d_toy_deft
    python -m deft_jax.train --config configs/mpi3d_deft.py:mpi3d_real --workdir runs/mpi3d_real_deft

Reads the published file in data/, from https://github.com/rr-learning/disentanglement_dataset. The author gives no
betas for these sets: they are Color-dSprites'. Read your own off an annealing test first. A job for an accelerator; not
run with this package.
"""

from deft_jax.studies import presets

SETS = ("mpi3d_toy", "mpi3d_realistic", "mpi3d_real", "mpi3d_real_complex")


def get_config(data="mpi3d_toy"):
    return presets.deft(data, (160.0, 105.0, 30.0, 1.0))
