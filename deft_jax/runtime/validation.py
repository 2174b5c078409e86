"""Typed configurations: a mapping becomes frozen dataclasses once, at the edge, and every fault is one line.

A section of a configuration is a class decorated with `section`. Each field has a type with bounds and a docstring
below it that states its meaning, unit and source; the reference of fields in the documentation is generated from these.
`parse` turns a mapping into such a tree, or raises ConfigErrors with one line per fault. Functions of objectives,
metrics and data sets keep plain signatures: `options_of` validates their options against these by the same rules.
"""

import contextlib
import dataclasses
import functools
import inspect
import operator
import os
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, TypeVar, dataclass_transform

import numpy as np
import pydantic
from pydantic import BeforeValidator, Field

from deft_jax.runtime.messages import short_repr
from deft_jax.runtime.validation_errors import SECTION, SEQUENCES, lines_of, missing_field, unknown_field

T = TypeVar("T")

# A compiled program counts in int32 and computes in float32.
INT_MAX, FLOAT_MAX = 2**31 - 1, float(np.finfo(np.float32).max)

Integer = Annotated[int, Field(strict=True, ge=-INT_MAX, le=INT_MAX)]
Count = Annotated[int, Field(strict=True, ge=1, le=INT_MAX)]
NonNegativeInt = Annotated[int, Field(strict=True, ge=0, le=INT_MAX)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-FLOAT_MAX, le=FLOAT_MAX)]
NumberOrInfinity = Annotated[float, Field(strict=True, allow_inf_nan=True)]
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0, le=FLOAT_MAX)]
NonNegative = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0, le=FLOAT_MAX)]
Share = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0, le=1)]
Text = Annotated[str, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]


def _path(value: Any) -> Any:
    if not isinstance(value, str | os.PathLike):
        raise ValueError("must be a path")
    return value


Path = Annotated[Any, BeforeValidator(_path)]


class ConfigErrors(ValueError):
    """Faults of a configuration, one line each.

    Attributes:
      lines: the faults; each names the path of a field, what was given and what is allowed.
    """

    def __init__(self, lines: Sequence[str]):
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))


@contextlib.contextmanager
def collect_faults(lines: list[str], path: str = "") -> Iterator[None]:
    """Adds the lines of a ValueError raised within it to a list, so that further checks follow.

    Args:
      lines: of the faults so far.
      path: begins each line that is added, as 'PATH: '; '' for none.
    """
    try:
        yield
    except ValueError as error:
        added = error.lines if isinstance(error, ConfigErrors) else [" ".join(str(error).split())]
        lines += [f"{path}: {line}" if path else line for line in added]


@dataclass_transform(frozen_default=True, kw_only_default=True)
def section(cls: type[T]) -> type[T]:
    """Makes a class a section of a configuration: a frozen dataclass that validates its fields.

    Args:
      cls: a class with annotated fields, each followed by a docstring with its meaning, unit and source.
    """
    config = pydantic.ConfigDict(extra="forbid", use_attribute_docstrings=True, arbitrary_types_allowed=True)
    return typing.cast(type[T], pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=config)(cls))


def count_from(least: int) -> Any:
    """The type of a whole number of at least `least`."""
    return Annotated[int, Field(strict=True, ge=least, le=INT_MAX)]


def parse(kind: type[T], values: Any, path: str = "") -> T:
    """A section of this kind from a mapping.

    Args:
      kind: a class decorated with `section`.
      values: a mapping of the same fields; sequences and numbers of numpy are taken as well.
      path: of the section in the whole configuration, for messages; '' for the whole.

    Raises:
      ConfigErrors: one line for each field that is missing, unknown, of another type or out of bounds.
    """
    return typing.cast(T, check(kind, values, path))


def mapping_of(config: Any) -> Any:
    """The nested dict of a ConfigDict; anything else is returned unchanged.

    Raises:
      ConfigErrors: the names of some fields are no text, so that a ConfigDict cannot sort them.
    """
    try:
        return config.to_dict() if hasattr(config, "to_dict") else config
    except TypeError:
        line = "the configuration has fields whose names are numbers or others: names of fields are text"
        raise ConfigErrors([line]) from None


