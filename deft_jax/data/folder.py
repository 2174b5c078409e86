"""A folder of picture files as a set without labels."""

import os
import pathlib
import tarfile
import zipfile
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from deft_jax.data import picture_cache, picture_files, pixels, stored
from deft_jax.data.archive_members import PACKED, UNPACK
from deft_jax.data.picture_files import LISTED, Decoded, DecodeOptions, NewArray
from deft_jax.data.source import Source
from deft_jax.runtime.paths import local_path

FAULTY = ("refuse", "skip")


def folder(
    path: str | os.PathLike,
    size: int = 64,
    channels: int = 3,
    crop: int | None = None,
    storage: str = "auto",
    cache: str | os.PathLike | None = None,
    faulty: str = "refuse",
    likelihood: str = "auto",
    width: int | None = None,
    fit: Literal["stretch", "pad"] = "stretch",
    background: str = "black",
) -> Source:
    """A set of the pictures in a folder and its sub-folders, sorted by name.

    A picture is a file whose ending is registered with Pillow for a format that it decodes itself: .png, .jpg, .tif,
    .gif, .bmp, .webp, .pgm and some forty more. Of a file with several frames (GIF, TIFF) the first is taken. Colours
    of more than 8 bits per channel become 8 bits where Pillow reads them so; grey of 16 bits is refused, since how to
    scale it depends on the camera. Links to files and to folders are followed, and each folder is read once.
    Source.remarks count the files that were left out.

    Args:
      path: of the folder. Files and folders whose names start with a dot are left out.
      size: height of the images in pixels, and their width where `width` does not set it.
      channels: 3 for colour, 1 for grey.
      crop: side in pixels of the square that is cut from the middle of each picture first; None cuts nothing.
      storage: as for deft_jax.data.pixels.gather.
      cache: .npy file for the decoded images, written where it is missing or where the names, sizes or times of the
        files or the options have changed, and memory-mapped; with storage 'host', images then take no memory. None
        decodes into memory every time.
      faulty: what to do about pictures that cannot be decoded, have more than 8 bits per channel in grey or are smaller
        than the crop, and about folders that cannot be listed: 'refuse' lists them in an error, 'skip' leaves them out
        and lists them in Source.remarks. The digest is that of the remaining pictures.
      likelihood: 'bernoulli', 'gaussian', or 'auto', which is 'bernoulli'.
      width: of the images in pixels; None: as `size`.
      fit: 'stretch' resizes every picture to height and width, whatever its aspect; 'pad' keeps the aspect and fills
        the sides with the background.
      background: colour behind transparent parts and at padded sides: a name such as 'white', or '#rrggbb'.

    Returns:
      Source without labels, its one factor the image's number; images float32 [N, size, width, channels] in [0, 1].
      Pictures are rotated upright by their EXIF, put on the background where they are transparent, and resized by
      Lanczos. Source.remarks say so where an option differs from its default.

    Raises:
      ValueError: an option is out of range or unknown, the folder is missing, is a packed file or holds fewer than two
        pictures, pictures are faulty and not to be skipped, or the cache cannot be written.

    Example:
      >>> import tempfile
      >>> from PIL import Image
      >>> with tempfile.TemporaryDirectory() as path:
      ...     for level in (0, 255):
      ...         Image.new("RGB", (20, 16), (level, 0, 0)).save(f"{path}/{level}.png")
      ...     _ = pathlib.Path(path, "notes.txt").write_text("no picture")
      ...     source = folder(path, size=16)
      >>> source.num_images, source.image_shape, source.is_grid, source.ground_truth_names
      (2, (16, 16, 3), False, ())
      >>> source.remarks
      ('1 file left out: 1 with other endings (.txt 1)',)
    """
    options = DecodeOptions(size, channels, crop, None, width, fit, background)
    _check_options(options, faulty)
    stored.check_choices(storage, likelihood)
    folder_path = local_path(path, "data.path")
    cache_path = None if cache is None else local_path(cache, "data.cache")
    _check_folder(folder_path)
    endings, formats = picture_files.formats()
    found = picture_files.search(folder_path, endings)
    if faulty == "refuse":
        _refuse(found.unreadable, len(found.files) + len(found.unreadable), folder_path)
    _check_count(folder_path, len(found.files), [
        *found.remarks(), "files count whose ending is that of a format that Pillow decodes, such as .png, .jpg, .tif, "
        ".gif, .bmp, .webp, .pgm"])  # fmt: skip
    decoded = _decode(folder_path, found.files, options._replace(formats=formats), cache_path, faulty)
    faults = found.unreadable | decoded.faults
    remarks = found.remarks() + _fitting(options)
    if faults:
        remarks.append(f"{len(faults)} faulty left out: {_listed(faults)}")
    if decoded.several_frames:
        files = picture_files.counted(decoded.several_frames, "file")
        remarks.append(f"of {files} with several frames the first is taken")
    _check_count(folder_path, len(decoded.images), remarks)
    return stored.listed_source(decoded.images, likelihood=likelihood, storage=storage, remarks=remarks)


