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
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("deft_jax.")}
    return found


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
    width, height, gap, margin = 800, 74, 10, 10
    stack = [*floors()]
    needs = rooms()
    commands = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")
    total = margin * 2 + (len(stack) + 1) * (height + gap) - gap
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {total}" width="{width}" height="{total}" '
        'font-family="system-ui, Segoe UI, Helvetica, Arial, sans-serif">',
        f'<rect width="{width}" height="{total}" fill="#ffffff" rx="8"/>',
    ]

    def box(x: float, y: float, w: float, title: str, note: str, lines: list[str], fill: str) -> None:
        parts.append(f'<rect x="{x:.1f}" y="{y}" width="{w:.1f}" height="{height}" rx="6" fill="{fill}" stroke="#5b6b7f"/>')
        parts.append(f'<text x="{x + 12:.1f}" y="{y + 20}" font-size="15" font-weight="600" fill="#16202c">'
                     f"{xml_escape(title)}</text>")
        room_left = int((w - 40) / 6.2) - int(len(title) * 1.6)
        if note and len(note) > room_left:
            note = note[: room_left - 3] + "..."
        parts.append(f'<text x="{x + w - 12:.1f}" y="{y + 20}" font-size="11" fill="#5b6b7f" text-anchor="end">'
                     f"{xml_escape(note)}</text>")
        for index, line in enumerate(lines):
            parts.append(f'<text x="{x + 12:.1f}" y="{y + 42 + 17 * index}" font-size="13" fill="#3a4654">'
                         f"{xml_escape(line)}</text>")

    box(margin, margin, width - 2 * margin, "commands: " + ", ".join(commands), "",
        ["python -m deft_jax.NAME; each is a thin file that parses its flags and calls a room"], "#fdf1d8")
    for floor, names in enumerate(reversed(stack)):
        y = margin + (floor + 1) * (height + gap)
        w = (width - 2 * margin - gap * (len(names) - 1)) / len(names)
        for index, name in enumerate(names):
            below = ", ".join(other for other in needs if other in needs[name]) or "nothing of this package"
            lines = textwrap.wrap(_summary(name), int((w - 24) / 6.6), max_lines=2, placeholder=" ...")
            box(margin + index * (w + gap), y, w, name, f"imports {below}", lines, "#e4eefa")
    return "\n".join([*parts, "</svg>"]) + "\n"


def _members(room: str) -> list[str]:
    module = importlib.import_module(f"deft_jax.{room}")
    lines, constants = [f".. currentmodule:: deft_jax.{room}", ""], []
    for name in sorted(module.__all__, key=str.lower):
        value = getattr(module, name)
        if inspect.isclass(value) and issubclass(value, BaseException):
            lines += [f".. py:exception:: deft_jax.{room}.{name}", "", *("   " + line for line in to_rst(value.__doc__)), ""]
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
