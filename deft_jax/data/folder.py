"""A folder of image files as a set without labels: faces, chairs, anything that only exists as pictures."""

import collections
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from deft_jax.data import stored
from deft_jax.data.source import Source
from deft_jax.runtime.paths import local_path

FAULTY = ("refuse", "skip")

# Names of files that hold packed pictures, and what to do with them.
PACKED = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")
UNPACK = "unpack it, and give the folder: data.name=folder, data.path=FOLDER"

_MODES = {1: "L", 3: "RGB"}
_LISTED = 10  # files that a message names

# Formats that Pillow recognises and does not decode (a film), or hands to another program.
_FOREIGN = ("MPEG", "EPS")


def _formats() -> tuple[frozenset[str], tuple[str, ...]]:
    """Endings of the files that Pillow decodes, in lower case, and the names of their formats."""
    from PIL import Image, ImageFile

    Image.init()
    foreign = {*_FOREIGN}
    for name, (factory, _) in Image.OPEN.items():
        if isinstance(factory, type) and issubclass(factory, ImageFile.StubImageFile):
            foreign.add(name)  # needs a decoder that is not part of Pillow
    names = tuple(name for name in Image.OPEN if name not in foreign)
    return frozenset(end.lower() for end, name in Image.registered_extensions().items() if name in names), names


@dataclasses.dataclass
class _Found:
    """What a folder holds.

    Attributes:
      files: image files, as paths relative to the folder with '/', sorted.
      others: how many files have which other ending.
      hidden: how many files and folders have names that start with a dot.
      repeated: links to folders that are read under another name.
      unreadable: folder -> why it cannot be listed.
    """

    files: list[str] = dataclasses.field(default_factory=list)
    others: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    hidden: int = 0
    repeated: int = 0
    unreadable: dict[str, str] = dataclasses.field(default_factory=dict)

    def remarks(self) -> list[str]:
        """A sentence about what was left out; none where nothing was."""
        parts, count = [], self.others.total() + self.hidden
        if self.others:
            kinds = [f"{ending or 'none'} {number}" for ending, number in self.others.most_common(_LISTED)]
            more = [f"{len(self.others) - _LISTED} more endings"] if len(self.others) > _LISTED else []
            parts.append(f"{self.others.total()} with other endings ({', '.join(kinds + more)})")
        if self.hidden:
            parts.append(f"{self.hidden} hidden")
        remarks = [f"{_counted(count, 'file')} left out: {', '.join(parts)}"] if parts else []
        if self.repeated:
            remarks.append(f"{_counted(self.repeated, 'linked folder')} left out, read under another name")
        return remarks


def _counted(number, noun):
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _search(path: pathlib.Path, endings: frozenset[str]) -> _Found:
    """The image files below a folder. Links are followed; each folder is read once, so that links may form a circle."""
    found, seen = _Found(), set()

    def note(error):
        below = pathlib.Path(error.filename).relative_to(path).as_posix()
        found.unreadable[below] = error.strerror or str(error)

    tops = [path]
    while tops:  # links last, so that a folder is read under its own name where it has one
        for below, folders, names in os.walk(tops.pop(0), onerror=note):
            status = os.stat(below)
            if (status.st_dev, status.st_ino) in seen:
                found.repeated += 1
                folders[:] = []
                continue
            seen.add((status.st_dev, status.st_ino))
            found.hidden += sum(name.startswith(".") for name in (*folders, *names))
            shown = sorted(name for name in folders if not name.startswith("."))
            tops += [pathlib.Path(below, name) for name in shown if os.path.islink(os.path.join(below, name))]
            folders[:] = [name for name in shown if not os.path.islink(os.path.join(below, name))]
            for name in names:
                if name.startswith("."):
                    continue
                ending = os.path.splitext(name)[1].lower()
                if ending in endings:
                    found.files.append(pathlib.Path(below, name).relative_to(path).as_posix())
                else:
                    found.others[ending] += 1
    found.files.sort()
    return found


def _decode(path, size, channels, crop, formats=None) -> tuple[np.ndarray, bool]:
    """One image file: uint8 [size, size, channels] of its first frame, and whether it has more frames."""
    from PIL import Image, ImageOps

    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError("is not a regular file")
        with Image.open(path, formats=formats) as file:
            if file.mode[0] in "IF":
                raise ValueError(f"has more than 8 bits a channel (mode {file.mode}); convert it to 8 bits")
            several = bool(getattr(file, "is_animated", False))
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
    except MemoryError:
        raise
    except Exception as error:  # each format reports damage in its own way
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise ValueError(reason.removesuffix(f" {str(path)!r}")) from error
    return np.asarray(picture).reshape(size, size, channels), several


