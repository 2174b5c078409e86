"""A folder of image files as a set without labels: faces, chairs, anything that only exists as pictures."""

import contextlib
import hashlib
import json
import os
import pathlib
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from deft_jax.data import stored

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_MODES = {1: "L", 3: "RGB"}


def _files(path):
    """Image files below a folder, as paths relative to it with '/', sorted. Hidden ones are left out."""
    found = []
    for below, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        kept = [name for name in names if not name.startswith(".") and name.lower().endswith(SUFFIXES)]
        found += [pathlib.Path(below, name).relative_to(path).as_posix() for name in kept]
    return sorted(found)


def _decode(path, size, channels, crop):
    """One image file: uint8 [size, size, channels]."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            if file.mode[0] in "IF":
                raise ValueError(f"has more than 8 bits a channel (mode {file.mode})")
            picture = ImageOps.exif_transpose(file)
            if picture.has_transparency_data:
                picture = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture)
            picture = picture.convert(_MODES[channels])
        if crop is not None:
            left, top = (picture.width - crop) // 2, (picture.height - crop) // 2
            if min(left, top) < 0:
                raise ValueError(f"is {picture.width}x{picture.height}, smaller than the crop of {crop}x{crop}")
            picture = picture.crop((left, top, left + crop, top + crop))
        picture = picture.resize((size, size), Image.Resampling.LANCZOS)
    # A damaged image is reported in as many ways as there are formats; SyntaxError is that of a broken PNG.
    except (OSError, EOFError, SyntaxError, TypeError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot read the image {str(path)!r}: {' '.join(str(error).split())}") from error
    return np.asarray(picture).reshape(size, size, channels)


def _fill(images, paths, size, channels, crop):
    """Decodes the files into `images`, several at a time; raises ValueError at the first that fails."""

    def place(number):
        images[number] = _decode(paths[number], size, channels, crop)

    # Pillow lets go of the interpreter lock while it decodes.
    with ThreadPoolExecutor() as pool:
        done = [pool.submit(place, number) for number in range(len(paths))]
        try:
            for future in done:
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _record(path, files, **chosen):
    """What the decoded images depend on: the options, and names, sizes and times of the files."""
    digest = hashlib.sha256()
    for name in files:
        status = os.stat(os.path.join(path, name))
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode(errors="surrogateescape"))
    return {"images": len(files), "files": digest.hexdigest()} | chosen


def _cached(cache, record, shape, fill):
    """Images uint8 memory-mapped from the file `cache`, made by fill(array) unless those there have this record.

    The record lies beside it, with the time of the array it speaks of. It is removed before that array is replaced and
    written after, so no moment of interruption leaves it beside an array of other images.
    """
    cache = pathlib.Path(cache)
    beside = cache.with_name(cache.name + ".json")
    with contextlib.suppress(OSError, ValueError):
        if json.loads(beside.read_text()) == record | {"written": cache.stat().st_mtime_ns}:
            images = np.load(cache, mmap_mode="r", allow_pickle=False)
            if images.shape == shape and images.dtype == np.uint8:
                return images

    with tempfile.TemporaryDirectory(prefix=f".{cache.name}.", dir=cache.parent) as scratch:
        made, noted = pathlib.Path(scratch, "images.npy"), pathlib.Path(scratch, "record.json")
        images = np.lib.format.open_memmap(made, "w+", np.uint8, shape)
        fill(images)
        images.flush()
        del images
        noted.write_text(json.dumps(record | {"written": made.stat().st_mtime_ns}))
        beside.unlink(missing_ok=True)
        os.replace(made, cache)
        os.replace(noted, beside)
    return np.load(cache, mmap_mode="r", allow_pickle=False)


def folder(path: str | os.PathLike, size=64, channels=3, crop=None, storage="auto", cache=None):
    """A set of the png, jpg, jpeg, webp and bmp files in a folder and the folders in it, sorted by name.

    Args:
      path: of the folder. Files and folders whose names start with a dot are left out.
      size: side of the images in pixels; a picture that is not square is stretched.
      channels: 3 for colour, 1 for grey.
      crop: side in pixels of the square that is cut from the middle of each picture first; None cuts nothing.
      storage: as for deft_jax.data.stored.gather.
      cache: .npy file for the decoded images, made where it is missing or where the names, sizes or times of the files
        or the options have changed, and memory-mapped; with storage 'host', images then take no memory. None decodes
        into memory every time.

    Returns:
      Source without labels, its one factor the image's number; images float32 [N, size, size, channels] in [0, 1].
      Pictures are turned upright as their EXIF says, put on black where they are transparent, and resized by Lanczos.

    Raises:
      ValueError: an option is out of range or unknown, the folder is missing or holds fewer than two images, an image
        cannot be decoded, has more than 8 bits a channel or is smaller than the crop, or the cache cannot be written.
    """
    stored.check_choices(storage)
    if channels not in _MODES:
        raise ValueError(f"channels must be 1 or 3, got {channels}")
    if size < 1 or (crop is not None and crop < 1):
        raise ValueError(f"size and crop must be at least 1, got {size} and {crop}")
    path = os.fspath(path)
    files = _files(path)
    if len(files) < 2:
        state = f"holds {len(files)} images, at least 2 are needed" if os.path.isdir(path) else "does not exist"
        raise ValueError(f"the folder {path!r} {state}; files count that end in {', '.join(SUFFIXES)}")

    shape = (len(files), size, size, channels)
    paths = [os.path.join(path, name) for name in files]
    if cache is None:
        images = np.empty(shape, np.uint8)
        _fill(images, paths, size, channels, crop)
    else:
        try:
            record = _record(path, files, size=size, channels=channels, crop=crop)
            images = _cached(cache, record, shape, lambda array: _fill(array, paths, size, channels, crop))
        except OSError as error:
            raise ValueError(f"cannot keep decoded images in {os.fspath(cache)!r}: {error}") from error
    return stored.listed_source(images, storage=storage)
