"""Typed configurations: a mapping becomes frozen dataclasses once, at the edge, and every fault is one line.

A section of a configuration is a class decorated with `section`. Each field has a type with bounds and a docstring
below it that states its meaning, unit and source; the reference of fields in the documentation is generated from these.
`parse` turns a mapping into such a tree, or raises ConfigErrors with one line per fault. Functions of objectives,
metrics and data sets keep plain signatures: `options_of` validates their options against these by the same rules.
"""

import dataclasses
import functools
import inspect
import os
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar, dataclass_transform

import numpy as np
import pydantic
from pydantic import BeforeValidator, Field
from pydantic_core import ErrorDetails

from deft_jax.runtime.messages import short_repr

T = TypeVar("T")

# A compiled program counts in int32 and computes in float32.
_INT_MAX, _FLOAT_MAX = 2**31 - 1, float(np.finfo(np.float32).max)

Integer = Annotated[int, Field(strict=True, ge=-_INT_MAX, le=_INT_MAX)]
Count = Annotated[int, Field(strict=True, ge=1, le=_INT_MAX)]
NonNegativeInt = Annotated[int, Field(strict=True, ge=0, le=_INT_MAX)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-_FLOAT_MAX, le=_FLOAT_MAX)]
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0, le=_FLOAT_MAX)]
NonNegative = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0, le=_FLOAT_MAX)]
Share = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0, le=1)]
Text = Annotated[str, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]


class ConfigErrors(ValueError):
    """Faults of a configuration, one line each.

    Attributes:
      lines: the faults; each names the path of a field, what was given and what is allowed.
    """

    def __init__(self, lines: Sequence[str]):
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))


@dataclass_transform(frozen_default=True, kw_only_default=True)
def section(cls: type[T]) -> type[T]:
    """Makes a class a section of a configuration: a frozen dataclass that validates its fields.

    Args:
      cls: a class with annotated fields, each followed by a docstring with its meaning, unit and source.
    """
    config = pydantic.ConfigDict(extra="forbid", use_attribute_docstrings=True, arbitrary_types_allowed=True)
    return pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=config)(cls)  # type: ignore[call-overload]


def parse(kind: type[T], values: Any, path: str = "") -> T:
    """A section of this kind from a mapping.

    Args:
      kind: a class decorated with `section`.
      values: a mapping of the same fields; sequences and numbers of numpy are taken as well.
      path: of the section in the whole configuration, for messages; '' for the whole.

    Raises:
      ConfigErrors: one line for each field that is missing, unknown, of another type or out of bounds.
    """
    if not isinstance(values, Mapping):
        what = path or "the configuration"
        raise ConfigErrors([f"{what} must be a section with fields of its own, got {short_repr(values)}"])
    try:
        return pydantic.TypeAdapter(kind).validate_python(_plain(values))
    except pydantic.ValidationError as error:
        raise ConfigErrors(_lines(error.errors(), kind, path)) from None


def count_from(least: int) -> Any:
    """The type of a whole number of at least `least`."""
    return Annotated[int, Field(strict=True, ge=least, le=_INT_MAX)]


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
        return pydantic.TypeAdapter(kind).validate_python(_plain(value))
    except pydantic.ValidationError as error:
        raise ConfigErrors(_lines(error.errors(), kind, path)) from None


def options_of(function: Callable, options: Mapping[str, Any], path: str, given: Sequence[str] = ()) -> dict[str, Any]:
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
        raise ConfigErrors([f"{path} must be a section with fields of its own, got {short_repr(options)}"])
    model, open_ended = _model_of(function, tuple(given))
    try:
        validated = model.model_validate(_plain(options))
    except pydantic.ValidationError as error:
        raise ConfigErrors(_lines(error.errors(), model, path)) from None
    found = {name: getattr(validated, name) for name in validated.model_fields_set}
    return found | ({name: value for name, value in options.items() if name not in found} if open_ended else {})


