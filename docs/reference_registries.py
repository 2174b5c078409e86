"""Pages of objectives, metrics and data sets, generated from the registries and the docstrings of their functions."""

import inspect
import re
import typing
from collections.abc import Callable
from typing import Any

from reference_docstrings import escape, eval_rst, first_sentence
from reference_types import describe

from deft_jax import data, metrics, objectives

KINDS = {
    "samples": "codes [N, D] and factors [N, F]",
    "posteriors": "means and logvars [N, D] and factors [N, F]",
    "codes": "codes [N, D]",
    "sampler": "an encode function and the factors' sizes",
    "runs": "codes of several runs",
}


def _type_of(parameter: inspect.Parameter, hints: dict[str, Any]) -> str:
    if parameter.name in hints:
        return describe(hints[parameter.name])
    default = parameter.default
    return "" if default in (None, parameter.empty) else type(default).__name__


def _meaning(function: Callable[..., Any], option: str) -> str:
    """What the docstring states about an option: its entry under Args, or the sentence that begins with its name."""
    doc = inspect.getdoc(function) or ""
    entry = re.search(rf"^ +(?:[\w]+, )*{option}(?:, \w+)*: (.*(?:\n {{4,}}.*)*)", doc, re.MULTILINE)
    sentence = re.search(rf"(?:^|[.\s]){option}: ([^.]*(?:\.\d[^.]*)*)\.", doc)
    match = entry or sentence
    return " ".join(match[1].split()) if match else ""


def options_table(function: Callable[..., Any], given: tuple[str, ...], prefix: str) -> list[str]:
    """The options of a function as a table: name, type with bounds, default, meaning."""
    signature = inspect.signature(function)
    try:
        hints = typing.get_type_hints(inspect.unwrap(function), include_extras=True)
    except (NameError, TypeError):
        hints = {}
    skip = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    options = [item for item in signature.parameters.values() if item.name not in given and item.kind not in skip]
    if not options:
        return ["It has no options.", ""]
    meanings = {option.name: escape(_meaning(function, option.name)) for option in options}
    # Where the docstring has a section Args, the meanings are above the table.
    has_meanings = "Args:" not in (inspect.getdoc(function) or "") and any(meanings.values())
    rows = []
    for option in options:
        default = "required" if option.default is option.empty else f"``{option.default!r}``"
        kind = escape(_type_of(option, hints)) or "\\ "
        row = (f"``{prefix}{option.name}``", kind, default)
        rows.append((*row, meanings[option.name] or "\\ ") if has_meanings else row)
    if has_meanings:
        return _table(("Option", "Type", "Default", "Meaning"), rows, "26 22 14 38")
    return _table(("Option", "Type", "Default"), rows, "40 35 25")


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]], widths: str) -> list[str]:
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", ""]
    for row in (head, *rows):
        lines += [f"   {'*' if index == 0 else ' '} - {cell}" for index, cell in enumerate(row)]
    return [*lines, ""]


def _function(function: Callable[..., Any], path: str) -> list[str]:
    return [f".. autofunction:: {path}", ""]


def objectives_fragment() -> str:
    """All objectives: a table and a section each, for reference/objectives.md to include."""
    rows, parts = [], []
    seen: dict[Callable[..., Any], str] = {}
    for name in objectives.OBJECTIVES:
        function = objectives.function_of(name)
        rows.append((f":ref:`{name} <objective-{name}>`", escape(first_sentence(function.__doc__))))
        parts.append(f"(objective-{name})=\n## {name}\n")
        if function in seen:
            parts.append(f"The loss of `{seen[function]}`, above; the two differ in their stages and learning rates.\n")
            continue
        seen[function] = name
        lines = _function(function, f"{function.__module__}.{function.__name__}")
        lines += options_table(function, ("beta", "latents", "num_images"), "objective.")
        parts.append(eval_rst(lines))
    text = [
        eval_rst(_table(("Name", "Loss added to the reconstruction loss"), rows, "25 75")),
    ]
    return "\n".join([*text, *parts])


def metric_pages() -> dict[str, str]:
    """The page of every metric, and the table of them for reference/metrics.md to include."""
    pages, rows = {}, []
    for name, kind in metrics.REGISTRY.items():
        function = metrics.get(name)
        module = inspect.getmodule(function)
        lines = [escape(first_sentence(module.__doc__ if module else "")), "", f"*Takes* {KINDS[kind]}.", ""]
        lines += [*_function(function, f"deft_jax.metrics.{name}.{name}")]
        lines += options_table(function, metrics.CALLER_ARGUMENTS, "")
        pages[f"metrics/{name}"] = f"(metric-{name})=\n# {name}\n\n{eval_rst(lines)}"
        source = first_sentence(module.__doc__ if module else "").rstrip(".")
        rows.append((f":ref:`{name} <metric-{name}>`", escape(source), KINDS[kind]))
    names = "\n".join(f"/reference/generated/metrics/{name}" for name in metrics.REGISTRY)
    pages["fragments/metrics"] = "\n".join([
        eval_rst(_table(("Name", "Definition and source", "Takes"), rows, "22 50 28")),
        f"```{{toctree}}\n:hidden:\n\n{names}\n```\n",
    ])  # fmt: skip
    return pages


def data_fragment() -> str:
    """All data sets: a table and a section each, for reference/data_sets.md to include."""
    rows, parts = [], []
    for name, path in data.SOURCES.items():
        function = data.function_of(name)
        if not path.startswith("deft_jax."):
            continue
        rows.append((f":ref:`{name} <data-{name}>`", escape(first_sentence(function.__doc__))))
        lines = _function(function, path.replace(":", "."))
        lines += options_table(function, (), "data.")
        parts += [f"(data-{name})=\n## {name}\n", eval_rst(lines)]
    text = [
        eval_rst(_table(("Name", "Images"), rows, "25 75")),
    ]
    return "\n".join([*text, *parts])


def pages() -> dict[str, str]:
    """Name -> Markdown of every page of the registries."""
    return {"fragments/objectives": objectives_fragment(), "fragments/data_sets": data_fragment()} | metric_pages()
