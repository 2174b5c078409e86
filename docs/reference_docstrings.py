"""Docstrings as reStructuredText.

Docstrings of this package are plain text: Google sections (Args, Returns, Raises, Example, Attributes), names in single
backticks, formulas and tables as indented blocks. They are not written as reStructuredText, so `to_rst` escapes what
would be markup and turns the structure above into directives. A docstring can therefore not break the build.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable
from typing import Any

SECTIONS = ("Args", "Arguments", "Attributes", "Returns", "Yields", "Raises", "Example", "Examples", "Note")
_INLINE = re.compile(
    r"(`[^`\n]+`|arXiv[: ]\d{4}\.\d{4,5}|https?://[^\s),;]+|(?<![^\s(])--[a-z][\w.]*(?:=[^\s,;)]*[^\s,;:.)])?)"
)
_NAME = r"\*{0,2}[A-Za-z_][\w.*]*"
_ENTRY = re.compile(rf"({_NAME}(?:, {_NAME})*|'\w+'): +(.*)")


def escape(text: str) -> str:
    """Text with its `code` as literals, arXiv numbers and addresses as links, and all other markup escaped."""
    out = ""
    for index, part in enumerate(_INLINE.split(text)):
        if index % 2 == 0:
            part = re.sub(r"([\\*`|@])", r"\\\1", part)
            part = re.sub(r"_(?=\W|$)", r"\\_", part)
            if out and out[-1] in "`_" and part[:1].isalnum():
                part = "\\ " + part
        else:
            if part.startswith("`"):
                part = f"`{part}`"
            elif part.startswith("--"):
                part = f"``{part}``"
            elif part.startswith("arXiv"):
                part = f"`{part} <https://arxiv.org/abs/{part[6:]}>`__"
            if out and (out[-1].isalnum() or out[-1] in "_^"):
                part = "\\ " + part
        out += part
    return out


def first_sentence(doc: str | None) -> str:
    """The summary of a docstring as one line of plain text."""
    paragraph = inspect.cleandoc(doc or "").partition("\n\n")[0]
    return " ".join(paragraph.split())


def _indent(lines: Iterable[str], by: int = 3) -> list[str]:
    return [" " * by + line if line else "" for line in lines]


def _literal(lines: list[str], language: str = "text") -> list[str]:
    return ["", f".. code-block:: {language}", "", *_indent(textwrap.dedent("\n".join(lines)).splitlines()), ""]


def _table(lines: list[str]) -> list[str]:
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    has_rule = len(rows) > 1 and all(re.fullmatch(r":?-+:?", cell) for cell in rows[1])
    rows = rows[:1] + rows[2:] if has_rule else rows
    out = ["", ".. list-table::", f"   :header-rows: {int(has_rule)}", ""]
    for row in rows:
        out += [f"   {'*' if index == 0 else ' '} - {escape(cell)}" for index, cell in enumerate(row)]
    return [*out, ""]


def _entries(lines: list[str]) -> list[tuple[str, list[str]]] | None:
    """Lines 'name: text' with indented continuations as (name, text lines); None where they are something else.

    A name may be quoted.
    """
    entries: list[tuple[str, list[str]]] = []
    for line in lines:
        match = _ENTRY.match(line)
        if match:
            entries.append((match[1], [match[2]]))
        elif entries and (line.startswith(" ") or not line):
            entries[-1][1].append(line)
        else:
            return None
    return entries or None


def _bullets(entries: list[tuple[str, list[str]]]) -> list[str]:
    out = [""]
    for name, text in entries:
        head, *rest = text
        body = _body([head, *textwrap.dedent("\n".join(rest)).splitlines()])
        body = body[next((i for i, line in enumerate(body) if line), 0) :]
        out += [f"- ``{name}``: {body[0] if body else ''}", *_indent(body[1:], 2)]
    return [*out, ""]


def _paragraph(lines: list[str]) -> list[str]:
    """One block without blank lines."""
    if all(line.startswith("  ") for line in lines):
        inner = _entries(textwrap.dedent("\n".join(lines)).splitlines())
        return _bullets(inner) if inner and len(inner) > 1 else _literal(lines)
    if lines[0].startswith(">>>"):
        return _literal(lines, "pycon")
    if all(line.startswith("|") for line in lines):
        return _table(lines)
    if lines[0].startswith("- "):
        return ["", *(escape(line) if line.startswith("- ") else "  " + escape(line.strip()) for line in lines), ""]
    entries = _entries(lines)
    if entries and (len(entries) > 1 or len(lines) > 1):
        return _bullets(entries)
    split = next((i for i, line in enumerate(lines) if line.startswith("  ")), len(lines))
    if split < len(lines):
        end = next((i for i in range(split, len(lines)) if not lines[i].startswith("  ")), len(lines))
        rest = lines[end:]
        return [*_paragraph(lines[:split]), *_literal(lines[split:end]), *(_paragraph(rest) if rest else [])]
    return ["", *map(escape, lines), ""]


def _body(lines: list[str]) -> list[str]:
    out: list[str] = []
    block: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            block.append(line.rstrip())
        elif block:
            out += _paragraph(block)
            block = []
    return out


def to_rst(doc: str | None) -> list[str]:
    """The lines of a docstring as reStructuredText."""
    lines = inspect.cleandoc(doc or "").splitlines()
    parts: list[tuple[str, list[str]]] = [("", [])]
    for line in lines:
        head = re.fullmatch(rf"({'|'.join(SECTIONS)}):", line)
        if head:
            parts.append((head[1], []))
        elif parts[-1][0] and line and not line.startswith(" "):
            parts.append(("", [line]))
        else:
            parts[-1][1].append(line)
    prose: list[str] = []
    fields: list[str] = []
    examples: list[str] = []
    for section, text in parts:
        text = textwrap.dedent("\n".join(text)).strip("\n").splitlines()
        if not section:
            prose += _body(text)
        elif section in ("Example", "Examples"):
            examples += ["", ".. rubric:: Example", "", *_body(text)]
        elif section == "Note":
            prose += _body(text)
        else:
            entries = _entries(text) if section not in ("Returns", "Yields") else None
            body = _bullets(entries) if entries else _body(text)
            fields += [f":{section}:", *_indent(body)]
    return [*prose, "", *fields, "", *examples, ""]


def eval_rst(lines: Iterable[str]) -> str:
    """Lines of reStructuredText as a block of a Markdown page."""
    return "````{eval-rst}\n" + "\n".join(lines).strip("\n") + "\n````\n"


def signature(function: Callable[..., Any]) -> tuple[str, str] | None:
    """(arguments, result) of a function or class as its source has them; None where there is no source."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    except (OSError, TypeError, SyntaxError):
        return None
    node = tree.body[0]
    if isinstance(node, ast.ClassDef):
        methods = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
        if not methods:
            fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
            words = [ast.unparse(item) for item in fields]
            return f"({', '.join(words)})", ""
        node = methods[0]
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    arguments = node.args
    for names in (arguments.posonlyargs, arguments.args):
        if names and names[0].arg in ("self", "cls"):
            del names[0]
            break
    result = ast.unparse(node.returns) if node.returns is not None and node.name != "__init__" else ""
    return f"({ast.unparse(arguments)})", result