@functools.lru_cache(maxsize=512)
def _model_of(function: Callable, given: tuple[str, ...]):
    """(a pydantic model with the options of a function as fields, whether it takes any further ones)."""
    parameters = {name: p for name, p in inspect.signature(function).parameters.items() if name not in given}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError):  # a function of the user's may be annotated with what cannot be resolved
        hints = {}
    fields: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        infinite = isinstance(parameter.default, float) and not np.isfinite(parameter.default)
        hint = hints.get(name, type(parameter.default) if type(parameter.default) in (bool, int, float, str) else Any)
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (_bounded(hint, infinite), default)
    config = pydantic.ConfigDict(
        extra="allow" if open_ended else "forbid", arbitrary_types_allowed=True, protected_namespaces=()
    )
    return pydantic.create_model(getattr(function, "__name__", "options"), __config__=config, **fields), open_ended


def _bounded(hint: Any, infinite: bool) -> Any:
    """An annotation with the bounds that every number has; one that has bounds of its own stays as it is."""
    origin = typing.get_origin(hint)
    if origin is Annotated:
        inner, *extras = typing.get_args(hint)
        return Annotated[(_bounded(inner, infinite), *extras)]
    if hint is bool:
        return Flag
    if hint is int:
        return Integer
    if hint is float:
        return Annotated[float, Field(strict=True, allow_inf_nan=True)] if infinite else Number
    if hint is str:
        return Text
    if hint is os.PathLike or origin is os.PathLike:
        return Annotated[Any, BeforeValidator(_path)]
    if origin in (typing.Union, types.UnionType):
        return typing.Union[tuple(_bounded(part, infinite) for part in typing.get_args(hint))]  # noqa: UP007
    if origin in (Sequence, list, tuple):
        entry = typing.get_args(hint)[0] if typing.get_args(hint) else Any
        return tuple[_bounded(entry, infinite), ...]
    known = (type(None), Any)
    return hint if hint in known or origin is typing.Literal or dataclasses.is_dataclass(hint) else Any


def _path(value: Any) -> Any:
    if not isinstance(value, (str, os.PathLike)):
        raise ValueError("must be a path")
    return value


