"""From the errors of pydantic to lines: the path of a field, what was given and what is allowed."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic_core import ErrorDetails

from deft_jax.runtime.messages import short_repr

SEQUENCES = (tuple, list, Sequence)
SECTION = "a section with fields of its own"
_KINDS = {
    "int_type": "a whole number", "float_type": "a number", "finite_number": "a finite number",
    "bool_type": "True or False", "string_type": "text", "tuple_type": "a list",
    "dict_type": SECTION, "mapping_type": SECTION, "dataclass_type": SECTION, "model_attributes_type": SECTION,
}  # fmt: skip
_BOUNDS = {
    "greater_than": "above {gt}", "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}", "less_than_equal": "at most {le}", "multiple_of": "a multiple of {multiple_of}",
    "literal_error": "one of {expected}", "too_short": "a list with at least {min_length} entries",
}  # fmt: skip


def lines_of(errors: Sequence[ErrorDetails], kind: Any, path: str) -> list[str]:
    """The lines of the errors that pydantic has raised, one per field: those of the members of a union are joined.

    Args:
      errors: of a pydantic.ValidationError.
      kind: the type that the value was validated against.
      path: of the value.
    """
    by_path: dict[str, list[tuple[ErrorDetails, Any]]] = {}
    for error in errors:
        where, parent = _locate(error["loc"], kind, path)
        by_path.setdefault(where, []).append((error, parent))
    lines = []
    for where, faults in by_path.items():
        of_type = [error["type"] in _KINDS for error, _ in faults]
        may_follow = all(error["type"] in (*_KINDS, "too_short") for error, _ in faults)
        if may_follow and any(other.startswith((f"{where}[", f"{where}.")) for other in by_path):
            continue  # another member of the union has the right type, or entries are missing because they are faulty
        if not all(of_type):  # so does this one: its fault says more than that other members have another type
            faults = [fault for fault, wrong_type in zip(faults, of_type, strict=True) if not wrong_type]
        lines.append(_line(where, [error for error, _ in faults], faults[0][1]))
    return lines


def _line(where: str, errors: Sequence[ErrorDetails], parent: Any) -> str:
    """The message for one field; parent: the type that has it."""
    kind, context, value = errors[0]["type"], errors[0].get("ctx", {}), short_repr(errors[0]["input"])
    section_path, _, name = where.rpartition(".")
    if kind == "invalid_key":  # a key that is no text
        path = where.removesuffix(f"[{errors[0]['input']}]") or "the configuration"
        return f"{path} has no field {errors[0]['input']!r}: names of fields are text"
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        return unknown_field(section_path, name, _fields(parent))
    if kind in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return missing_field(section_path, name)
    if kind == "union_tag_not_found":
        return f"{where} lacks the field {context['discriminator']}, which chooses the others"
    if kind == "union_tag_invalid":
        tag = context["discriminator"].strip("'")
        return f"{where}.{tag} must be one of {context['expected_tags']}, got {context['tag']!r}"
    if kind == "value_error":  # raised by a validator, which says what is allowed
        return f"{where} {context['error']}, got {value}"
    allowed = dict.fromkeys(_allowed(error) for error in errors)
    return f"{where or 'the configuration'} must be {' or '.join(allowed)}, got {value}"


def unknown_field(path: str, name: str, known: Iterable[str]) -> str:
    """The line for a field that its section does not have, with the known one of the most similar name."""
    names = list(known)
    nearest = difflib.get_close_matches(str(name), names, n=1)
    question = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return f"{path or 'the configuration'} has no field {name!r}; known: {', '.join(names) or 'none'}{question}"


def missing_field(path: str, name: str) -> str:
    """The line for a field that its section must have."""
    return f"{path or 'the configuration'} lacks the field {name!r}, which has no default"


def _allowed(error: ErrorDetails) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind in _BOUNDS:
        bounds = {name: f"{bound:g}" if isinstance(bound, float) else bound for name, bound in context.items()}
        return _BOUNDS[kind].format(**bounds)
    return _KINDS.get(kind, error["msg"])


def _locate(loc: tuple[int | str, ...], kind: Any, path: str) -> tuple[str, Any]:
    """('stages.betas[1]', the type that has the last field) of a location of pydantic.

    A location also has a label for each union that was entered: the tag of a discriminated one, or the name of a type.
    """
    text, parent = path, kind
    for place, entry in enumerate(loc):
        fields, values = _fields(kind), _values(kind)
        last = place == len(loc) - 1
        if isinstance(entry, int):
            text += f"[{entry}]"
            parent, kind = kind, _entry(kind, entry)
        elif not last and (tagged := _tagged(kind, entry)) is not None:
            kind = tagged  # before the fields, one of which may have the name of the tag
        elif values is not None or entry in fields or (last and fields):
            text += f".{entry}" if text else entry
            parent, kind = kind, fields.get(entry, values)
        # else: the name of a type
    return text, parent


def _members(kind: Any) -> Iterator[Any]:
    """The members of a union, or the type itself, without metadata."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        yield from _members(arguments[0])
    elif origin in (typing.Union, types.UnionType):
        for argument in arguments:
            yield from _members(argument)
    else:
        yield kind


def _fields(kind: Any) -> dict[str, Any]:
    """name -> type of the fields of a section, or of all sections of a union."""
    fields: dict[str, Any] = {}
    for member in _members(kind):
        if dataclasses.is_dataclass(member):
            hints = typing.get_type_hints(member, include_extras=True)
            fields |= {field.name: hints[field.name] for field in dataclasses.fields(member)}
    return fields


def _tagged(kind: Any, tag: str) -> Any | None:
    """The member of a discriminated union that has this tag."""
    members = list(_members(kind))
    for member in members if len(members) > 1 else ():
        literals = (hint for hint in _fields(member).values() if typing.get_origin(hint) is typing.Literal)
        if any(tag in typing.get_args(literal) for literal in literals):
            return member
    return None


def _values(kind: Any) -> Any | None:
    """The type of a mapping's values; None for other types."""
    mappings = (member for member in _members(kind) if typing.get_origin(member) in (Mapping, dict))
    return next((typing.get_args(mapping)[1] for mapping in mappings), None)


def _entry(kind: Any, index: int) -> Any:
    """The type of an entry of a sequence."""
    for member in _members(kind):
        if typing.get_origin(member) in SEQUENCES:
            entries = typing.get_args(member)
            return entries[0] if len(entries) == 1 or entries[1] is Ellipsis else entries[min(index, len(entries) - 1)]
    return Any
