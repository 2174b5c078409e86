"""dSprites, SmallNORB, Shapes3D and Cars3D by tensorflow-datasets (TFDS): prepared once, read without TensorFlow.

A set is downloaded and prepared by its TFDS builder, as ArrayRecord files. Its first use decodes every example, brings
the images to 64x64 and puts them in the order of their labels into one file beside the prepared set, which is
memory-mapped from then on. On one core, preparing takes some 0.5 ms an image and the first use some 0.3 ms: minutes for
Shapes3D and dSprites.
"""

import contextlib
import dataclasses
import importlib
import math
import os
import pathlib
import shutil
import tempfile

import numpy as np

from deft_jax.data import sprites, stored
from deft_jax.data.source import LIKELIHOODS, Source
from deft_jax.runtime.paths import local_path

SIDE = 64
FILE = "deft_jax_64x64.npy"  # the images in order, beside the prepared set


@dataclasses.dataclass(frozen=True)
class Grid:
    """What is known of a prepared set.

    Attributes:
      builder: its name in TFDS.
      names: F factor names.
      sizes: their numbers of values.
      labels: the features of an example that hold them.
      channels: of an image.
      instance, repeats: the feature that numbers the images of one combination of factors, and how many there are.
      binary: images have the levels 0 and 1, and are kept as bits.
      needs: modules that its preparation needs beyond TFDS.
      by_arrays: the builder hands its images over as arrays, and does not need TensorFlow for anything but those.
    """

    builder: str
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    labels: tuple[str, ...]
    channels: int
    instance: str | None = None
    repeats: int = 1
    binary: bool = False
    needs: tuple[str, ...] = ()
    by_arrays: bool = False

    @property
    def row_shape(self):
        """Shape of an image as it is kept, uint8."""
        return (SIDE * SIDE * self.channels // 8,) if self.binary else (SIDE, SIDE, self.channels)


def _labels(*names):
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


def _require(modules, purpose, otherwise=""):
    """Raises ValueError unless all modules can be imported."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError:
            extra = "tensorflow" if module == "tensorflow" else "data"
            raise ValueError(f"{purpose} needs {module}: pip install 'deft_jax[{extra}]'{otherwise}") from None


def _builder(grid, data_dir):
    """The TFDS builder of a set."""
    import tensorflow_datasets

    if grid.builder == "cars3d":
        from deft_jax.data import cars3d_builder

        return cars3d_builder.Cars3d(data_dir=data_dir)
    return tensorflow_datasets.builder(grid.builder, data_dir=data_dir)


def _encode_by_pillow(builder):
    """Lets a builder hand its images over as Pillow images.

    TFDS encodes arrays by TensorFlow and Pillow images by Pillow, both to PNG; the pixels are the same.
    """
    from PIL import Image

    generate = builder._generate_examples  # what a builder defines; an instance may have its own

    def as_pillow(value):
        is_image = isinstance(value, np.ndarray) and value.ndim == 3
        return Image.fromarray(value[..., 0] if value.shape[-1] == 1 else value) if is_image else value

    def generate_examples(*args, **kw):
        for key, example in generate(*args, **kw):
            yield key, {name: as_pillow(value) for name, value in example.items()}

    builder._generate_examples = generate_examples


def _origins(builder):
    """The files that a builder downloads: {file name: address}."""
    infos = builder.url_infos or {}
    return getattr(builder, "ORIGINS", None) or {info.filename: url for url, info in infos.items()}


def _prepare(builder, grid, source):
    """Downloads what is not there and prepares the set; raises ValueError."""
    from tensorflow_datasets.core import download
    from tensorflow_datasets.core.download import download_manager, util

    # importlib_resources: TFDS 4.9.10 uses it to find a builder's checksums, and does not ask for it.
    _require(("importlib_resources", *grid.needs), f"preparing {grid.builder}",
             ", or prepare it on a machine that has it and point data_dir to a copy of its data_dir")
    folder = pathlib.Path(builder.data_dir_root) / "downloads" / "manual"
    if source is not None:
        folder = source
    origins = _origins(builder)
    missing = {name: url for name, url in origins.items() if not (folder / name).exists()}
    if missing and source is not None:
        raise ValueError(f"source={source} lacks {_told(missing)}")

    if grid.by_arrays:
        _encode_by_pillow(builder)
    config = download.DownloadConfig(manual_dir=os.fspath(folder))
    try:
        builder.download_and_prepare(download_config=config, file_format="array_record")
    except download_manager.NonMatchingChecksumError as error:
        raise ValueError(f"a file of {grid.builder} is not the published one, or is damaged; remove it and get it "
                         f"again: {_first_line(error)}") from None
    except (util.DownloadError, OSError) as error:
        if not missing:
            raise ValueError(f"cannot prepare {grid.builder} in {builder.data_dir}: {_first_line(error)}") from None
        raise ValueError(f"cannot download {grid.builder} ({_first_line(error)}): put {_told(missing)} into {folder}, "
                         "or into any folder named by source=FOLDER") from None


def _told(origins):
    """{'a': 'https://x/a', 'b': 'https://x/b'} -> 'a, b (from https://x)'."""
    folders = sorted({url.rpartition("/")[0] for url in origins.values()})
    return f"{', '.join(sorted(origins))} (from {', '.join(folders)})"


def _first_line(error):
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _row(image, grid):
    """An image of a prepared set, uint8 [H, W, C], as it is kept."""
    if image.shape[:2] != (SIDE, SIDE):
        from PIL import Image

        # LANCZOS as in disentanglement_lib, which rounds to whole grey levels here as well.
        image = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        image = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)).reshape(SIDE, SIDE, -1)
    return stored.pack(image[None]).bits[0] if grid.binary else image


def _fill(rows, grid, examples):
    """Writes the image of every example to its place in the order of the labels, last factor fastest.

    Args:
      rows: uint8 [prod(grid.sizes) * grid.repeats, *grid.row_shape], written to.
      grid: a Grid.
      examples: iterable of dicts with 'image', numpy uint8 [H, W, C], and the labels.

    Raises:
      ValueError: labels out of range, a combination that comes twice, or one that does not come.
    """
    names = (*grid.labels, grid.instance) if grid.instance else grid.labels
    sizes = (*grid.sizes, grid.repeats) if grid.instance else grid.sizes
    seen = np.zeros(len(rows), bool)

    def told(labels):
        return ", ".join(f"{name} {label}" for name, label in zip(names, labels, strict=True))

    for example in examples:
        labels = tuple(int(example[name]) for name in names)
        if not all(0 <= label < size for label, size in zip(labels, sizes, strict=True)):
            raise ValueError(f"{grid.builder} has an image of {told(labels)}, but the sizes are {sizes}")
        number = np.ravel_multi_index(labels, sizes)
        if seen[number]:
            raise ValueError(f"{grid.builder} has two images of {told(labels)}")
        rows[number] = _row(example["image"], grid)
        seen[number] = True
    if not seen.all():
        raise ValueError(f"{grid.builder} has images of {seen.sum()} combinations of its labels; "
                         f"they must be all {len(seen)}")


def _examples(builder, name):
    """Every example of every split, with a progress bar."""
    import tqdm

    sources = [builder.as_data_source(split) for split in sorted(builder.info.splits)]
    total = sum(len(source) for source in sources)
    with tqdm.tqdm(total=total, desc=f"reading {name}", unit="images", mininterval=1, leave=False) as bar:
        for source in sources:
            for example in source:
                yield example
                bar.update()


def _read(builder, grid):
    """The images of a prepared set in order: uint8 [N, *grid.row_shape], memory-mapped where there is room for that.

    Raises:
      ValueError: the set was prepared for TensorFlow, or is not what `_fill` takes.
    """
    path = pathlib.Path(builder.data_dir) / FILE
    shape = (math.prod(grid.sizes) * grid.repeats, *grid.row_shape)
    if path.exists():
        with contextlib.suppress(ValueError, OSError):  # not a whole .npy file: made again
            rows = np.load(path, mmap_mode="r", allow_pickle=False)
            if rows.shape == shape and rows.dtype == np.uint8:
                return rows

    _require(("array_record",), f"reading {grid.builder}")
    formats = {kind.value for kind in builder.info.available_file_formats()}
    if not formats & {"array_record", "parquet"}:
        raise ValueError(f"{builder.data_dir} holds {', '.join(sorted(formats))} files, which only TensorFlow reads; "
                         "give another data_dir, to prepare the set there once more")
    examples = _examples(builder, grid.builder)
    # Decoding takes some 0.3 ms an image, minutes for the large sets. A full disk would kill a process that writes to
    # a mapped file, and a folder may be read-only; the images are then read anew by each process.
    room = shutil.disk_usage(path.parent).free > 2 * math.prod(shape)
    if not (room and os.access(path.parent, os.W_OK)):
        rows = np.zeros(shape, np.uint8)
        _fill(rows, grid, examples)
        return rows

    handle, partial = tempfile.mkstemp(prefix=f"{FILE}.", suffix=".partial", dir=path.parent)
    os.close(handle)
    try:
        rows = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
        _fill(rows, grid, examples)
        rows.flush()
        os.chmod(partial, 0o644)  # mkstemp keeps others out, but a prepared set may be shared
        os.replace(partial, path)
    except BaseException:
        pathlib.Path(partial).unlink(missing_ok=True)
        raise
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _source(name, data_dir, storage, download, source, likelihood):
    """Source of a set in GRIDS."""
    # Wrong words are refused before a set is downloaded.
    if storage not in stored.STORAGES:
        raise ValueError(f"unknown storage {storage!r}; known: {', '.join(stored.STORAGES)}")
    if likelihood not in ("auto", *LIKELIHOODS):
        raise ValueError(f"unknown likelihood {likelihood!r}; known: auto, {', '.join(LIKELIHOODS)}")
    if data_dir is not None:
        data_dir = local_path(data_dir, "data.data_dir")
    if source is not None:
        source = local_path(source, "data.source")
    grid = GRIDS[name]
    if not download and data_dir is not None and not data_dir.is_dir():
        raise ValueError(f"data_dir {data_dir} is not a folder; with download=True, {name} is prepared there")
    builder = _builder(grid, data_dir)
    if not builder.is_prepared():
        if not download:
            raise ValueError(f"{name} is not prepared in {builder.data_dir}; with download=True, it is")
        _prepare(builder, grid, source)
        builder = _builder(grid, data_dir)
    images = _read(builder, grid)
    if grid.binary:
        images = stored.Packed(images, (SIDE, SIDE, grid.channels))
    return stored.grid_source(images, grid.names, grid.sizes, likelihood=likelihood, storage=storage,
                              repeats=grid.repeats)


def tfds_dsprites(
    data_dir: str | os.PathLike | None = None,
    storage: str = "auto",
    download: bool = True,
    source: str | os.PathLike | None = None,
    likelihood: str = "bernoulli",
) -> Source:
    """dSprites as published, 737,280 images; deft_jax.data.sprites draws the same set without a download.

    Preparing it downloads 28 MB and needs h5py and over 3 GB of memory. The images in order take 377 MB beside
    the prepared set.

    Args:
      data_dir: the local folder where TFDS keeps prepared sets; None takes $TFDS_DATA_DIR, or ~/tensorflow_datasets.
      storage: as for `deft_jax.data.stored.gather`.
      download: whether to download and prepare the set if it is not prepared.
      source: folder with the published files, by their own names, to prepare from instead of downloading. Without it,
        files in data_dir/downloads/manual are used where they are there. TFDS checks them against their checksums.
      likelihood: 'bernoulli', also for 'auto', or 'gaussian'.

    Returns:
      Source with the factors shape, scale, orientation, posX and posY and images float32 [N, 64, 64, 1] of 0 and 1.

    Raises:
      ValueError: the set is not there and may not or cannot be downloaded or prepared (the message says what to
        install, or which file to get and where to put it); it is not complete; an argument is unknown.
    """
    return _source("dsprites", data_dir, storage, download, source, likelihood)


def smallnorb(
    data_dir: str | os.PathLike | None = None,
    storage: str = "auto",
    download: bool = True,
    source: str | os.PathLike | None = None,
    likelihood: str = "bernoulli",
) -> Source:
    """SmallNORB (LeCun, Huang, Bottou, CVPR 2004): toys from 5 categories, the left one of two stereo images.

    Both splits together, 48,600 images of 96x96 resized to 64x64. Each combination of factors has 10 images, of 10 toys
    of the category; the key decides between them. Preparing the set downloads 263 MB and needs TensorFlow, reading it
    does not.

    Args:
      data_dir, storage, download, source, likelihood: as for `tfds_dsprites`.

    Returns:
      Source with the factors category (5), elevation (9), azimuth (18) and lighting (6) and images float32
      [N, 64, 64, 1] in [0, 1].

    Raises:
      ValueError: as for `tfds_dsprites`.
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
    """
    return _source("shapes3d", data_dir, storage, download, source, likelihood)


def cars3d(
    data_dir: str | os.PathLike | None = None,
    storage: str = "auto",
    download: bool = True,
    source: str | os.PathLike | None = None,
    likelihood: str = "bernoulli",
) -> Source:
    """Cars3D, 17,568 images of 128x128 resized to 64x64; see deft_jax.data.cars3d_builder.

    Args:
      data_dir, storage, download, source, likelihood: as for `tfds_dsprites`.

    Returns:
      Source with the factors elevation (4), azimuth (24) and object (183) and images float32 [N, 64, 64, 3] in [0, 1].

    Raises:
      ValueError: as for `tfds_dsprites`.
    """
    return _source("cars3d", data_dir, storage, download, source, likelihood)
