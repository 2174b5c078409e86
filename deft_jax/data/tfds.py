"""dSprites, SmallNORB, Shapes3D and Cars3D by tensorflow-datasets (TFDS): prepared once, read without TensorFlow.

A set is downloaded and prepared by its TFDS builder, as ArrayRecord files (tfds_prepare). Its first use decodes every
example, resizes the images to 64x64 and writes them in the order of their labels into one file beside the prepared set,
which is memory-mapped from then on (tfds_read). On one core, preparing takes some 0.5 ms per image and the first use
some 0.3 ms: minutes for Shapes3D and dSprites.
"""

import os

from deft_jax.data import pixels, sprites, stored
from deft_jax.data.source import Source
from deft_jax.data.tfds_prepare import SIDE, Grid, builder_of, prepare
from deft_jax.data.tfds_read import read_images
from deft_jax.runtime.paths import local_path


def _labels(*names: str) -> tuple[str, ...]:
    return tuple(f"label_{name}" for name in names)


_SHAPES3D = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
_SMALLNORB = ("category", "elevation", "azimuth", "lighting")
_CARS3D = ("elevation", "azimuth", "object")

GRIDS = {
    "dsprites": Grid("dsprites", sprites.NAMES, sprites.SIZES,
                     _labels("shape", "scale", "orientation", "x_position", "y_position"),
                     channels=1, binary=True, needs=("h5py",), by_arrays=True),
    "smallnorb": Grid("smallnorb", _SMALLNORB, (5, 9, 18, 6), _labels(*_SMALLNORB),
                      channels=1, instance="instance", repeats=10, needs=("tensorflow",)),
    "shapes3d": Grid("shapes3d", _SHAPES3D, (10, 10, 10, 8, 4, 15), _labels(*_SHAPES3D),
                     channels=3, needs=("h5py",), by_arrays=True),
    "cars3d": Grid("cars3d", _CARS3D, (4, 24, 183), _labels(*_CARS3D), channels=3),
}


def _source(
    name: str,
    data_dir: str | os.PathLike | None,
    storage: str,
    download: bool,
    source: str | os.PathLike | None,
    likelihood: str,
) -> Source:
    """The set of this name in GRIDS, prepared where it is not yet; arguments are checked before a download."""
    stored.check_choices(storage, likelihood)
    folder = None if data_dir is None else local_path(data_dir, "data.data_dir")
    published = None if source is None else local_path(source, "data.source")
    grid = GRIDS[name]
    if not download and folder is not None and not folder.is_dir():
        raise ValueError(f"data_dir {folder} is not a folder; with download=True, {name} is prepared there")
    builder = builder_of(grid, folder)
    if not builder.is_prepared():
        if not download:
            raise ValueError(f"{name} is not prepared in {builder.data_dir}; with download=True, it is")
        prepare(builder, grid, published)
        builder = builder_of(grid, folder)
    rows = read_images(builder, grid)
    images = pixels.Packed(rows, (SIDE, SIDE, grid.channels)) if grid.binary else rows
    return stored.grid_source(
        images, grid.names, grid.sizes, likelihood=likelihood, storage=storage, repeats=grid.repeats
    )


def tfds_dsprites(
    data_dir: str | os.PathLike | None = None,
    storage: str = "auto",
    download: bool = True,
    source: str | os.PathLike | None = None,
    likelihood: str = "bernoulli",
) -> Source:
    """dSprites as published (Matthey et al. 2017): 737,280 images.

    deft_jax.data.sprites draws the same set without a download. Preparing it downloads 28 MB and needs h5py and over 3
    GB of memory. The images in order take 377 MB beside the prepared set.

    Args:
      data_dir: the local folder where TFDS keeps prepared sets; None takes $TFDS_DATA_DIR, or ~/tensorflow_datasets.
      storage: as for `deft_jax.data.pixels.gather`.
      download: whether to download and prepare the set if it is not prepared.
      source: folder with the published files, by their own names, to prepare from instead of downloading. Without it,
        files in data_dir/downloads/manual are used, if any. TFDS checks them against their checksums.
      likelihood: 'bernoulli', also for 'auto', or 'gaussian'.

    Returns:
      Source with the factors shape, scale, orientation, posX and posY and images float32 [N, 64, 64, 1] of 0 and 1.

    Raises:
      ValueError: the set is not there and may not or cannot be downloaded or prepared (the message says what to
        install, or which file to get and where to put it); it is not complete; an argument is unknown.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     tfds_dsprites(data_dir=f"{folder}/prepared", download=False)
      Traceback (most recent call last):
      ValueError: data_dir .../prepared is not a folder; with download=True, dsprites is prepared there
    """
    return _source("dsprites", data_dir, storage, download, source, likelihood)


