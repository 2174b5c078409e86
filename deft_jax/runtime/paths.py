"""Paths that users give: the home folder is expanded, and what is not on a local file system is refused."""

import os
import pathlib
import re


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