def check(kind: Any, value: Any, path: str) -> Any:
    """A single value, validated against a type.

    Args:
      kind: an annotation, for example Count.
      value: what was given; arrays and scalars of numpy are taken as well.
      path: what the value is called in messages.

    Raises:
      ConfigErrors: the value is of another type, or out of bounds.
    """
    try:
        return pydantic.TypeAdapter(kind).validate_python(_without_numpy(value))
    except pydantic.ValidationError as error:
        raise ConfigErrors(lines_of(error.errors(), kind, path)) from None


def options_of(
    function: Callable[..., Any], options: Mapping[str, Any], path: str, given: Sequence[str] = ()
) -> dict[str, Any]:
    """Options for a function, validated against its signature.

    Annotations are checked as they stand; a parameter without one has the type of its default where that is a boolean,
    a number or a text. Numbers must be finite, unless the default is not.

    Args:
      function: called later as function(**given, **options).
      options: name -> value.
      path: what the options are called in messages, for example 'objective'.
      given: parameters that are passed beside the options and are not to be set.

    Returns:
      The options, with sequences as tuples.

    Raises:
      ConfigErrors: one line for each option that is missing, unknown, of another type or out of bounds.
    """
    if not isinstance(options, Mapping):
        raise ConfigErrors([f"{path} must be {SECTION}, got {short_repr(options)}"])
    parameters = {name: p for name, p in _parameters(function).items() if name not in given}
    valid: dict[str, Any] = {}
    lines: list[str] = []
    for name, value in options.items():
        if name in parameters:
            try:
                valid[name] = check(parameters[name].kind, value, f"{path}.{name}")
            except ConfigErrors as error:
                lines += error.lines
        elif _takes_any_option(function) and name not in given:
            valid[name] = value
        else:
            lines.append(unknown_field(path, name, parameters))
    missing = [name for name, parameter in parameters.items() if parameter.required and name not in options]
    lines += [missing_field(path, name) for name in missing]
    if lines:
        raise ConfigErrors(lines)
    return valid


class _Parameter(NamedTuple):
    kind: Any
    required: bool


@functools.lru_cache(maxsize=512)
def _parameters(function: Callable[..., Any]) -> dict[str, _Parameter]:
    """The parameters of a function that can be passed by name."""
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError):  # a user's function may have annotations that cannot be resolved
        hints = {}
    parameters = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default = parameter.default
        infinite = isinstance(default, float) and not np.isfinite(default)
        hint = hints.get(name, type(default) if type(default) in (bool, int, float, str) else Any)
        parameters[name] = _Parameter(_bounded(hint, infinite), default is parameter.empty)
    return parameters


def _takes_any_option(function: Callable[..., Any]) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values())


def _bounded(hint: Any, infinite: bool) -> Any:
    """An annotation with the bounds of every number; Any for what is not checked."""
    simple = {bool: Flag, int: Integer, float: NumberOrInfinity if infinite else Number, str: Text}
    if isinstance(hint, type) and hint in simple:
        return simple[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return operator.getitem(Annotated, (_bounded(arguments[0], infinite), *arguments[1:]))
    if os.PathLike in (hint, origin):
        return Path
    if origin in (typing.Union, types.UnionType):
        return operator.getitem(typing.Union, tuple(_bounded(member, infinite) for member in arguments))
    if origin is tuple and Ellipsis not in arguments:
        return tuple.__class_getitem__(tuple(_bounded(entry, infinite) for entry in arguments))
    if origin in SEQUENCES:
        return tuple.__class_getitem__((_bounded(arguments[0], infinite), Ellipsis))
    checked = hint is type(None) or origin is typing.Literal or dataclasses.is_dataclass(hint)
    return hint if checked else Any


def _without_numpy(value: Any) -> Any:
    """The same value with arrays as tuples, numpy scalars as numbers, and any mapping as a dict."""
    if isinstance(value, Mapping):
        return {key: _without_numpy(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | range):
        return tuple(_without_numpy(entry) for entry in value)
    if isinstance(value, np.ndarray | np.generic):
        return _without_numpy(value.tolist())
    return value
