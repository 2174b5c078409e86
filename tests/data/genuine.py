"""Writers of the published files of dSprites, Shapes3D, SmallNORB and Cars3D: their formats, with few images in them.

Each writes into a folder, in a shuffled order where the format has an order, and returns (images, labels): uint8
[N, H, W, C] and integers [N, L] of the combinations of the labels, last label fastest.
"""

import gzip
import io
import tarfile

import numpy as np
import scipy.io

DSPRITES = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.hdf5"
SHAPES3D = "3dshapes.h5"
CARS3D = "nips2015-analogy-data.tar.gz"
SMALLNORB = {
    "training": ("smallnorb-5x46789x9x18x6x2x96x96-training", (4, 6, 7, 8, 9)),
    "testing": ("smallnorb-5x01235x9x18x6x2x96x96-testing", (0, 1, 2, 3, 5)),
}


def combinations(sizes):
    """int64 [prod(sizes), len(sizes)], last fastest."""
    return np.indices(sizes).reshape(len(sizes), -1).T


def _smooth(rng, shape):
    """Random images with coarse structure, as a resized image depends on its neighbourhood: uint8 [N, H, W, C]."""
    num_images, height, width, channels = shape
    blocks = rng.integers(0, 256, (num_images, height // 8, width // 8, channels), np.uint8)
    return blocks.repeat(8, 1).repeat(8, 2)


def write_dsprites(folder, sizes, rng):
    """HDF5: imgs of 0 and 1, latents/classes and latents/values with the colour before the five factors."""
    import h5py

    labels = combinations(sizes)
    images = (_smooth(rng, (len(labels), 64, 64, 1)) > 127).astype(np.uint8)
    order = rng.permutation(len(labels))
    classes = np.pad(labels, ((0, 0), (1, 0)))
    with h5py.File(folder / DSPRITES, "w") as file:
        file.create_dataset("imgs", data=images[order, :, :, 0], compression="gzip")
        file["latents/classes"] = classes[order]
        file["latents/values"] = classes[order] / 2 + 1.0
    return images, labels


def write_shapes3d(folder, sizes, rng):
    """HDF5: images, and labels which are values: hues from 0 to 0.9, scale, shape, orientation in degrees."""
    import h5py

    values = [np.arange(10) / 10] * 3 + [np.linspace(0.75, 1.25, 8), np.arange(4.0), np.linspace(-30, 30, 15)]
    labels = combinations(sizes)
    images = _smooth(rng, (len(labels), 64, 64, 3))
    order = rng.permutation(len(labels))
    with h5py.File(folder / SHAPES3D, "w") as file:
        file["images"] = images[order]
        file["labels"] = np.stack([value[label] for value, label in zip(values, labels.T, strict=True)], -1)[order]
    return images, labels


def _write_matrix(path, array):
    """The matrix format of SmallNORB, gzipped: magic number, number of axes, at least three lengths, the data."""
    magic = {"uint8": 0x1E3D4C55, "int32": 0x1E3D4C54}[array.dtype.name]
    lengths = (*array.shape, 1, 1)[: max(3, array.ndim)]
    header = np.array([magic, array.ndim, *lengths], "<i4").tobytes()
    path.write_bytes(gzip.compress(header + array.astype(array.dtype.newbyteorder("<")).tobytes(), 1))


def write_smallnorb(folder, sizes, rng):
    """Six matrices. `sizes` are category, elevation, azimuth, lighting; the label after them is the instance, 0 to 9.

    Returns the first of the two stereo images, 96x96.
    """
    labels = combinations((*sizes, 10))
    images = _smooth(rng, (len(labels), 96, 96, 1))
    for name, instances in SMALLNORB.values():
        of_split = rng.permutation(np.flatnonzero(np.isin(labels[:, 4], instances)))
        pairs = np.stack([images[of_split, :, :, 0], 255 - images[of_split, :, :, 0]], 1)
        category, elevation, azimuth, lighting, instance = labels[of_split].T.astype(np.int32)
        _write_matrix(folder / f"{name}-dat.mat.gz", pairs)
        _write_matrix(folder / f"{name}-cat.mat.gz", category)
        # Azimuths go in steps of two.
        _write_matrix(folder / f"{name}-info.mat.gz", np.stack([instance, elevation, 2 * azimuth, lighting], -1))
    return images, labels


def write_cars3d(folder, cars, rng, *, listed=True, without=()):
    """A gzipped tar of MATLAB files; the last car in the order of names is the first in list.txt.

    Args:
      listed: whether there is a list.txt.
      without: numbers of cars left out although the list names them.

    Returns (images 128x128, labels) of elevation, azimuth and object.
    """
    labels = combinations((4, 24, cars))
    images = _smooth(rng, (4, 24 * 128, cars * 128, 3)).reshape(4, 24, 128, cars, 128, 3).transpose(0, 1, 3, 2, 4, 5)
    names = [f"car_{cars - number:03d}_mesh" for number in range(cars)]
    files = {"data/sprites/readme.txt": b"another data set of the archive"}
    for number in sorted(set(range(cars)) - set(without), reverse=True):
        mesh = io.BytesIO()
        mask = np.zeros((128, 128, 24, 4), np.uint8)
        scipy.io.savemat(mesh, {"im": images[:, :, number].transpose(2, 3, 4, 1, 0), "mask": mask},
                         do_compression=True)
        files[f"data/cars/{names[number]}.mat"] = mesh.getvalue()
    if listed:
        files["data/cars/list.txt"] = "\n".join(names).encode() + b"\n"
    with tarfile.open(folder / CARS3D, "w:gz", compresslevel=1) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return images.reshape(-1, 128, 128, 3), labels
