"""Pages of the Python interface, one per room, and the picture of the rooms. Generated from the package's sources."""

import ast
import importlib
import inspect
import pathlib
import textwrap
from xml.sax.saxutils import escape as xml_escape

from reference_docstrings import escape, eval_rst, first_sentence, to_rst

PACKAGE = pathlib.Path(__file__).parent.parent / "deft_jax"


def _imports(path: pathlib.Path) -> set[str]:
    """Rooms that a file imports from."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        imported |= {name.split(".")[1] for name in names if name.startswith("deft_jax.")}
    return imported


def rooms() -> dict[str, set[str]]:
    """Room -> the rooms that it imports from, from the lowest floor up."""
    names = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    needs = {
        name: {room for path in (PACKAGE / name).glob("*.py") for room in _imports(path)} & names - {name}
        for name in names
    }
    ordered: dict[str, set[str]] = {}
    while len(ordered) < len(names):
        ready = sorted(name for name in names - set(ordered) if needs[name] <= set(ordered))
        if not ready:
            raise ValueError(f"rooms import in a circle: {', '.join(sorted(names - set(ordered)))}")
        ordered |= {name: needs[name] for name in ready}
    return ordered


def floors() -> list[list[str]]:
    """Rooms by floor from the ground up: a room stands one floor above the highest that it imports from."""
    level: dict[str, int] = {}
    for name, needs in rooms().items():
        level[name] = 1 + max((level[need] for need in needs), default=-1)
    return [[name for name in level if level[name] == floor] for floor in range(max(level.values()) + 1)]


def _summary(room: str) -> str:
    doc = first_sentence(ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text())))
    return doc.split(". ")[0].rstrip(".")


def svg() -> str:
    """The rooms as an SVG picture: one row per floor, commands on top."""
    width, gap, margin = 800, 10, 10
    needs = rooms()
    folders = {path.parent.name for path in PACKAGE.glob("*/__main__.py")}
    commands = sorted({path.stem for path in PACKAGE.glob("*.py")} - {"__init__"} | folders)
    rows = [[("commands", ", ".join(commands), "each parses its flags and calls a room", "#fdf1d8")]]
    for names in reversed(floors()):
        below = {name: ", ".join(other for other in needs if other in needs[name]) for name in names}
        rows.append([
            (name, _summary(name), f"imports {below[name] or 'nothing of this package'}", "#e4eefa") for name in names
        ])  # fmt: skip
    parts: list[str] = []

    def text(x: float, y: float, size: int, color: str, words: str, weight: int = 400) -> None:
        parts.append(f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" font-weight="{weight}" fill="{color}">'
                     f"{xml_escape(words)}</text>")

    y = margin
    for row in rows:
        w = (width - 2 * margin - gap * (len(row) - 1)) / len(row)
        wrapped = [[textwrap.wrap(words, int((w - 24) / size)) for words, size in ((cell[1], 7.4), (cell[2], 6.6))]
                   for cell in row]  # fmt: skip
        height = 34 + max(17 * len(summary) + 15 * len(note) for summary, note in wrapped)
        for index, ((title, _, _, fill), (summary, note)) in enumerate(zip(row, wrapped, strict=True)):
            x = margin + index * (w + gap)
            parts.append(f'<rect x="{x:.0f}" y="{y}" width="{w:.0f}" height="{height}" rx="6" fill="{fill}" '
                         'stroke="#5b6b7f"/>')
            text(x + 12, y + 21, 15, "#16202c", title, 600)
            for line, words in enumerate(summary):
                text(x + 12, y + 40 + 17 * line, 13, "#26323f", words)
            for line, words in enumerate(note):
                text(x + 12, y + 39 + 17 * len(summary) + 15 * line, 11, "#5b6b7f", words)
        y += height + gap
    total = y - gap + margin
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {total}" width="{width}" height="{total}" '
            'font-family="system-ui, Segoe UI, Helvetica, Arial, sans-serif">')
    return "\n".join([head, f'<rect width="{width}" height="{total}" fill="#ffffff" rx="8"/>', *parts, "</svg>"]) + "\n"


def _members(room: str) -> list[str]:
    module = importlib.import_module(f"deft_jax.{room}")
    lines, constants = [f".. currentmodule:: deft_jax.{room}", ""], []
    for name in sorted(module.__all__, key=str.lower):
        value = getattr(module, name)
        if inspect.isclass(value) and issubclass(value, BaseException):
            lines += [f".. py:exception:: deft_jax.{room}.{name}", ""]
            lines += ["   " + line for line in to_rst(value.__doc__)]
        elif inspect.isclass(value):
            lines += [f".. autoclass:: deft_jax.{room}.{name}", "   :members:", ""]
        elif callable(value):
            lines += [f".. autofunction:: deft_jax.{room}.{name}", ""]
        else:
            constants.append((name, value))
    for name, value in constants:
        short = repr(value) if len(repr(value)) < 200 else f"{type(value).__name__} of {len(value)} entries"
        lines += [f".. py:data:: deft_jax.{room}.{name}", "", f"   ``{short}``", ""]
    return lines


def room_page(room: str) -> str:
    """The page of one room: what it is for, what it exports, and its files."""
    module = importlib.import_module(f"deft_jax.{room}")
    text = [f"(room-{room})=\n# deft_jax.{room}\n", eval_rst(to_rst(module.__doc__))]
    text += [eval_rst(_members(room)), "## Files\n"]
    lines = [".. list-table::", "   :widths: 30 70", ""]
    for path in sorted((PACKAGE / room).glob("*.py")):
        if path.stem == "__init__":
            continue
        doc = first_sentence(ast.get_docstring(ast.parse(path.read_text())))
        lines += [f"   * - ``{room}/{path.name}``", f"     - {escape(doc) or chr(92) + ' '}"]
    return "\n".join([*text, eval_rst(lines)])


def pages() -> dict[str, str]:
    """Name -> Markdown of the pages of the rooms."""
    names = list(reversed(rooms()))
    listed = "\n".join(f"api/{name}" for name in names)
    rows = [".. list-table::", "   :widths: 25 75", ""]
    for name in names:
        rows += [f"   * - :ref:`deft_jax.{name} <room-{name}>`", f"     - {escape(_summary(name))}"]
    index = "\n".join([
        "# Python interface\n",
        "The package itself has one function:\n",
        eval_rst([".. autofunction:: deft_jax.load"]),
        "Each folder exports a few names; the page of a folder documents these and lists its files.\n",
        eval_rst(rows),
        f"```{{toctree}}\n:hidden:\n\n{listed}\n```\n",
    ])  # fmt: skip
    return {"api": index} | {f"api/{name}": room_page(name) for name in names}
