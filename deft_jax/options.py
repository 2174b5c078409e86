"""Calls with options from a configuration: a field that is unknown or missing is named in one line."""

import inspect
from collections.abc import Callable, Mapping


def check(function: Callable, options: Mapping, section: str, given: tuple[str, ...] = ()) -> None:
    """Checks that `options`, with the arguments `given` beside them, are what `function` takes.

    section: what the options are called in a message, for example 'model'.
    Raises ValueError that names the fields which are not known, or which are missing.
    """
    parameters = {name: p for name, p in inspect.signature(function).parameters.items() if name not in given}
    unknown = sorted(set(options) - set(parameters))
    if unknown:
        raise ValueError(f"{section} has no field {_quoted(unknown)}; known: {', '.join(parameters)}")
    missing = [name for name, p in parameters.items() if p.default is p.empty and name not in options]
    if missing:
        raise ValueError(f"{section} lacks the field {_quoted(missing)}; known: {', '.join(parameters)}")


def call(function: Callable, options: Mapping, section: str, **given):
    """function(**options, **given), checked as in `check`."""
    check(function, options, section, tuple(given))
    return function(**options, **given)


def choose(table: Mapping, name: str, what: str):
    """table[name]; raises ValueError with the known names."""
    if name not in table:
        raise ValueError(f"unknown {what} {name!r}; known: {', '.join(sorted(table))}")
    return table[name]


def _quoted(names):
    return ", ".join(repr(name) for name in names)
