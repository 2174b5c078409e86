"""Configuration of the documentation site.

    sphinx-build -W --keep-going -b html docs docs/_build/html

needs the extra `docs`. The pages under reference/generated/ are written from the package's sources at the start of
every build, and the notebooks are copied from notebooks/ and shown with the outputs that are committed there; git
ignores both.
"""

import pathlib
import re
import sys

DOCS = pathlib.Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS)]

import reference_docstrings  # noqa: E402

import deft_jax  # noqa: E402

project = "deft_jax"
author = "the authors of deft_jax"
copyright = "the authors of deft_jax, Apache 2.0"
version = release = deft_jax.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx-mathjax-offline", "sphinx_copybutton"]
# Texts that other pages include
exclude_patterns = ["_build", "extending.md", "reference/generated/fragments", "**.ipynb_checkpoints", "**.j2"]

myst_enable_extensions = ["colon_fence", "dollarmath", "amsmath", "substitution"]
myst_substitutions = {"study_fields": ", of {doc}`a study <generated/fields_study>`"}
myst_heading_anchors = 4
smartquotes = False  # quotes and flags stay as they are typed in a shell
nb_execution_mode = "off"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_maximum_signature_line_length = 90
add_module_names = False
toc_object_entries = False

nitpicky = True
# Types in signatures are written as in the source, without their modules; references of pages are all checked.
nitpick_ignore_regex = [(r"py:(class|exc|data|obj)", r".*")]

html_theme = "sphinx_book_theme"
html_title = "deft_jax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "navbar_persistent": [],
    "pygments_light_style": "friendly",
    "pygments_dark_style": "github-dark",
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def _write(path: pathlib.Path, content: bytes) -> None:
    """Writes a file where it would change, so that an incremental build reads only what is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_bytes() != content:
        path.write_bytes(content)


def _generate(app) -> None:
    import reference_commands
    import reference_config
    import reference_registries
    import reference_rooms

    folder, pages = DOCS / "reference" / "generated", {}
    for module in (reference_config, reference_commands, reference_registries, reference_rooms):
        pages |= module.pages()
    for name, text in pages.items():
        _write(folder / f"{name}.md", text.encode())
    _write(folder / "rooms.svg", reference_rooms.svg().encode())
    for path in folder.rglob("*.md"):
        if str(path.relative_to(folder).with_suffix("")) not in pages:
            path.unlink()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        _write(DOCS / "tutorials" / path.name, path.read_bytes())


def _drop_empty_patterns(app, name: str, source: list[str]) -> None:
    """Drops the patterns of a table of contents that match no page, which Sphinx warns about."""
    folder = (DOCS / name).parent
    is_pattern = re.compile(r"[\w/]+\*\n").fullmatch
    lines = source[0].splitlines(keepends=True)
    source[0] = "".join(line for line in lines if not is_pattern(line) or _matches(folder, line.strip()))


def _matches(folder: pathlib.Path, pattern: str) -> bool:
    return any(str(path.relative_to(DOCS)) not in exclude_patterns for path in folder.glob(f"{pattern}.md"))


def _docstring(app, what, name, value, options, lines: list[str]) -> None:
    lines[:] = reference_docstrings.to_rst("\n".join(lines))


def _signature(app, what, name, value, options, signature, result):
    written = reference_docstrings.signature(value) if what in ("function", "method", "class") else None
    return (written[0], written[1] or None) if written else None


def _skip(app, what, name, value, skip, options) -> bool | None:
    """Fields of a NamedTuple have no docstring of their own; the class describes them."""
    return True if (getattr(value, "__doc__", "") or "").startswith("Alias for field number") else None


def setup(app) -> None:
    app.add_object_type("field", "field", "pair: %s; field of a training")
    app.add_object_type("annealing-field", "annealing-field", "pair: %s; field of an annealing test")
    app.add_object_type("study-field", "study-field", "pair: %s; field of a study")
    app.connect("builder-inited", _generate)
    app.connect("source-read", _drop_empty_patterns)
    app.connect("autodoc-process-docstring", _docstring)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-skip-member", _skip)
