"""Annotations as readable types: `Annotated[int, Field(ge=1)]` is 'int ≥ 1'."""

import dataclasses
import os
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Union

import annotated_types
from pydantic import AfterValidator
from pydantic.fields import FieldInfo

_LARGE = 2**31 - 1  # bounds of int32 and of float32 are those of the computation; they are not shown


def _constraints(metadata: Iterable[Any]) -> list[str]:
    bounds: list[str] = []
    for item in metadata:
        if isinstance(item, FieldInfo):
            bounds += _constraints(item.metadata)
        elif isinstance(item, annotated_types.Ge) and abs(item.ge) < _LARGE:
            bounds.append(f"≥ {item.ge:g}")
        elif isinstance(item, annotated_types.Gt) and abs(item.gt) < _LARGE:
            bounds.append(f"> {item.gt:g}")
        elif isinstance(item, annotated_types.Le) and abs(item.le) < _LARGE:
            bounds.append(f"≤ {item.le:g}")
        elif isinstance(item, annotated_types.Lt) and abs(item.lt) < _LARGE:
            bounds.append(f"< {item.lt:g}")
        elif isinstance(item, annotated_types.MultipleOf):
            bounds.append(f"a multiple of {item.multiple_of}")
        elif isinstance(item, annotated_types.MinLen):
            bounds.append(f"at least {item.min_length} entr{'y' if item.min_length == 1 else 'ies'}")
        elif isinstance(item, AfterValidator):
            bounds.append(getattr(item.func, "__name__", "").strip("_").replace("_", " "))
    return bounds


def _merged(bounds: list[str]) -> list[str]:
    """Bounds without those that a narrower one includes."""
    kept: list[str] = []
    for bound in bounds:
        sign = bound[0] if bound[0] in "≥>≤<" else ""
        same = [other for other in kept if sign and other[0] in {"≥": "≥>", ">": "≥>", "≤": "≤<", "<": "≤<"}[sign]]
        for other in same:
            ours, theirs = float(bound.split()[1]), float(other.split()[1])
            if (ours >= theirs) == (sign in "≥>"):
                kept.remove(other)
            else:
                bound = ""
        if bound:
            kept.append(bound)
    return kept


def describe(annotation: Any, _bounds: tuple[str, ...] = ()) -> str:
    """A type with its bounds, in words.

    Args:
      annotation: a type, with bounds of pydantic or annotated_types where there are any.

    Example:
      >>> from pydantic import Field
      >>> describe(Annotated[int, Field(ge=1)])
      'int ≥ 1'
      >>> describe(tuple[float, ...] | None)
      'tuple of float, or None'
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return describe(arguments[0], (*_constraints(arguments[1:]), *_bounds))
    bounds = _merged(list(_bounds))
    if origin is tuple or origin in (Sequence, list):
        inner = [describe(part) for part in arguments if part is not Ellipsis]
        return ", ".join([f"{'tuple' if origin is tuple else 'sequence'} of {' and '.join(inner)}", *bounds])
    if origin is Mapping or origin is dict:
        return ", ".join([f"mapping of {describe(arguments[0])} to {describe(arguments[1])}", *bounds])
    if origin is Literal:
        return " or ".join(repr(value) for value in arguments)
    if origin in (Union, types.UnionType):
        parts = [describe(part) for part in arguments if part not in (type(None), os.PathLike)]
        parts += ["None"] if type(None) in arguments else []
        return ", or ".join(parts)
    if origin is not None and isinstance(origin, type):
        return origin.__name__
    if dataclasses.is_dataclass(annotation):
        return "section"
    if annotation is Any:
        return "any value"
    name = "None" if annotation is type(None) else getattr(annotation, "__name__", str(annotation))
    return " ".join([name, " and ".join(bounds)]).strip()
