"""Picture files: search in a folder, and decoding by Pillow."""

import collections
import dataclasses
import os
import pathlib
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deft_jax.data import pixels

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's, by the number of channels
FITS = ("stretch", "pad", "crop")
LISTED = 10  # most files that a message names
_TASKS = 20_000  # pictures whose decoding is queued at a time

# Formats that Pillow recognises and does not decode (a film), or hands to another program.
_FOREIGN = ("MPEG", "EPS")


class DecodeOptions(NamedTuple):
    """How pictures become images.

    Attributes:
      size: height of the images in pixels.
      channels: 1, 3 or 4.
      crop: side in pixels of the square that is cut from the middle first; None cuts nothing.
      formats: names of the formats that Pillow may take a file for; None: all.
      width: of the images in pixels; None: `size`.
      fit: what is done about a picture of another aspect ratio than the images: 'stretch' it, 'pad' it on two sides
        with the background, or 'crop' its middle.
      background: colour below transparent parts and in padding, as of `pixels.colour`; images of 4 channels keep
        transparency, and their padding is transparent.
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
        """(H, W, C) of the images."""
        return self.size, self.size if self.width is None else self.width, self.channels


class Counts(NamedTuple):
    """How many pictures were changed on their way to images.

    Attributes:
      several_frames: of several frames, of which the first is taken.
      resized: of another size, after the crop.
      fitted: of another aspect ratio, after the crop; see DecodeOptions.fit.
      transparent: with transparent parts, put on the background.
    """

    several_frames: int = 0
    resized: int = 0
    fitted: int = 0
    transparent: int = 0


class Decoded(NamedTuple):
    """The images of a folder.

    Attributes:
      images: uint8 [N, H, W, C] of the files that can be decoded, in order.
      faults: name of a file that cannot be decoded -> the reason.
      counts: of the files that can be decoded.
    """

    images: npt.NDArray[np.uint8]
    faults: dict[str, str]
    counts: Counts


# number of images -> uint8 array [N, H, W, C] to write them to
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


def decode(path: str, options: DecodeOptions) -> tuple[npt.NDArray[np.uint8], Counts]:
    """Decodes one file: (uint8 [H, W, C] of its first frame, what was changed, as counts of 0 or 1)."""
    from PIL import Image, ImageOps

    crop, mode = options.crop, MODES[options.channels]
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError("is not a regular file")
        with Image.open(path, formats=options.formats) as file:
            if file.mode[0] in "IF":
                raise ValueError(f"has more than 8 bits a channel (mode {file.mode}); convert it to 8 bits")
            several = bool(getattr(file, "is_animated", False))
            picture: Image.Image = ImageOps.exif_transpose(file)
            transparent = mode != "RGBA" and picture.has_transparency_data
            if transparent:
                picture = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, options.background), picture)
            picture = picture.convert(mode)
        if crop is not None:
            left, top = (picture.width - crop) // 2, (picture.height - crop) // 2
            if min(left, top) < 0:
                raise ValueError(f"is {picture.width}x{picture.height}, smaller than the crop of {crop}x{crop}")
            picture = picture.crop((left, top, left + crop, top + crop))
        height, width, _ = options.shape
        resized = picture.size != (width, height)
        fitted = picture.width * height != picture.height * width
        picture = _resize(picture, (width, height), options.fit if fitted else "stretch", options.background)
    except MemoryError:
        raise
    except Exception as error:  # each format reports damage in its own way
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise ValueError(reason.removesuffix(f" {str(path)!r}")) from error
    counts = Counts(int(several), int(resized), int(fitted), int(transparent))
    return np.asarray(picture).reshape(options.shape), counts


def _resize(picture: Any, size: tuple[int, int], fit: str, background: str) -> Any:
    """A Pillow image of (width, height), by Lanczos."""
    from PIL import Image, ImageColor, ImageOps

    lanczos = Image.Resampling.LANCZOS
    if fit == "crop":
        return ImageOps.fit(picture, size, lanczos)
    if fit == "pad":
        colour = (0, 0, 0, 0) if picture.mode == "RGBA" else ImageColor.getcolor(background, picture.mode)
        inner = ImageOps.contain(picture, size, lanczos)
        padded = Image.new(picture.mode, size, colour)
        padded.paste(inner, ((size[0] - inner.width) // 2, (size[1] - inner.height) // 2))
        return padded
    return picture.resize(size, lanczos)


def _bar(count: int) -> Any:
    """A progress bar over pictures, where there are many and a terminal."""
    import tqdm

    return tqdm.tqdm(total=count, desc="decoding", unit="images", mininterval=1, leave=False,
                     disable=True if count <= _TASKS else None)


def decode_all(root: pathlib.Path, files: Sequence[str], new_array: NewArray, options: DecodeOptions) -> Decoded:
    """Decodes files, several at a time.

    Args:
      root: the folder.
      files: paths relative to it.
      new_array: number of images -> the array to write them to.
      options: of `decode`.
    """
    images = new_array(len(files))

    def place(number: int) -> tuple[str | None, Counts]:
        try:
            images[number], counts = decode(os.path.join(root, files[number]), options)
        except ValueError as error:
            return str(error), Counts()
        return None, counts

    faults: dict[str, str] = {}
    total = np.zeros(len(Counts()), int)
    # Pillow releases the interpreter lock while it decodes. Tasks are submitted a part at a time: they take 1 KB each.
    with ThreadPoolExecutor() as pool, _bar(len(files)) as bar:
        for first in range(0, len(files), _TASKS):
            part = range(first, min(first + _TASKS, len(files)))
            futures = [pool.submit(place, number) for number in part]
            try:
                for number, future in zip(part, futures, strict=True):
                    fault, counts = future.result()
                    total += counts
                    if fault is not None:
                        faults[files[number]] = fault
                    bar.update()
            finally:
                for future in futures:
                    future.cancel()
    if faults:
        kept = np.array([number for number, name in enumerate(files) if name not in faults], int)
        all_images, images = images, new_array(len(kept))
        for rows in pixels.chunks(len(kept), max(1, all_images[:1].nbytes)):
            images[rows] = all_images[kept[rows]]
    return Decoded(images, faults, Counts(*total.tolist()))
