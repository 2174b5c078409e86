"""Published sets of one file or folder: MPI3D, Falcor3D and Isaac3D, read as their authors distribute them."""

import math
import os
import pathlib
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from deft_jax.data import archive, folder, picture_files, stored
from deft_jax.data.source import Source
from deft_jax.runtime.paths import local_path

MPI3D_PAGE = "https://github.com/rr-learning/disentanglement_dataset"
HIGH_RESOLUTION_PAGE = "https://github.com/NVlabs/High-res-disentanglement-datasets"

MPI3D_NAMES = ("object_color", "object_shape", "object_size", "camera_height", "background_color", "horizontal_axis",
               "vertical_axis")  # fmt: skip
MPI3D_SIZES = {"toy": (6, 6, 2, 3, 3, 40, 40), "realistic": (6, 6, 2, 3, 3, 40, 40), "real": (6, 6, 2, 3, 3, 40, 40),
               "real_complex": (4, 4, 2, 3, 3, 40, 40)}  # fmt: skip
MPI3D_FILES = {"toy": "mpi3d_toy.npz", "realistic": "mpi3d_realistic.npz", "real": "mpi3d_real.npz",
               "real_complex": "real3d_complicated_shapes_ordered.npz"}  # fmt: skip
_MPI3D_SHAPE = (64, 64, 3)
_LABELS = ("train-rec.labels", "labels.npy")  # values of the factors [N, F], beside the folder of pictures


class PictureGrid(NamedTuple):
    """A set of numbered pictures.

    Attributes:
      title: as its authors write it.
      names, sizes: of the factors, the last one fastest in the numbers of the pictures.
    """

    title: str
    names: tuple[str, ...]
    sizes: tuple[int, ...]


FALCOR3D = PictureGrid(
    "Falcor3D",
    ("lighting_intensity", "lighting_x-dir", "lighting_y-dir", "lighting_z-dir",
     "camera_x-pos", "camera_y-pos", "camera_z-pos"),
    (5, 6, 6, 6, 6, 6, 6),
)  # fmt: skip
# The order of the numbers: the authors' dataset_demo.py, and the multipliers of the formula in their README, which
# names the factors in another order.
ISAAC3D = PictureGrid(
    "Isaac3D",
    ("object_shape", "robot_x-move", "robot_y-move", "camera_height", "object_scale", "lighting_intensity",
     "lighting_y-dir", "object_color", "wall_color"),
    (3, 8, 5, 4, 4, 4, 6, 4, 4),
)  # fmt: skip


def mpi3d(
    path: str | os.PathLike,
    variant: Literal["toy", "realistic", "real", "real_complex"] = "toy",
    storage: str = "auto",
    likelihood: str = "auto",
) -> Source:
    """MPI3D (Gondal et al. 2019), a robot arm with an object: 1,036,800 colour images; 460,800 of real_complex.

    Args:
      path: of the .npz with the one member `images`, or of its folder, as published: mpi3d_toy.npz,
        mpi3d_realistic.npz, mpi3d_real.npz, real3d_complicated_shapes_ordered.npz.
      variant: 'toy', 'realistic' and 'real' have the same factors; 'real_complex' has 4 colours and 4 shapes.
      storage: as for deft_jax.data.pixels.gather. The set is larger than what 'auto' keeps on the device, so images
        come from the host; of a file that is not compressed they are memory-mapped and read one batch at a time, and
        otherwise they take 12.7 GB of memory.
      likelihood: 'bernoulli', 'gaussian', or 'auto', which is 'bernoulli'.

    Returns:
      Source with the factors object_color, object_shape, object_size, camera_height, background_color, horizontal_axis
      and vertical_axis, in the archive's order, the last one fastest.

    Raises:
      ValueError: the file is missing, the message says where it is published; it has the name of another variant; or it
        does not have the images of the variant.

    Example:
      >>> mpi3d("no/mpi3d_toy.npz")
      Traceback (most recent call last):
      ValueError: ...get mpi3d_toy.npz from https://github.com/rr-learning/disentanglement_dataset ...
    """
    stored.check_choices(storage, likelihood)
    sizes = MPI3D_SIZES[variant]
    shapes = {name: (math.prod(other), *_MPI3D_SHAPE) for name, other in MPI3D_SIZES.items()}
    wanted = shapes[variant]
    advice = f"get {MPI3D_FILES[variant]} from {MPI3D_PAGE} and give it, or its folder, by data.path"
    file = _mpi3d_file(path, variant, advice)
    with archive.reading(file, advice) as (members, member_of):
        member = archive.chosen_member("images", None, ("images",), members, member_of)
        if member.shape != wanted or member.dtype != np.uint8:
            others = [name for name, shape in shapes.items() if shape == member.shape]
            hint = f"; these are the numbers of data.variant={', '.join(others)}" if others else f"; {advice}"
            raise ValueError(f"the images of MPI3D {variant} are uint8 {list(wanted)}, and {member.name!r} is "
                             f"{member.dtype} {list(member.shape)}{hint}")
        images = archive.read_images(os.fspath(file), member, storage)
    return stored.grid_source(images, MPI3D_NAMES, sizes, likelihood=likelihood, storage=storage)