def names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Paths of the pictures below a folder, with '/', in the order in which `folder` numbers them.

    Args:
      path: of the folder.

    Raises:
      ValueError: it is missing, or no folder.
    """
    folder_path = local_path(path, "data.path")
    _check_folder(folder_path)
    return tuple(picture_files.search(folder_path, picture_files.formats()[0]).files)


def decode_files(
    path: pathlib.Path, files: Sequence[str], *, size: int, channels: int, cache: str | os.PathLike | None
) -> np.ndarray:
    """The images of files in a folder; none of them may be faulty.

    Args:
      path: of the folder.
      files: names, in the order of the images.
      size, channels, cache: as for `folder`.

    Returns:
      uint8 [N, size, size, channels], memory-mapped where there is a cache.

    Raises:
      ValueError: an option is out of range, pictures are faulty, or the cache cannot be written.
    """
    options = DecodeOptions(size, channels, None, picture_files.formats()[1])
    _check_options(options, "refuse")
    cache_path = None if cache is None else local_path(cache, "data.cache")
    return _decode(path, files, options, cache_path, "refuse").images


def _fitting(options: DecodeOptions) -> list[str]:
    """How pictures become images, where that is not the default."""
    if (options.width or options.size, options.fit, options.background) == (options.size, "stretch", "black"):
        return []
    height, width, _ = options.shape
    how = "keep their aspect, with padded sides" if options.fit == "pad" else "are stretched"
    return [f"pictures become {height} x {width} (height x width) and {how}; the background is {options.background}"]


def _decode(
    path: pathlib.Path, files: Sequence[str], options: DecodeOptions, cache: pathlib.Path | None, faulty: str
) -> Decoded:
    """The images of the files in a folder, from the cache where there is one."""
    shape = options.shape

    def decode(new_array: NewArray) -> Decoded:
        decoded = picture_files.decode_all(path, files, new_array, options)
        if faulty == "refuse":
            _refuse(decoded.faults, len(files), path)
        return decoded

    if cache is None:
        return decode(lambda count: np.empty((count, *shape), np.uint8))
    try:
        described: dict[str, Any] = {"size": options.size, "channels": options.channels, "crop": options.crop}
        if _fitting(options):
            described |= {"width": options.width, "fit": options.fit, "background": options.background}
        record = picture_cache.record_of(path, files, **described, faulty=faulty)
        return picture_cache.load_or_decode(cache, record, shape, decode)
    except OSError as error:
        raise ValueError(f"cannot keep decoded images in {str(cache)!r}: {error}") from error


def _check_folder(path: pathlib.Path) -> None:
    """Raises ValueError with advice unless `path` is a folder."""
    if path.is_dir():
        return
    name = repr(str(path))
    if not path.exists():
        raise ValueError(f"the folder {name} does not exist; give the folder of your pictures by data.path")
    if path.suffix.lower() in (".npz", ".h5", ".hdf5"):
        raise ValueError(f"{name} is a file of arrays, not a folder of pictures; read it by data.name=archive")
    if path.suffix.lower() in PACKED or zipfile.is_zipfile(path) or tarfile.is_tarfile(path):
        raise ValueError(f"{name} is a packed file, not a folder of pictures; {UNPACK}")
    raise ValueError(f"{name} is a file, not a folder of pictures; give the folder by data.path")


def _check_options(options: DecodeOptions, faulty: str) -> None:
    """Raises ValueError where an option is out of range or unknown."""
    size, channels, crop = options.size, options.channels, options.crop
    if faulty not in FAULTY:
        raise ValueError(f"data.faulty must be one of {', '.join(FAULTY)}, got {faulty!r}")
    if channels not in picture_files.MODES:
        raise ValueError(f"channels must be 1 or 3, got {channels}")
    if size < 1 or (crop is not None and crop < 1):
        raise ValueError(f"size and crop must be at least 1, got {size} and {crop}")
    if options.width is not None and options.width < 1:
        raise ValueError(f"data.width must be at least 1, got {options.width}")
    pixels.colour(options.background)


def _check_count(path: pathlib.Path, count: int, remarks: Sequence[str]) -> None:
    """Raises ValueError where there are fewer than two images."""
    if count < 2:
        raise ValueError("; ".join([f"the folder {str(path)!r} holds {count} images, at least 2 are needed", *remarks]))


def _listed(faults: dict[str, str]) -> str:
    """The first faults, and how many more there are."""
    first = [f"{name!r}: {reason[:120]}" for name, reason in list(faults.items())[:LISTED]]
    return "; ".join(first + ([f"and {len(faults) - LISTED} more"] if len(faults) > LISTED else []))


def _refuse(faults: dict[str, str], count: int, path: pathlib.Path) -> None:
    """Raises ValueError that lists faulty files, if any."""
    if faults:
        what = "the image" if len(faults) == 1 else f"{len(faults)} of {count} images:"
        raise ValueError(f"cannot read {what} {_listed(faults)} (in the folder {str(path)!r}); repair or remove "
                         f"what is faulty, or leave it out by data.faulty=skip")
