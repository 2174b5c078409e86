"""Many trainings described at once, scored alike, and their tables."""

from typing import Any

__all__ = ["evaluate", "evaluate_codes", "parse_study", "run"]

_MODULES = {"evaluate": "scoring", "evaluate_codes": "scoring", "parse_study": "config", "run": "runner"}


def __getattr__(name: str) -> Any:
    # Files in configs/ import presets from here, before the command loads JAX: so nothing is imported until it is used.
    import importlib

    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
