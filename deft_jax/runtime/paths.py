"""Paths that users give: of local files, of which the home folder is expanded, and of folders in a bucket."""

import os
import pathlib
import re
from collections.abc import Sequence

_ADDRESS = re.compile(r"(gs|s3):/+(.*)", re.DOTALL)  # one slash: pathlib has joined the two
_COPIES: dict[str, str] = {}  # folder of a copy -> the address of what it is a copy of


def local_path(path: str | os.PathLike[str], field: str) -> pathlib.Path:
    """A path as the user means it, with a leading ~ expanded.

    Args:
      path: as given on the command line, in a configuration or by a caller.
      field: what it is, for the message: '--workdir', 'data.path'.

    Raises:
      ValueError: it is empty, names a scheme such as gs:// or s3://, or the home folder of an unknown user.
    """
    text = os.fspath(path)
    if not text:
        raise ValueError(f"{field} is empty; give a path")
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):/", text)
    if scheme:
        raise ValueError(f"{field} must be a path on a local or mounted file system, got {text!r}; "
                         f"{scheme[1]}: addresses are not read or written: mount the bucket, or copy it")
    try:
        return pathlib.Path(text).expanduser()
    except RuntimeError:
        raise ValueError(f"{field} names the home folder of an unknown user: {text!r}") from None


def is_address(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of something in a bucket: gs://... or s3://..."""
    return _ADDRESS.fullmatch(os.fspath(path)) is not None


def split_address(address: str | os.PathLike[str], field: str) -> tuple[str, str]:
    """The scheme of an address and what follows it, BUCKET/NAME, without empty parts.

    Args:
      address: gs://BUCKET/NAME or s3://BUCKET/NAME.
      field: what it is, for the message.

    Raises:
      ValueError: it is no such address, or only that of a bucket.
    """
    text = os.fspath(address)
    match = _ADDRESS.fullmatch(text)
    parts = [part for part in match[2].split("/") if part] if match else []
    if match is None or len(parts) < 2 or {".", ".."} & set(parts) or not text.isprintable():
        raise ValueError(f"{field} must be gs://BUCKET/FOLDER or s3://BUCKET/FOLDER, got {text!r}")
    return match[1], "/".join(parts)


def without_repeats(paths: Sequence[str], field: str) -> list[str]:
    """The paths without those that are another spelling of an earlier one: runs/a/, s3://BUCKET//a.

    Args:
      paths: of local files or in buckets, as given.
      field: what they are, for messages.

    Raises:
      ValueError: as of `split_address`.

    Example:
      >>> without_repeats(["runs/a", "./runs/a/", "gs://b/a", "gs://b//a/"], "--workdir")
      ['runs/a', 'gs://b/a']
    """
    first: dict[tuple[str, str], str] = {}
    for path in paths:
        same = split_address(path, field) if is_address(path) else ("", os.path.abspath(os.path.expanduser(path)))
        first.setdefault(same, path)
    return list(first.values())


def register_copy(folder: pathlib.Path, address: str) -> None:
    """Has `shown` replace a folder by the address of which it is a copy."""
    _COPIES[str(folder)] = address


def forget_copy(folder: pathlib.Path) -> None:
    """Has `shown` name a folder as it is: what could not be uploaded is there."""
    _COPIES.pop(str(folder), None)


def registered_copies() -> dict[str, str]:
    """Every copy of `register_copy`, for a process that has to show the same: folder -> address."""
    return dict(_COPIES)


def shown(text: object) -> str:
    """A path or a message as the user should read it: with what the user has named in place of the local copy."""
    result = str(text)
    for folder, address in _COPIES.items():
        result = result.replace(folder, address)
    return result
