"""Which code of this package a process has: its version, and a digest of its files."""

import hashlib
import pathlib

_PACKAGE = pathlib.Path(__file__).parents[1]


def source_digest() -> str:
    """A digest of the Python files of the package as they are now, the same on every machine that has the same ones.

    Configs do not count: a checkout has them beside the package, a wheel in it.

    Example:
      >>> len(source_digest())
      12
    """
    found = {path.relative_to(_PACKAGE).as_posix(): path for path in _PACKAGE.rglob("*.py")}
    names = sorted(name for name in found if not name.startswith("configs/"))
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode() + b"\0" + hashlib.sha256(found[name].read_bytes()).digest())
    return digest.hexdigest()[:12]