def smallnorb(
    data_dir: str | os.PathLike | None = None,
    storage: str = "auto",
    download: bool = True,
    source: str | os.PathLike | None = None,
    likelihood: str = "bernoulli",
) -> Source:
    """SmallNORB (LeCun, Huang, Bottou, CVPR 2004): toys of 5 categories, the left one of two stereo images.

    Both splits together are 48,600 images of 96x96, resized to 64x64. Each combination of factors has 10 images, of 10
    toys of the category; the key selects one. Preparing the set downloads 263 MB and needs TensorFlow, reading it
    does not.

    Args:
      data_dir, storage, download, source, likelihood: as for `tfds_dsprites`.

    Returns:
      Source with the factors category (5), elevation (9), azimuth (18) and lighting (6) and images float32
      [N, 64, 64, 1] in [0, 1].

    Raises:
      ValueError: as for `tfds_dsprites`.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     smallnorb(data_dir=f"{folder}/prepared", download=False)
      Traceback (most recent call last):
      ValueError: data_dir .../prepared is not a folder; with download=True, smallnorb is prepared there
    """
    return _source("smallnorb", data_dir, storage, download, source, likelihood)


def shapes3d(
    data_dir: str | os.PathLike | None = None,
    storage: str = "auto",
    download: bool = True,
    source: str | os.PathLike | None = None,
    likelihood: str = "bernoulli",
) -> Source:
    """Shapes3D (Burgess, Kim, '3D Shapes Dataset', DeepMind 2018): 480,000 images of an object in a room.

    Preparing it downloads 268 MB and needs h5py and over 6 GB of memory. The images in order take 5.9 GB beside
    the prepared set.

    Args:
      data_dir, storage, download, source, likelihood: as for `tfds_dsprites`.

    Returns:
      Source with the factors floor_hue (10), wall_hue (10), object_hue (10), scale (8), shape (4) and orientation (15)
      and images float32 [N, 64, 64, 3] in [0, 1].

    Raises:
      ValueError: as for `tfds_dsprites`.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     shapes3d(data_dir=f"{folder}/prepared", download=False)
      Traceback (most recent call last):
      ValueError: data_dir .../prepared is not a folder; with download=True, shapes3d is prepared there
    """
    return _source("shapes3d", data_dir, storage, download, source, likelihood)


def cars3d(
    data_dir: str | os.PathLike | None = None,
    storage: str = "auto",
    download: bool = True,
    source: str | os.PathLike | None = None,
    likelihood: str = "bernoulli",
) -> Source:
    """Cars3D (Reed, Zhang, Zhang, Lee, NeurIPS 2015): 183 car models, 17,568 images of 128x128 resized to 64x64.

    deft_jax.data.cars3d_builder prepares it; TFDS has no builder of it.

    Args:
      data_dir, storage, download, source, likelihood: as for `tfds_dsprites`.

    Returns:
      Source with the factors elevation (4), azimuth (24) and object (183) and images float32 [N, 64, 64, 3] in [0, 1].

    Raises:
      ValueError: as for `tfds_dsprites`.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     cars3d(data_dir=f"{folder}/prepared", download=False)
      Traceback (most recent call last):
      ValueError: data_dir .../prepared is not a folder; with download=True, cars3d is prepared there
    """
    return _source("cars3d", data_dir, storage, download, source, likelihood)