def _plain(value: Any) -> Any:
    """The same value with arrays as lists and scalars of numpy as numbers, which is what the types are of."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, range)):
        return tuple(_plain(entry) for entry in value)
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    return value


_KINDS = {
    "int_type": "a whole number", "int_from_float": "a whole number", "int_parsing": "a whole number",
    "float_type": "a number", "float_parsing": "a number", "finite_number": "a finite number",
    "bool_type": "True or False", "bool_parsing": "True or False", "string_type": "text",
    "tuple_type": "a list", "list_type": "a list", "dict_type": "a section with fields of its own",
    "mapping_type": "a section with fields of its own", "none_required": "None",
    "dataclass_type": "a section with fields of its own", "dataclass_exact_type": "a section with fields of its own",
    "model_attributes_type": "a section with fields of its own",
    "model_type": "a section with fields of its own", "callable_type": "a function",
}  # fmt: skip


def _lines(errors: Sequence[ErrorDetails], kind: Any, path: str) -> list[str]:
    """One line per field: the branches of a union are joined."""
    by_path: dict[str, list[tuple[ErrorDetails, list[str]]]] = {}
    for error in errors:
        where, siblings = _locate(error["loc"], kind, path)
        by_path.setdefault(where, []).append((error, siblings))
    lines = []
    for where, found in by_path.items():
        misfit = all(error["type"] in _KINDS for error, _ in found)
        if misfit and any(other.startswith((f"{where}[", f"{where}.")) for other in by_path if other != where):
            continue  # of a union, the branch whose type fits says more
        closer = [pair for pair in found if pair[0]["type"] not in _KINDS] or found
        allowed = list(dict.fromkeys(filter(None, (_allowed(error) for error, _ in closer))))
        lines.append(_line(where, *closer[0], allowed))
    return lines


def _locate(loc: tuple[int | str, ...], kind: Any, path: str) -> tuple[str, list[str]]:
    """('stages.betas[1]', the fields beside it) of a location, without the labels of the branches of unions."""
    text, siblings = path, _fields_of(kind)
    for place, entry in enumerate(loc):
        if isinstance(entry, int):
            text += f"[{entry}]"
            kind, siblings = _entry_of(kind), []
            continue
        fields, mapped = _fields_of(kind), _value_of(kind)
        inner = place < len(loc) - 1
        if inner and (_branch_of(kind, entry) is not kind or (fields and entry not in fields)):
            kind = _branch_of(kind, entry)  # the tag of a branch, which may be called like one of its fields
            continue
        if inner and not fields and mapped is None and kind is not Any:
            continue  # the label of a branch
        text += f".{entry}" if text else entry
        siblings = fields
        kind = _field_of(kind, entry) if entry in fields else mapped if mapped is not None else Any
    return text, siblings


def _parts(kind: Any) -> tuple[Any, ...]:
    """The members of a union, without what annotates them."""
    if typing.get_origin(kind) is Annotated:
        return _parts(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return tuple(part for member in typing.get_args(kind) for part in _parts(member))
    return (kind,)


def _fields_of(kind: Any) -> list[str]:
    names: list[str] = []
    for part in _parts(kind):
        if dataclasses.is_dataclass(part):
            names += [field.name for field in dataclasses.fields(part)]
        elif isinstance(part, type) and issubclass(part, pydantic.BaseModel):
            names += list(part.model_fields)
    return list(dict.fromkeys(names))


def _field_of(kind: Any, name: str) -> Any:
    for part in _parts(kind):
        if name in _fields_of(part):
            if dataclasses.is_dataclass(part):
                return typing.get_type_hints(part, include_extras=True)[name]
            return part.model_fields[name].annotation
    return Any


def _branch_of(kind: Any, tag: str) -> Any:
    """The member of a discriminated union that has this tag; the whole where there is none."""
    for part in _parts(kind) if len(_parts(kind)) > 1 else ():
        if dataclasses.is_dataclass(part):
            hints = typing.get_type_hints(part, include_extras=True)
            literals = [hint for hint in hints.values() if typing.get_origin(hint) is typing.Literal]
            if any(tag in typing.get_args(literal) for literal in literals):
                return part
    return kind


def _value_of(kind: Any) -> Any:
    """The type of a mapping's values; None of what is no mapping."""
    for part in _parts(kind):
        if typing.get_origin(part) in (Mapping, dict):
            return typing.get_args(part)[1]
    return None


def _entry_of(kind: Any) -> Any:
    """The type of the entries of a sequence."""
    for part in _parts(kind):
        if typing.get_origin(part) in (tuple, list, Sequence):
            return typing.get_args(part)[0]
    return Any


def _allowed(error: ErrorDetails) -> str | None:
    kind, bounds = error["type"], error.get("ctx", {})
    if kind in _KINDS:
        return _KINDS[kind]
    words = {
        "greater_than": "above {gt:g}", "greater_than_equal": "at least {ge:g}",
        "less_than": "below {lt:g}", "less_than_equal": "at most {le:g}",
        "literal_error": "one of {expected}", "too_short": "at least {min_length} entries long",
    }  # fmt: skip
    return words[kind].format(**bounds) if kind in words else None


def _line(where: str, error: ErrorDetails, siblings: Sequence[str], allowed: Sequence[str]) -> str:
    kind, ctx, known = error["type"], error.get("ctx", {}), ", ".join(siblings)
    parent, _, name = where.rpartition(".")
    parent = parent or "the configuration"
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{parent} has no field {name!r}; known: {known}"
    if kind in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f"{parent} lacks the field {name!r}; it has {known}"
    if kind == "union_tag_not_found":
        return f"{where} lacks the field {ctx['discriminator']}, which chooses the others"
    if kind == "union_tag_invalid":
        tag = ctx["discriminator"].strip("'")
        return f"{where}.{tag} must be one of {ctx['expected_tags']}, got {ctx['tag']!r}"
    if kind == "value_error":
        # Raised by a validator of this package, which says what is allowed.
        text = str(ctx["error"])
        return text if text.startswith(where.split("[")[0]) else f"{where} {text}, got {short_repr(error['input'])}"
    return f"{where} must be {' or '.join(allowed) or error['msg']}, got {short_repr(error['input'])}"