def _mpi3d_file(path: str | os.PathLike, variant: str, advice: str) -> pathlib.Path:
    """The file that is named, or that is in the folder that is named; raises ValueError."""
    given = local_path(path, "data.path")
    if given.is_dir():
        if not (given / MPI3D_FILES[variant]).is_file():
            raise ValueError(f"data.path: the folder {str(given)!r} holds no {MPI3D_FILES[variant]}; {advice}")
        return given / MPI3D_FILES[variant]
    # Three variants have equally many images, so that only the name tells them apart.
    other = next((name for name, file in MPI3D_FILES.items() if file == given.name and name != variant), None)
    if other is not None:
        raise ValueError(f"data.path: {given.name} is the file of data.variant={other}, not of {variant}; {advice}")
    return given


def falcor3d(
    path: str | os.PathLike,
    size: int = 64,
    cache: str | os.PathLike | None = None,
    storage: str = "auto",
    likelihood: str = "auto",
) -> Source:
    """Falcor3D (Nie et al. 2020), a living room: 233,280 pictures, of 1024 x 1024 or 128 x 128 as published.

    Args:
      path: of the folder with 000000.png to 233279.png, or of the one above it, which has them in `images`.
      size: side of the images in pixels; pictures are resized by Lanczos.
      cache: .npy file for the decoded images, as for deft_jax.data.folder: decoding takes long, and with it is done
        once; images are then memory-mapped.
      storage: as for deft_jax.data.pixels.gather.
      likelihood: 'bernoulli', 'gaussian', or 'auto', which is 'bernoulli'.

    Returns:
      Source with the factors lighting_intensity 5, lighting_x-dir, lighting_y-dir, lighting_z-dir, camera_x-pos,
      camera_y-pos and camera_z-pos, 6 each.

    Raises:
      ValueError: the folder is missing, the message says where the set is published; pictures are missing or faulty; or
        labels beside them, `train-rec.labels` or `labels.npy` as published, have another order.

    Example:
      >>> falcor3d("no/pictures")
      Traceback (most recent call last):
      ValueError: the folder 'no/pictures' of Falcor3D does not exist; get Falcor3D from ...
    """
    return _numbered(FALCOR3D, path, size, cache, storage, likelihood)


def isaac3d(
    path: str | os.PathLike,
    size: int = 64,
    cache: str | os.PathLike | None = None,
    storage: str = "auto",
    likelihood: str = "auto",
) -> Source:
    """Isaac3D (Nie et al. 2020), a robot arm in a kitchen: 737,280 pictures, of 512 x 512 or 128 x 128 as published.

    Args:
      path: of the folder with 000000.png to 737279.png, or of the one above it, which has them in `images`.
      size, cache, storage, likelihood: as for `falcor3d`.

    Returns:
      Source with the factors object_shape 3, robot_x-move 8, robot_y-move 5, camera_height 4, object_scale 4,
      lighting_intensity 4, lighting_y-dir 6, object_color 4, wall_color 4.

    Raises:
      ValueError: as for `falcor3d`.

    Example:
      >>> isaac3d("no/pictures")
      Traceback (most recent call last):
      ValueError: the folder 'no/pictures' of Isaac3D does not exist; get Isaac3D from ...
    """
    return _numbered(ISAAC3D, path, size, cache, storage, likelihood)