def _decode_all(root, files, new_array, options) -> tuple[np.ndarray, dict[str, str], int]:
    """Decodes files, several at a time.

    Args:
      root: the folder. files: paths relative to it.
      new_array: number of images -> the array to write them to.
      options: further arguments of `_decode`.

    Returns:
      Images of the files that can be decoded, in order; why the others cannot, by name; how many have several frames.
    """
    images = new_array(len(files))

    def place(number):
        try:
            images[number], several = _decode(os.path.join(root, files[number]), *options)
        except ValueError as error:
            return str(error), False
        return None, several

    # Pillow lets go of the interpreter lock while it decodes.
    with ThreadPoolExecutor() as pool:
        done = [pool.submit(place, number) for number in range(len(files))]
        try:
            results = [future.result() for future in done]
        finally:
            pool.shutdown(cancel_futures=True)
    faults = {name: fault for name, (fault, _) in zip(files, results, strict=True) if fault is not None}
    if faults:
        kept = np.array([number for number, (fault, _) in enumerate(results) if fault is None], int)
        whole, images = images, new_array(len(kept))
        for part in stored.chunks(len(kept), max(1, whole[:1].nbytes)):
            images[part] = whole[kept[part]]
    return images, faults, sum(several for _, several in results)


def _listed(faults: dict[str, str]) -> str:
    """The first faults, and how many more there are."""
    first = [f"{name!r}: {reason[:120]}" for name, reason in list(faults.items())[:_LISTED]]
    return "; ".join(first + ([f"and {len(faults) - _LISTED} more"] if len(faults) > _LISTED else []))


def _refuse(faults: dict[str, str], count: int, path: str) -> None:
    """Raises ValueError that lists faulty files, if there are any."""
    if faults:
        what = "the image" if len(faults) == 1 else f"{len(faults)} of {count} images:"
        raise ValueError(f"cannot read {what} {_listed(faults)} (in the folder {path!r}); repair or remove what is "
                         f"faulty, or leave it out by data.faulty=skip")


def _record(path, files, **chosen):
    """What the decoded images depend on: the options, and names, sizes and times of the files."""
    digest = hashlib.sha256()
    for name in files:
        size, time = "missing", ""
        with contextlib.suppress(OSError):
            status = os.stat(os.path.join(path, name))
            size, time = status.st_size, status.st_mtime_ns
        digest.update(f"{name}\0{size}\0{time}\0".encode(errors="surrogateescape"))
    return {"images": len(files), "files": digest.hexdigest()} | chosen


def _cached(cache: pathlib.Path, record: dict, shape: tuple[int, int, int], decode: Callable):
    """What decode(new_array) returns, its images memory-mapped from the file `cache`; decoded unless that is there.

    A record lies beside the images, with the time of the array it speaks of. It is removed before that array is
    replaced and written after, so no moment of interruption leaves it beside an array of other images.

    Args:
      cache: .npy file.
      record: what the images depend on.
      shape: of one image.
      decode: `_decode_all` of one argument.
    """
    beside = cache.with_name(cache.name + ".json")
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        kept = json.loads(beside.read_text())
        faults, frames = dict(kept["faults"]), int(kept["several_frames"])
        if kept == record | {"faults": faults, "several_frames": frames, "written": cache.stat().st_mtime_ns}:
            images = np.load(cache, mmap_mode="r", allow_pickle=False)
            if images.shape == (record["images"] - len(faults), *shape) and images.dtype == np.uint8:
                return images, faults, frames

    with tempfile.TemporaryDirectory(prefix=f".{cache.name}.", dir=cache.parent) as scratch:
        written, noted = [], pathlib.Path(scratch, "record.json")

        def new_array(count):
            if count == 0:
                return np.empty((0, *shape), np.uint8)
            written.append(pathlib.Path(scratch, f"images_{len(written)}.npy"))
            return np.lib.format.open_memmap(written[-1], "w+", np.uint8, (count, *shape))

        images, faults, frames = decode(new_array)
        if len(images) == 0:
            return images, faults, frames
        images.flush()
        del images
        noted.write_text(json.dumps(record | {"faults": faults, "several_frames": frames,
                                              "written": written[-1].stat().st_mtime_ns}))
        beside.unlink(missing_ok=True)
        os.replace(written[-1], cache)
        os.replace(noted, beside)
    return np.load(cache, mmap_mode="r", allow_pickle=False), faults, frames


