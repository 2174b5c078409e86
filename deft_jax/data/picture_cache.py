"""A cache of decoded pictures: an .npy file, and a record of the files and options that it was decoded from."""

import contextlib
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deft_jax.data.picture_files import Counts, Decoded, NewArray


def record_of(path: pathlib.Path, files: Sequence[str], **options: Any) -> dict[str, Any]:
    """Identifies decoded images by the options, and by names, sizes and times of the files."""
    digest = hashlib.sha256()
    for name in files:
        size_and_time = "missing\0"
        with contextlib.suppress(OSError):
            status = os.stat(os.path.join(path, name))
            size_and_time = f"{status.st_size}\0{status.st_mtime_ns}"
        digest.update(f"{name}\0{size_and_time}\0".encode(errors="surrogateescape"))
    return {"images": len(files), "files": digest.hexdigest()} | options


def load_or_decode(
    cache: pathlib.Path,
    record: dict[str, Any],
    shape: tuple[int, int, int],
    decode: Callable[[NewArray], Decoded],
) -> Decoded:
    """Decoded images, memory-mapped from a cache, which is written where it is missing or out of date.

    The record is in a file beside the images, with the modification time of their array. It is removed before that
    array is replaced and written afterwards, so an interruption never leaves it beside other images.

    Args:
      cache: .npy file.
      record: as from `record_of`.
      shape: of one image.
      decode: decodes the images into an array that it is given a constructor of.

    Raises:
      OSError: the cache cannot be written.
    """
    record_file = cache.with_name(cache.name + ".json")
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # damaged: decoded again
        kept = json.loads(record_file.read_text())
        faults, counts = dict(kept["faults"]), Counts(**kept["counts"])
        if kept == record | {"faults": faults, "counts": counts._asdict(), "written": cache.stat().st_mtime_ns}:
            images = np.load(cache, mmap_mode="r", allow_pickle=False)
            if images.shape == (record["images"] - len(faults), *shape) and images.dtype == np.uint8:
                return Decoded(images, faults, counts)

    with tempfile.TemporaryDirectory(prefix=f".{cache.name}.", dir=cache.parent) as scratch:
        written: list[pathlib.Path] = []
        new_record = pathlib.Path(scratch, "record.json")

        def new_array(count: int) -> npt.NDArray[np.uint8]:
            if count == 0:
                return np.empty((0, *shape), np.uint8)
            written.append(pathlib.Path(scratch, f"images_{len(written)}.npy"))
            return np.lib.format.open_memmap(written[-1], "w+", np.uint8, (count, *shape))

        images, faults, counts = decode(new_array)
        if len(images) == 0:
            return Decoded(images, faults, counts)
        assert isinstance(images, np.memmap)
        images.flush()
        del images
        new_record.write_text(json.dumps(record | {"faults": faults, "counts": counts._asdict(),
                                                   "written": written[-1].stat().st_mtime_ns}))
        record_file.unlink(missing_ok=True)
        os.replace(written[-1], cache)
        os.replace(new_record, record_file)
    return Decoded(np.load(cache, mmap_mode="r", allow_pickle=False), faults, counts)
