"""A builder of Cars3D for tensorflow-datasets, which has none.

183 car models, each drawn from 4 elevations and 24 azimuths (Reed, Zhang, Zhang, Lee, 'Deep Visual Analogy-Making',
NeurIPS 2015). Importing this file imports tensorflow_datasets; preparing the set needs no TensorFlow.
"""

import io
import pathlib
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.io
import tensorflow_datasets
from PIL import Image

FILE = "nips2015-analogy-data.tar.gz"
URL = f"http://www.scottreed.info/files/{FILE}"
SIZES = (4, 24, 183)  # elevation, azimuth, object
SIDE = 64

_MESH = (128, 128, 3, SIZES[1], SIZES[0])


class Cars3d(tensorflow_datasets.core.GeneratorBasedBuilder):
    """Prepares the images at 64x64 with the labels elevation, azimuth and object.

    The object is numbered by its line in the archive's list.txt. (disentanglement_lib numbers it by the order in which
    the file system lists the files, which differs from one machine to the next.)
    """

    VERSION = tensorflow_datasets.core.Version("1.0.0")
    # With these, an archive in the folder for manual downloads is used instead of a download. No checksum of it has
    # been published; gzip contains one, and the contents are checked below.
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Place {FILE} ({URL}) here; without it, it is downloaded."
    ORIGINS = {FILE: URL}  # noqa: RUF012, as TFDS writes class constants

    def _info(self) -> Any:
        features = tensorflow_datasets.features
        labels = zip(("elevation", "azimuth", "object"), SIZES, strict=True)
        return tensorflow_datasets.core.DatasetInfo(
            builder=self,
            description="183 car models, each from 4 elevations and 24 azimuths, at 64x64 pixels.",
            homepage="http://www.scottreed.info/",
            features=features.FeaturesDict({
                "image": features.Image(shape=(SIDE, SIDE, 3)),
                **{f"label_{name}": features.ClassLabel(num_classes=size) for name, size in labels},
            }))

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        try:
            path = pathlib.Path(dl_manager.manual_dir) / FILE
        except AssertionError:  # TFDS raises it where the folder is empty or missing
            path = None
        if path is None or not path.exists():
            path = dl_manager.download(URL)
        return {"train": self._generate_examples(path)}

    def _generate_examples(self, path: pathlib.Path) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields (key, example); raises ValueError if the archive is damaged or holds something else."""
        try:
            for name, number, mesh in _meshes(path):
                for elevation, azimuth in np.ndindex(SIZES[0], SIZES[1]):
                    yield f"{name}_{elevation}_{azimuth}", {
                        # An array would be encoded by TensorFlow, an image is encoded by Pillow.
                        "image": _resized(mesh[..., azimuth, elevation]),
                        "label_elevation": elevation,
                        "label_azimuth": azimuth,
                        "label_object": number,
                    }
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path} is damaged, download it again: {error}") from None


def _meshes(path: pathlib.Path) -> Iterator[tuple[str, int, npt.NDArray[np.uint8]]]:
    """Yields (name, number, images uint8 [128, 128, 3, 24, 4]) of every car of an archive."""
    numbers = {name: number for number, name in enumerate(_listed(path))}
    missing = set(numbers)
    for member, read in _members(path):
        if member.suffix == ".mat" and member.stem in numbers:
            mesh = scipy.io.loadmat(io.BytesIO(read()), variable_names=["im"]).get("im")
            if mesh is None or mesh.shape != _MESH or mesh.dtype != np.uint8:
                raise ValueError(f"{member} in {path} has no images 'im' of uint8 {list(_MESH)}")
            missing.discard(member.stem)
            yield member.stem, numbers[member.stem], mesh
    if missing:
        raise ValueError(f"{path} lacks {min(missing)}.mat and {len(missing) - 1} more that its list.txt names")


def _listed(path: pathlib.Path) -> list[str]:
    """The names of the cars, in the order of the archive's list.txt."""
    for member, read in _members(path):
        if member.name == "list.txt":
            return read().decode().split()
    raise ValueError(f"{path} has no data/cars/list.txt; expected {FILE} from {URL}")


def _members(path: pathlib.Path) -> Iterator[tuple[pathlib.PurePosixPath, Callable[[], bytes]]]:
    """Yields (path in the archive, function that reads it) of every file of the folder 'cars'."""
    # As a stream: the archive also holds other data sets, and looking a file up by name would unpack it many times.
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            inside = pathlib.PurePosixPath(member.name)
            if member.isfile() and inside.parent.name == "cars":
                content = archive.extractfile(member)
                assert content is not None  # it is a regular file
                yield inside, content.read


def _resized(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    """A Pillow image of 64x64 from uint8 [128, 128, 3], filtered as in disentanglement_lib."""
    return Image.fromarray(np.ascontiguousarray(pixels)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
