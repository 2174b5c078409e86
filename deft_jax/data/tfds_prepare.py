"""Preparation of a data set by tensorflow-datasets (TFDS), as ArrayRecord files, without TensorFlow where possible."""

import dataclasses
import importlib
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

SIDE = 64  # of every image, in pixels


@dataclasses.dataclass(frozen=True)
class Grid:
    """A prepared set: what its examples contain and how they become a grid of factors.

    Attributes:
      builder: name of its builder in TFDS.
      names: F factor names.
      sizes: number of values of each factor.
      labels: the features of an example with the factors' values.
      channels: of an image.
      instance: the feature that numbers the images of one combination of factors; None where there is one image each.
      repeats: number of images of each combination.
      binary: whether images have the levels 0 and 1, and are stored as bits.
      needs: modules that its preparation needs beyond TFDS.
      by_arrays: whether the builder yields images as arrays, for which alone it would need TensorFlow.
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
    def row_shape(self) -> tuple[int, ...]:
        """Shape of an image as it is stored, uint8."""
        return (SIDE * SIDE * self.channels // 8,) if self.binary else (SIDE, SIDE, self.channels)


def require(modules: Iterable[str], purpose: str, alternative: str = "") -> None:
    """Raises ValueError with the extra to install unless all modules can be imported."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError:
            extra = "tensorflow" if module == "tensorflow" else "data"
            raise ValueError(f"{purpose} needs {module}: pip install 'deft_jax[{extra}]'{alternative}") from None


def builder_of(grid: Grid, data_dir: pathlib.Path | None) -> Any:
    """The TFDS builder of a set."""
    import tensorflow_datasets

    if grid.builder == "cars3d":
        from deft_jax.data import cars3d_builder

        return cars3d_builder.Cars3d(data_dir=data_dir)
    return tensorflow_datasets.builder(grid.builder, data_dir=data_dir)


def prepare(builder: Any, grid: Grid, source: pathlib.Path | None) -> None:
    """Downloads the files that are missing and prepares the set.

    Args:
      builder: as from `builder_of`.
      grid: of the same set.
      source: folder with the published files; None: TFDS's folder for manual downloads, else the network.

    Raises:
      ValueError: a module or a file is missing, a file is damaged, or a download fails.
    """
    from tensorflow_datasets.core import download
    from tensorflow_datasets.core.download import download_manager, util

    # importlib_resources: TFDS 4.9.10 finds a builder's checksums with it, and does not declare the dependency.
    require(("importlib_resources", *grid.needs), f"preparing {grid.builder}",
            ", or prepare it on a machine that has it and point data_dir to a copy of its data_dir")
    folder = pathlib.Path(builder.data_dir_root) / "downloads" / "manual" if source is None else source
    missing = {name: url for name, url in _origins(builder).items() if not (folder / name).exists()}
    if missing and source is not None:
        raise ValueError(f"source={source} lacks {_files_and_addresses(missing)}")

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
        raise ValueError(f"cannot download {grid.builder} ({_first_line(error)}): put {_files_and_addresses(missing)} "
                         f"into {folder}, or into any folder named by source=FOLDER") from None


def _encode_by_pillow(builder: Any) -> None:
    """Makes a builder yield its images as Pillow images.

    TFDS encodes arrays by TensorFlow and Pillow images by Pillow, both to PNG; the pixels are the same.
    """
    from PIL import Image

    generate = builder._generate_examples  # the hook that a builder defines; set on this instance only

    def as_pillow(value: Any) -> Any:
        is_image = isinstance(value, np.ndarray) and value.ndim == 3
        return Image.fromarray(value[..., 0] if value.shape[-1] == 1 else value) if is_image else value

    def generate_examples(*args: Any, **kw: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
        for key, example in generate(*args, **kw):
            yield key, {name: as_pillow(value) for name, value in example.items()}

    builder._generate_examples = generate_examples


def _origins(builder: Any) -> Mapping[str, str]:
    """The files that a builder downloads: {file name: address}."""
    infos = builder.url_infos or {}
    return getattr(builder, "ORIGINS", None) or {info.filename: url for url, info in infos.items()}


def _files_and_addresses(origins: Mapping[str, str]) -> str:
    """{'a': 'https://x/a', 'b': 'https://x/b'} -> 'a, b (from https://x)'."""
    folders = sorted({url.rpartition("/")[0] for url in origins.values()})
    return f"{', '.join(sorted(origins))} (from {', '.join(folders)})"


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
