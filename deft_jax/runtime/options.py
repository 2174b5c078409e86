"""Calls with options from a configuration: what is unknown, missing or of another type is named in one line."""

import inspect
import numbers
import os
import types
import typing
from collections.abc import Callable, Mapping, Sequence

import numpy as np

# What a compiled program counts in and computes with.
_LARGEST = {int: 2**31 - 1, float: float(np.finfo(np.float32).max)}


_WORDS = {bool: "True or False", int: "a whole number", float: "a number", str: "text", os.PathLike: "a path",
          type(None): "None"}  # fmt: skip


def check(function: Callable, options: Mapping, section: str, given: tuple[str, ...] = ()) -> None:
    """Checks that `options`, with the arguments `given` beside them, are what `function` takes.

    Types are those of its annotations, or of the defaults where it has none; numbers must be finite, unless the default
    is not, and in the range of int32 or float32.
    section: what the options are called in a message, for example 'model'.
    Raises ValueError that names the fields which are not known, which are missing, or which are something else.
    """
    check_section(section, options)
    if not callable(function):
        raise ValueError(f"{section} names {short_repr(function)}, which is no function")
    parameters = {name: p for name, p in inspect.signature(function).parameters.items() if name not in given}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    unknown = sorted(set(options) - set(parameters))
    if unknown and not open_ended:
        raise ValueError(f"{section} has no field {_quoted(unknown)}; known: {', '.join(parameters)}")
    named = {name: p for name, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    missing = [name for name, p in named.items() if p.default is p.empty and name not in options]
    if missing:
        raise ValueError(f"{section} lacks the field {_quoted(missing)}; known: {', '.join(parameters)}")
    for name, value in options.items():
        if name in parameters:
            parameter = parameters[name]
            wanted = parameter.annotation
            if wanted is parameter.empty:
                wanted = type(parameter.default) if type(parameter.default) in (int, float, str) else None
            infinite = isinstance(parameter.default, float) and not np.isfinite(parameter.default)
            check_type(f"{section}.{name}", value, wanted, infinite)


def check_section(name: str, section) -> None:
    """Raises ValueError unless `section` is a mapping whose keys are text."""
    if not isinstance(section, Mapping):
        raise ValueError(f"{name} must be a section with fields of its own, got {short_repr(section)}")
    strange = [key for key in section if not isinstance(key, str)]
    if strange:
        raise ValueError(f"{name} has a field called {short_repr(strange[0])}; names of fields are text")


def check_type(name: str, value, wanted, infinite: bool = False) -> None:
    """Raises ValueError unless `value` is of the annotation `wanted`.

    Known are bool, int, float, str, os.PathLike, None, sequences and unions of them; any value is of another
    annotation. A number must be finite and in the range of its type on the device; with `infinite`, infinity is
    allowed.
    """
    words = _words(wanted)
    if words is None:
        return
    if not _is(value, wanted):
        raise ValueError(f"{name} must be {words}, got {short_repr(value)}")
    largest = _LARGEST[float if float in _leaves(wanted) else int]
    for number in _numbers(value):
        if not abs(number) <= largest and not (infinite and number == np.inf):
            raise ValueError(f"{name} must lie between {-largest:g} and {largest:g}, got {short_repr(value)}")


def check_count(name: str, value, least: int = 1) -> None:
    """Raises ValueError unless `value` is a whole number of at least `least` that int32 holds."""
    check_type(name, value, int)
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def check_above(name: str, value, bound: float = 0) -> None:
    """Raises ValueError unless `value` is a finite number above `bound`."""
    check_type(name, value, float)
    if not value > bound:
        raise ValueError(f"{name} must be above {bound:g}, got {value}")


def call(function: Callable, options: Mapping, section: str, **given):
    """function(**options, **given), checked as in `check`."""
    check(function, options, section, tuple(given))
    return function(**options, **given)


def choose(table: Mapping, name: str, what: str):
    """table[name]; raises ValueError with the known names."""
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"unknown {what} {short_repr(name)}; known: {', '.join(sorted(table))}")
    return table[name]


def short_repr(value) -> str:
    """A value in a message: in one line, and cut where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def _quoted(names):
    return ", ".join(repr(name) for name in names)


def _parts(wanted) -> tuple:
    """The members of a union; the annotation itself if it is none."""
    return typing.get_args(wanted) if typing.get_origin(wanted) in (typing.Union, types.UnionType) else (wanted,)


def _entry(wanted):
    """What the entries of an annotated sequence are; None where it is no sequence."""
    held = typing.get_args(wanted)
    return held[0] if held and typing.get_origin(wanted) in (Sequence, list, tuple) else None


def _leaves(wanted) -> set:
    return {leaf for part in _parts(wanted) for leaf in ({part} if _entry(part) is None else _leaves(_entry(part)))}


def _words(wanted) -> str | None:
    """An annotation in words; None for one that is not known, of which any value is."""
    told = []
    for part in _parts(wanted):
        entry = _entry(part)
        if entry in _WORDS:
            told.append("a list of " + {int: "whole numbers", float: "numbers"}.get(entry, "texts"))
        elif entry is None and isinstance(part, type) and part in _WORDS:
            told.append(_WORDS[part])
        else:
            return None
    return " or ".join(told)


def _is(value, wanted) -> bool:
    for part in _parts(wanted):
        entry = _entry(part)
        if entry is not None:
            if isinstance(value, (list, tuple, range, np.ndarray)) and all(_is(held, entry) for held in value):
                return True
        elif part is bool:
            if isinstance(value, (bool, np.bool_)):
                return True
        elif part in (int, float):
            kind = numbers.Integral if part is int else numbers.Real
            if isinstance(value, kind) and not isinstance(value, (bool, np.bool_)):
                return True
        elif isinstance(value, part):
            return True
    return False


def _numbers(value):
    """The numbers in a value of a known annotation."""
    if isinstance(value, (list, tuple, range, np.ndarray)):
        for held in value:
            yield from _numbers(held)
    elif isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_)):
        yield value