def _numbered(
    grid: PictureGrid,
    path: str | os.PathLike,
    size: int,
    cache: str | os.PathLike | None,
    storage: str,
    likelihood: str,
) -> Source:
    """A set of pictures whose names are their numbers, of six digits or more."""
    stored.check_choices(storage, likelihood)
    if size < 1:
        raise ValueError(f"data.size must be at least 1, got {size}")
    folder_path = local_path(path, "data.path")
    advice = f"get {grid.title} from {HIGH_RESOLUTION_PAGE}, unpack it and give its folder by data.path"
    if not folder_path.is_dir():
        raise ValueError(f"the folder {str(folder_path)!r} of {grid.title} does not exist; {advice}")
    _check_labels(folder_path, grid)
    if (folder_path / "images").is_dir():
        folder_path /= "images"
    files = _numbered_files(folder_path, math.prod(grid.sizes), grid.title, advice)
    images = folder.decode_files(folder_path, files, size=size, channels=3, cache=cache)
    return stored.grid_source(images, grid.names, grid.sizes, likelihood=likelihood, storage=storage)


def _check_labels(path: pathlib.Path, grid: PictureGrid) -> None:
    """Compares the published labels, where they are, with the order of the factors; raises ValueError."""
    file = next((path / name for name in _LABELS if (path / name).is_file()), None)
    if file is None:
        return
    shape = (math.prod(grid.sizes), len(grid.sizes))
    try:
        labels_NxF = np.load(file, allow_pickle=False)
        if labels_NxF.shape != shape:
            raise ValueError(f"it holds {list(labels_NxF.shape)} numbers, not {list(shape)}")
    except Exception as error:  # numpy reports damage in many ways
        raise ValueError(f"data.path: cannot read {str(file)!r}: {' '.join(str(error).split())[:200]}; get "
                         f"{grid.title} anew from {HIGH_RESOLUTION_PAGE}") from error
    for name, column, wanted in zip(grid.names, labels_NxF.T, np.indices(grid.sizes), strict=True):
        if not np.array_equal(np.unique(column, return_inverse=True)[1].ravel(), wanted.ravel()):
            raise ValueError(f"data.path: {str(file)!r} has other values of {name} than {grid.title} in its published "
                             f"order; get it anew from {HIGH_RESOLUTION_PAGE}")


def _numbered_files(path: pathlib.Path, count: int, title: str, advice: str) -> Sequence[str]:
    """Names of the pictures in the order of their numbers; raises ValueError where some are missing or too many."""
    numbers = {}
    for entry in os.scandir(path):
        stem, ending = os.path.splitext(entry.name)
        if ending.lower() != ".png" or entry.name.startswith("."):
            continue
        if not (stem.isascii() and stem.isdigit()):
            raise ValueError(f"the pictures of {title} are numbered, 000000.png to {count - 1:06}.png, and "
                             f"{str(path)!r} has {entry.name!r}; {advice}")
        numbers[int(stem)] = entry.name
    missing = [number for number in range(count) if number not in numbers]
    surplus = len(numbers) - (count - len(missing))
    if missing or surplus:
        found = f"the first that is missing is {missing[0]:06}.png" if missing else f"{surplus} have higher numbers"
        raise ValueError(f"{title} has {count} pictures, 000000.png to {count - 1:06}.png, and {str(path)!r} has "
                         f"{picture_files.counted(len(numbers), 'picture')}, {found}; {advice}")
    return [numbers[number] for number in range(count)]
