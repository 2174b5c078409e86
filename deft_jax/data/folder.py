"""A folder of picture files as a set without labels."""

import os
import pathlib
import tarfile
import zipfile
from collections.abc import Sequence
from typing import Literal

import numpy as np

from deft_jax.data import picture_cache, picture_files, pixels, stored
from deft_jax.data.archive_members import PACKED, UNPACK
from deft_jax.data.picture_files import LISTED, Decoded, DecodeOptions, NewArray
from deft_jax.data.source import Source
from deft_jax.runtime.paths import local_path

FAULTY = ("refuse", "skip")
MOST_PIXELS = 1_024  # on a side

Fit = Literal["stretch", "pad", "crop"]


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
    fit: Fit = "stretch",
    background: str = "black",
) -> Source:
    """A set of the pictures in a folder and its sub-folders, sorted by name.

    A picture is a file whose ending is registered with Pillow for a format that it decodes itself: .png, .jpg, .tif,
    .gif, .bmp, .webp, .pgm and some forty more. Of a file with several frames (GIF, TIFF) the first is taken. Colours
    of more than 8 bits per channel become 8 bits where Pillow reads them so; grey of 16 bits is refused, since how to
    scale it depends on the camera. Links to files and to folders are followed, and each folder is read once.
    Source.remarks count the files that were left out, and the pictures that were resized, stretched, padded or put on a
    background.

    Args:
      path: of the folder. Files and folders whose names start with a dot are left out.
      size: height of the images in pixels, and their width unless `width` is given; 1 to 1,024.
      channels: 3 for colour, 1 for grey, 4 for colour with opacity, which is then learned as a fourth channel.
      crop: side in pixels of the square that is cut from the middle of each picture first; None cuts nothing.
      storage: as for deft_jax.data.pixels.gather.
      cache: .npy file for the decoded images, written where it is missing or where the names, sizes or times of the
        files or the options have changed, and memory-mapped; with storage 'host', images then take no memory. None
        decodes into memory every time.
      faulty: what to do about pictures that cannot be decoded, have more than 8 bits per channel in grey or are smaller
        than the crop, and about folders that cannot be listed: 'refuse' lists them in an error, 'skip' leaves them out
        and lists them in Source.remarks. The digest is that of the remaining pictures.
      likelihood: 'bernoulli', 'gaussian', or 'auto', which is 'bernoulli'.
      width: of the images in pixels, 1 to 1,024. None: `size`.
      fit: what is done about a picture of another aspect ratio than the images: 'stretch' changes it, 'pad' adds
        background on two sides, 'crop' cuts off two sides.
      background: colour below transparent parts and in padding, a name or '#rrggbb'. Images of 4 channels keep their
        opacity, and their padding is transparent.

    Returns:
      Source without labels, its one factor the image's number; images float32 [N, size, width, channels] in [0, 1].
      Pictures are rotated upright by their EXIF, put on the background where they are transparent, and resized by
      Lanczos.

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
      >>> for remark in source.remarks:
      ...     print(remark)
      1 file left out: 1 with other endings (.txt 1)
      2 of 2 pictures resized to 16 x 16, 2 of another aspect ratio stretched
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
    remarks = found.remarks()
    if faults:
        remarks.append(f"{len(faults)} faulty left out: {_listed(faults)}")
    remarks += _changes(decoded, options)
    _check_count(folder_path, len(decoded.images), remarks)
    return stored.listed_source(decoded.images, likelihood=likelihood, storage=storage, remarks=remarks)


def _changes(decoded: Decoded, options: DecodeOptions) -> list[str]:
    """Sentences about what pictures went through on their way to images."""
    counts, total, remarks = decoded.counts, len(decoded.images), []
    if counts.several_frames:
        files = picture_files.counted(counts.several_frames, "file")
        remarks.append(f"of {files} with several frames the first is taken")
    if counts.transparent:
        remarks.append(f"{counts.transparent} of {total} pictures have transparent parts, put on {options.background}")
    if counts.resized:
        height, width, channels = options.shape
        padding = "transparent pixels" if channels == 4 else options.background
        done = {"stretch": "stretched", "pad": f"padded with {padding}", "crop": "cut to the middle"}[options.fit]
        fitted = f", {counts.fitted} of another aspect ratio {done}" if counts.fitted else ""
        remarks.append(f"{counts.resized} of {total} pictures resized to {height} x {width}{fitted}")
    return remarks


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
    options = DecodeOptions(size, channels, formats=picture_files.formats()[1])
    _check_options(options, "refuse")
    cache_path = None if cache is None else local_path(cache, "data.cache")
    return _decode(path, files, options, cache_path, "refuse").images


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
        described = {name: value for name, value in options._asdict().items() if name != "formats"}
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
    if faulty not in FAULTY:
        raise ValueError(f"data.faulty must be one of {', '.join(FAULTY)}, got {faulty!r}")
    if options.fit not in picture_files.FITS:
        raise ValueError(f"data.fit must be one of {', '.join(picture_files.FITS)}, got {options.fit!r}")
    if options.channels not in picture_files.MODES:
        known = ", ".join(map(str, picture_files.MODES))
        raise ValueError(f"data.channels must be one of {known}, got {options.channels}")
    for name, side in (("size", options.size), ("width", options.width)):
        if side is not None and not 1 <= side <= MOST_PIXELS:
            raise ValueError(f"data.{name} must be from 1 to {MOST_PIXELS:,} pixels, got {side}")
    if options.crop is not None and options.crop < 1:
        raise ValueError(f"data.crop must be at least 1 pixel, got {options.crop}")
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
