"""Pages of the configuration: every field with its type, bounds, default and meaning.

They are generated from the typed sections in training/config.py, annealing/config.py and studies/config.py: types and
bounds from the annotations, the meaning from the docstring below each field, and an example of the value from a
configuration in configs/.
"""

import ast
import dataclasses
import importlib
import inspect
import itertools
import pathlib
import runpy
import textwrap
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple

from reference_docstrings import escape, eval_rst, first_sentence, to_rst
from reference_types import describe

ROOT = pathlib.Path(__file__).parent.parent


class Page(NamedTuple):
    """A configuration: the class of its root, the role that links to its fields, and an example with real values."""

    module: str
    root: str
    role: str
    title: str
    command: str
    example: str


PAGES = {
    "fields_training": Page(
        "deft_jax.training.config", "TrainingConfig", "field", "Fields of a training",
        "python -m deft_jax.train", "configs/dsprites_deft.py",
    ),
    "fields_annealing": Page(
        "deft_jax.annealing.config", "AnnealingConfig", "annealing-field", "Fields of an annealing test",
        "python -m deft_jax.annealing", "configs/ifp_dsprites.py",
    ),
    "fields_study": Page(
        "deft_jax.studies.config", "StudyConfig", "study-field", "Fields of a study",
        "python -m deft_jax.sweep", "configs/studies/dsprites.py",
    ),
}  # fmt: skip


class ConfigField(NamedTuple):
    """A field of a configuration.

    Attributes:
      path: dotted, as on the command line; an option of a named function is SECTION.OPTION.
      type: with bounds, in words. default: as Python, or None where the field is required. meaning: its docstring.
    """

    path: str
    type: str
    default: str | None
    meaning: str


class Section(NamedTuple):
    """A section of a configuration. path: '' for the root. variant: the value of the field that chooses it, or ''."""

    path: str
    variant: str
    doc: str
    fields: tuple[ConfigField, ...]


def _source_docs(cls: type) -> dict[str, str]:
    """Field -> the docstring below it, of a class and its bases."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        try:
            node = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        except (OSError, TypeError):
            continue
        body = node.body if isinstance(node, ast.ClassDef) else []
        for item, after in itertools.pairwise(body):
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and isinstance(after, ast.Expr):
                value = after.value
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    docs[item.target.id] = inspect.cleandoc(value.value)
    return docs


def _meanings(cls: type) -> dict[str, str]:
    """Field -> its meaning: as pydantic has read it, else as the source has it."""
    described = {
        name: info.description for name, info in getattr(cls, "__pydantic_fields__", {}).items() if info.description
    }
    return _source_docs(cls) | described


def _default(field: dataclasses.Field) -> str | None:
    default, factory = field.default, field.default_factory
    if default is dataclasses.MISSING and factory is dataclasses.MISSING:
        return None
    info_default = getattr(default, "default", default)  # of pydantic's FieldInfo
    value = info_default if factory is dataclasses.MISSING else factory()
    return "a section of defaults" if dataclasses.is_dataclass(value) else repr(value)


def _sections_of(annotation: Any) -> tuple[list[type], bool]:
    """The section classes in an annotation, and whether they are the values of a mapping."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _sections_of(arguments[0])
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return [annotation], False
    if origin is Mapping:
        return _sections_of(arguments[1])[0], True
    if origin is not None and origin is not tuple:
        inner = [_sections_of(part) for part in arguments]
        return [cls for classes, _ in inner for cls in classes], any(mapped for _, mapped in inner)
    return [], False


def sections(cls: type, path: str = "", variant: str = "", not_below: tuple[str, ...] = ()) -> Iterator[Section]:
    """Every section of a configuration, from the root down.

    Args:
      cls: a class decorated with `deft_jax.runtime.validation.section`.
      path: of that section. variant: see `Section`.
      not_below: fields whose sections are left out, because they have a page of their own.
    """
    hints, meanings = typing.get_type_hints(cls, include_extras=True), _meanings(cls)
    own: list[ConfigField] = []
    below: list[tuple[type, str, str]] = []
    for field in dataclasses.fields(cls):
        annotation = hints[field.name]
        place = f"{path}.{field.name}".lstrip(".")
        if field.name == "options" and "name" not in place.split(".")[-1:]:
            place = f"{path}.OPTION"  # options stand beside the name
        classes, mapped = _sections_of(annotation)
        own.append(ConfigField(place, describe(annotation), _default(field), meanings.get(field.name, "")))
        if field.name in not_below:
            continue
        for inner in classes:
            rule = typing.get_type_hints(inner, include_extras=True).get("rule") if len(classes) > 1 else None
            below.append((inner, f"{place}.NAME" if mapped else place, str(*typing.get_args(rule)) if rule else ""))
    yield Section(path, variant, inspect.getdoc(cls) or "", tuple(own))
    for inner, place, rule in below:
        yield from sections(inner, place, rule)


def example_values(path: str) -> Mapping[str, Any]:
    """Field -> value of a configuration in configs/."""
    config = runpy.run_path(str(ROOT / path))["get_config"]()

    def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
        flat: dict[str, Any] = {}
        for name in values:
            value = values[name] if name in values else None
            flat |= flatten(value, f"{prefix}{name}.") if hasattr(value, "items") else {prefix + name: value}
        return flat

    return flatten(config)


def markdown(page: Page) -> str | None:
    """The page of a configuration; None where this version of the package has none."""
    try:
        root = getattr(importlib.import_module(page.module), page.root)
    except ImportError:
        return None
    examples = example_values(page.example)
    text = [
        f"# {page.title}\n",
        f"{first_sentence(root.__doc__)}\n",
        f"Set a field on the command line by its path: `{page.command} --config FILE --config.PATH=VALUE`.\n"
        "A field without a default is required; a configuration in `configs/` states it. "
        f"Examples are the values of `{page.example}`.\n",
    ]
    named: set[str] = set()
    heads = {field.path: field for section in sections(root, not_below=("runs",)) for field in section.fields}
    for section in sections(root, not_below=("runs",)):
        if section.path:
            variant = f", rule = {section.variant!r}" if section.variant else ""
            text.append(f"## {section.path}{variant}\n")
            text.append(eval_rst(to_rst(section.doc)))
            head = heads.get(section.path)
            if head is not None and head.default is not None and head.type == "section":
                text.append("The section may be left out; its fields then have their defaults.\n")
        lines: list[str] = []
        for field in section.fields:
            if field.type.startswith("section") and "None" not in field.type:
                continue  # its fields follow below a heading of their own
            lines += [f".. {page.role}:: {field.path}"]
            if field.path in named:
                lines += ["   :no-index:"]
            named.add(field.path)
            facts = [f"Type: {escape(field.type)}", f"Default: {_code(field.default)}" if field.default else "Required"]
            if field.path.endswith(".OPTION"):
                facts = ["Type and default: those of the parameter of that function"]
            value = examples.get(field.path)
            if value not in (None, ()) and repr(value) != field.default:
                facts.append(f"Example: {_code(repr(value))}")
            lines += ["", f"   {escape(' '.join(field.meaning.split()))}", "", "   .. container:: field-facts", ""]
            lines += [f"      {'. '.join(facts)}.", ""]
        text.append(eval_rst(lines))
    return "\n".join(text)


def _code(text: str) -> str:
    return f"``{text}``"


def pages() -> dict[str, str]:
    """Name -> Markdown of every page of fields."""
    texts = {name: markdown(page) for name, page in PAGES.items()}
    return {name: text for name, text in texts.items() if text is not None}
