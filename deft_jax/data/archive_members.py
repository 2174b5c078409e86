"""Arrays in .npz and HDF5 files, read in parts and never unpickled."""

import contextlib
import dataclasses
import math
import os
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

# Names of files that hold packed pictures, and what to do with them.
PACKED = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")
UNPACK = "unpack it, and give the folder: data.name=folder, data.path=FOLDER"


@dataclasses.dataclass(frozen=True)
class Member:
    """One array of a file.

    Attributes:
      name: of the member.
      shape: of the array.
      dtype: of the array.
      read: slices of rows, in order and without gaps -> iterator of the rows as numpy arrays.
      row_multiple: number of rows that are best read together: the height of a chunk, or all where the array is stored
        by columns.
      offset: position in the file at which the array is stored as plain bytes; None if it is compressed or stored
        otherwise.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[Sequence[slice]], Iterator[np.ndarray]]
    row_multiple: int = 1
    offset: int | None = None

    def all(self) -> np.ndarray:
        """The whole array."""
        return next(self.read([slice(0, self.shape[0])]))


@contextlib.contextmanager
def opened(path: str) -> Iterator[tuple[list[str], Callable[[str], Member]]]:
    """Opens an .npz, .h5 or .hdf5 file.

    Yields:
      (names of its arrays, function from a name to its Member). The function raises ValueError for an array that holds
      pickled objects.

    Raises:
      ValueError: the file is none of these, holds no arrays, or is in HDF5 and h5py is missing.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".npz":
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            if not names:
                raise ValueError(f"holds no arrays, no member ends in .npy; if it holds pictures, {UNPACK}")
            yield names, lambda name: _npz_member(archive, name)
    elif suffix in (".h5", ".hdf5"):
        try:
            import h5py
        except ImportError as error:
            raise ValueError("HDF5 files need h5py: pip install h5py, or this package's extra 'data'") from error
        with h5py.File(path, "r") as file:
            names = []
            file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
            yield names, lambda name: _hdf5_member(file, name)
    else:
        advice = f"; if it holds pictures, {UNPACK}" if suffix in PACKED else ""
        if os.path.isdir(path):
            advice = "; read a folder of pictures by data.name=folder"
        raise ValueError(f"is no archive by its name: {suffix!r} is none of .npz, .h5, .hdf5{advice}")


def _npz_member(archive: zipfile.ZipFile, name: str) -> Member:
    """Reads the header of one member of an .npz."""
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name!r} is compressed in a way that numpy does not write")
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{name!r} has the .npy version {version}, which is for structured arrays")
        read_header = getattr(np.lib.format, f"read_array_header_{version[0]}_{version[1]}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that Python 2 wrote the file
            shape, by_columns, dtype = read_header(file)
        header = file.tell()
    if dtype.hasobject:
        raise ValueError(f"{name!r} holds pickled objects, which are never loaded")
    expected = math.prod(shape) * dtype.itemsize
    if info.file_size - header != expected:
        raise ValueError(f"{name!r} should hold {expected} bytes by its header {list(shape)} {dtype}, "
                         f"and holds {info.file_size - header}")
    by_columns = by_columns and len(shape) > 1
    row_bytes = expected // max(1, shape[0]) if shape else expected

    def read(parts: Sequence[slice]) -> Iterator[np.ndarray]:
        with archive.open(info) as file:
            file.read(header)
            for part in parts:
                rows = part.stop - part.start
                data = file.read(rows * row_bytes)
                if len(data) != rows * row_bytes:
                    raise ValueError(f"{name!r} ends in the middle")
                yield np.frombuffer(data, dtype).reshape((rows, *shape[1:]), order="F" if by_columns else "C")
            file.read(1)  # the checksum is compared at the very end

    offset = None
    if info.compress_type == zipfile.ZIP_STORED and not by_columns:
        assert archive.fp is not None
        archive.fp.seek(info.header_offset)
        # The lengths of name and extra field in front of the data may differ from those in the directory.
        offset = info.header_offset + 30 + sum(struct.unpack("<26x2H", archive.fp.read(30))) + header
    return Member(name, shape, dtype, read, shape[0] if by_columns else 1, offset)


def _hdf5_member(file: Any, name: str) -> Member:
    """One dataset of an h5py.File."""
    import h5py

    data = file[name]
    dtype, is_contiguous = data.dtype, data.chunks is None and data.external is None and not data.is_virtual
    if h5py.check_string_dtype(dtype):
        texts = np.asarray(data.asstr()[()], dtype=str)
        return Member(name, texts.shape, texts.dtype, lambda parts: (texts[part] for part in parts))
    if dtype.hasobject:
        raise ValueError(f"{name!r} holds objects, which are never loaded")
    offset = data.id.get_offset() if is_contiguous else None
    # A chunk that straddles two parts would be decompressed twice.
    row_multiple = data.chunks[0] if data.chunks else 1
    return Member(name, data.shape or (), dtype, lambda parts: (data[part] for part in parts), row_multiple, offset)