def _check_folder(path: pathlib.Path) -> None:
    """Raises ValueError that says what to do unless `path` is a folder."""
    if path.is_dir():
        return
    shown = repr(str(path))
    if not path.exists():
        raise ValueError(f"the folder {shown} does not exist; give the folder of your pictures by data.path")
    if path.suffix.lower() in (".npz", ".h5", ".hdf5"):
        raise ValueError(f"{shown} is a file of arrays, not a folder of pictures; read it by data.name=archive")
    if path.suffix.lower() in PACKED or zipfile.is_zipfile(path) or tarfile.is_tarfile(path):
        raise ValueError(f"{shown} is a packed file, not a folder of pictures; {UNPACK}")
    raise ValueError(f"{shown} is a file, not a folder of pictures; give the folder by data.path")


def folder(
    path: str | os.PathLike,
    size: int = 64,
    channels: int = 3,
    crop: int | None = None,
    storage: str = "auto",
    cache: str | os.PathLike | None = None,
    faulty: str = "refuse",
) -> Source:
    """A set of the pictures in a folder and the folders in it, sorted by name.

    A picture is a file whose ending is registered with Pillow for a format that it decodes itself: .png, .jpg, .tif,
    .gif, .bmp, .webp, .pgm and some forty more. Of a file with several frames (GIF, TIFF) the first counts. Colours of
    more than 8 bits a channel become 8 bits where Pillow reads them so; grey of 16 bits is refused, since how to scale
    it depends on the camera. Links to files and to folders are followed, and each folder is read once. What was left
    out is counted in Source.remarks.

    Args:
      path: of the folder. Files and folders whose names start with a dot are left out.
      size: side of the images in pixels; a picture that is not square is stretched.
      channels: 3 for colour, 1 for grey.
      crop: side in pixels of the square that is cut from the middle of each picture first; None cuts nothing.
      storage: as for deft_jax.data.stored.gather.
      cache: .npy file for the decoded images, made where it is missing or where the names, sizes or times of the files
        or the options have changed, and memory-mapped; with storage 'host', images then take no memory. None decodes
        into memory every time.
      faulty: what to do about pictures that cannot be decoded, have more than 8 bits a channel in grey or are smaller
        than the crop, and about folders that cannot be listed: 'refuse' lists them in an error, 'skip' leaves them out
        and lists them in Source.remarks. The digest is that of the pictures that are left.

    Returns:
      Source without labels, its one factor the image's number; images float32 [N, size, size, channels] in [0, 1].
      Pictures are turned upright as their EXIF says, put on black where they are transparent, and resized by Lanczos.

    Raises:
      ValueError: an option is out of range or unknown, the folder is missing, is a packed file or holds fewer than two
        pictures, pictures are faulty and not to be skipped, or the cache cannot be written.
    """
    stored.check_choices(storage)
    if faulty not in FAULTY:
        raise ValueError(f"data.faulty must be one of {', '.join(FAULTY)}, got {faulty!r}")
    if channels not in _MODES:
        raise ValueError(f"channels must be 1 or 3, got {channels}")
    if size < 1 or (crop is not None and crop < 1):
        raise ValueError(f"size and crop must be at least 1, got {size} and {crop}")
    path = local_path(path, "data.path")
    cache = None if cache is None else local_path(cache, "data.cache")
    _check_folder(path)
    endings, formats = _formats()
    found = _search(path, endings)
    files, shown = found.files, repr(str(path))
    if faulty == "refuse":
        _refuse(found.unreadable, len(files) + len(found.unreadable), str(path))
    if len(files) < 2:
        raise ValueError("; ".join([f"the folder {shown} holds {len(files)} images, at least 2 are needed",
                                    *found.remarks(), "files count whose ending is that of a format that Pillow "
                                    "decodes, such as .png, .jpg, .tif, .gif, .bmp, .webp, .pgm"]))  # fmt: skip

    shape = (size, size, channels)

    def decode(new_array):
        result = _decode_all(path, files, new_array, (size, channels, crop, formats))
        if faulty == "refuse":
            _refuse(result[1], len(files), str(path))
        return result

    if cache is None:
        images, faults, frames = decode(lambda count: np.empty((count, *shape), np.uint8))
    else:
        try:
            record = _record(path, files, size=size, channels=channels, crop=crop, faulty=faulty)
            images, faults, frames = _cached(cache, record, shape, decode)
        except OSError as error:
            raise ValueError(f"cannot keep decoded images in {str(cache)!r}: {error}") from error
    faults = found.unreadable | faults
    remarks = found.remarks()
    if faults:
        remarks.append(f"{len(faults)} faulty left out: {_listed(faults)}")
    if frames:
        remarks.append(f"of {_counted(frames, 'file')} with several frames the first is taken")
    if len(images) < 2:
        raise ValueError("; ".join([f"the folder {shown} holds {len(images)} images, at least 2 are needed", *remarks]))
    return stored.listed_source(images, storage=storage, remarks=remarks)
