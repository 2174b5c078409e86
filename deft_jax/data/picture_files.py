"""Picture files: search in a folder, and decoding by Pillow."""

import collections
import dataclasses
import os
import pathlib
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from deft_jax.data import pixels

MODES = {1: "L", 3: "RGB"}  # Pillow's, by the number of channels
LISTED = 10  # most files that a message names

# Formats that Pillow recognises and does not decode (a film), or hands to another program.
_FOREIGN = ("MPEG", "EPS")


class DecodeOptions(NamedTuple):
    """How pictures become images.

    Attributes:
      size: height of the images in pixels.
      channels: 1 or 3.
      crop: side in pixels of the square that is cut from the middle first; None cuts nothing.
      formats: names of the formats that Pillow may take a file for; None: all.
      width: of the images in pixels; None: as the height.
      fit: 'stretch' resizes to height and width, 'pad' keeps the aspect and fills the sides with the background.
      background: colour behind transparent parts and at padded sides, as Pillow names it.
    """

    size: int
    channels: int
    crop: int | None = None
    formats: tuple[str, ...] | None = None
    width: int | None = None
    fit: str = "stretch"
    background: str = "black"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the images."""
        return self.size, self.width or self.size, self.channels


class Decoded(NamedTuple):
    """The images of a folder.

    Attributes:
      images: uint8 [N, height, width, channels] of the files that can be decoded, in order.
      faults: name of a file that cannot be decoded -> the reason.
      several_frames: number of files with several frames, of which the first is taken.
    """

    images: npt.NDArray[np.uint8]
    faults: dict[str, str]
    several_frames: int


# number of images -> uint8 array [N, height, width, channels] to write them to
NewArray = Callable[[int], npt.NDArray[np.uint8]]


def formats() -> tuple[frozenset[str], tuple[str, ...]]:
    """(endings of the files that Pillow decodes, in lower case, names of their formats)."""
    from PIL import Image, ImageFile

    Image.init()
    foreign = {*_FOREIGN}
    for name, (factory, _) in Image.OPEN.items():
        if isinstance(factory, type) and issubclass(factory, ImageFile.StubImageFile):
            foreign.add(name)  # needs a decoder that is not part of Pillow
    names = tuple(name for name in Image.OPEN if name not in foreign)
    return frozenset(end.lower() for end, name in Image.registered_extensions().items() if name in names), names


@dataclasses.dataclass
class FoundFiles:
    """The files below a folder.

    Attributes:
      files: image files, as paths relative to the folder with '/', sorted.
      others: ending -> number of files with an ending that is not one of a picture.
      hidden: number of files and folders whose names start with a dot.
      repeated: number of links to folders that are read under another name.
      unreadable: folder -> why it cannot be listed.
    """

    files: list[str] = dataclasses.field(default_factory=list)
    others: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    hidden: int = 0
    repeated: int = 0
    unreadable: dict[str, str] = dataclasses.field(default_factory=dict)

    def remarks(self) -> list[str]:
        """Sentences about the files that were left out, if any."""
        parts, count = [], self.others.total() + self.hidden
        if self.others:
            kinds = [f"{ending or 'none'} {number}" for ending, number in self.others.most_common(LISTED)]
            more = [f"{len(self.others) - LISTED} more endings"] if len(self.others) > LISTED else []
            parts.append(f"{self.others.total()} with other endings ({', '.join(kinds + more)})")
        if self.hidden:
            parts.append(f"{self.hidden} hidden")
        remarks = [f"{counted(count, 'file')} left out: {', '.join(parts)}"] if parts else []
        if self.repeated:
            remarks.append(f"{counted(self.repeated, 'linked folder')} left out, read under another name")
        return remarks


def counted(number: int, noun: str) -> str:
    """'1 file', '2 files'."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def search(path: pathlib.Path, endings: frozenset[str]) -> FoundFiles:
    """The image files below a folder. Links are followed; each folder is read once, so that links may form a circle."""
    found, seen = FoundFiles(), set()

    def note(error: OSError) -> None:
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
            visible = sorted(name for name in folders if not name.startswith("."))
            tops += [pathlib.Path(below, name) for name in visible if os.path.islink(os.path.join(below, name))]
            folders[:] = [name for name in visible if not os.path.islink(os.path.join(below, name))]
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


def decode(path: str, options: DecodeOptions) -> tuple[npt.NDArray[np.uint8], bool]:
    """Decodes one file: (uint8 [height, width, channels] of its first frame, whether it has more frames)."""
    from PIL import Image, ImageOps

    crop, formats = options.crop, options.formats
    height, width, channels = options.shape
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError("is not a regular file")
        with Image.open(path, formats=formats) as file:
            if file.mode[0] in "IF":
                raise ValueError(f"has more than 8 bits a channel (mode {file.mode}); convert it to 8 bits")
            several = bool(getattr(file, "is_animated", False))
            picture: Image.Image = ImageOps.exif_transpose(file)
            if picture.has_transparency_data:
                picture = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, options.background), picture)
            picture = picture.convert(MODES[channels])
        if crop is not None:
            left, top = (picture.width - crop) // 2, (picture.height - crop) // 2
            if min(left, top) < 0:
                raise ValueError(f"is {picture.width}x{picture.height}, smaller than the crop of {crop}x{crop}")
            picture = picture.crop((left, top, left + crop, top + crop))
        if options.fit == "pad":
            behind = Image.new("RGB", (width, height), options.background).convert(MODES[channels])
            inner = ImageOps.contain(picture, (width, height), Image.Resampling.LANCZOS)
            behind.paste(inner, ((width - inner.width) // 2, (height - inner.height) // 2))
            picture = behind
        else:
            picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    except MemoryError:
        raise
    except Exception as error:  # each format reports damage in its own way
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise ValueError(reason.removesuffix(f" {str(path)!r}")) from error
    return np.asarray(picture).reshape(options.shape), several


def decode_all(root: pathlib.Path, files: Sequence[str], new_array: NewArray, options: DecodeOptions) -> Decoded:
    """Decodes files, several at a time.

    Args:
      root: the folder.
      files: paths relative to it.
      new_array: number of images -> the array to write them to.
      options: of `decode`.
    """
    images = new_array(len(files))

    def place(number: int) -> tuple[str | None, bool]:
        try:
            images[number], several = decode(os.path.join(root, files[number]), options)
        except ValueError as error:
            return str(error), False
        return None, several

    # Pillow releases the interpreter lock while it decodes.
    with ThreadPoolExecutor() as pool:
        futures = [pool.submit(place, number) for number in range(len(files))]
        try:
            results = [future.result() for future in futures]
        finally:
            pool.shutdown(cancel_futures=True)
    faults = {name: fault for name, (fault, _) in zip(files, results, strict=True) if fault is not None}
    if faults:
        kept = np.array([number for number, (fault, _) in enumerate(results) if fault is None], int)
        all_images, images = images, new_array(len(kept))
        for part in pixels.chunks(len(kept), max(1, all_images[:1].nbytes)):
            images[part] = all_images[kept[part]]
    return Decoded(images, faults, sum(several for _, several in results))
