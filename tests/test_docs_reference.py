"""The generated reference: every field, flag, option and public name is in it, with its type and meaning."""

import dataclasses
import importlib
import pathlib
import re
import sys

import pytest

from deft_jax import data, metrics, objectives

DOCS = pathlib.Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module", autouse=True)
def _docs_importable():
    sys.path.insert(0, str(DOCS))
    yield
    sys.path.remove(str(DOCS))


def generator(name):
    return importlib.import_module(f"reference_{name}")


def fields_below(cls, path=""):
    """Paths of the scalar fields of a section, by its dataclasses alone."""
    config = generator("config")
    hints = importlib.import_module("typing").get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        classes, mapped = config._sections_of(hints[field.name])
        if field.name == "options":
            continue
        place = f"{path}.{field.name}".lstrip(".")
        if classes and not mapped:
            for inner in classes:
                yield from fields_below(inner, place)
        else:
            yield place


@pytest.mark.parametrize("name", ["fields_training", "fields_annealing"])
def test_every_field_has_a_type_and_a_meaning(name):
    config = generator("config")
    page = config.PAGES[name]
    text = config.markdown(page)
    root = getattr(importlib.import_module(page.module), page.root)
    documented = set(re.findall(rf"^\.\. {page.role}:: (\S+)$", text, re.MULTILINE))
    assert set(fields_below(root)) <= documented
    for section in config.sections(root):
        assert section.doc
        for field in section.fields:
            assert field.type, field.path
            assert field.meaning, f"{field.path} has no docstring"
            assert "Annotated" not in field.type, field.path


def test_every_flag_of_every_command():
    commands = generator("commands")
    described = {name: commands.flags_of(name) for name in commands.COMMANDS}
    assert all(flag.meaning for flags in described.values() for flag in flags)
    flags = {name: {flag.written.split()[0] for flag in described[name]} for name in described}
    assert {"--config", "--workdir"} <= flags["train"] & flags["annealing"] & flags["sweep"]
    assert "--jobs" in flags["sweep"]
    assert {"--workdir", "--codes", "--metrics", "--num_samples", "--seed", "--jobs"} <= flags["evaluate"]
    assert "--out" in flags["report"] & flags["gallery"]


def test_floors_hold_every_room_above_what_it_imports():
    rooms = generator("rooms")
    floors = rooms.floors()
    level = {name: floor for floor, names in enumerate(floors) for name in names}
    assert set(level) == set(rooms.rooms())
    assert all(level[need] < level[name] for name, needs in rooms.rooms().items() for need in needs)
    assert rooms.svg().count("<rect") == len(level) + 2  # with the commands and the background


@pytest.mark.parametrize(
    ("page", "names"),
    [("objectives", objectives.OBJECTIVES), ("metrics", metrics.REGISTRY), ("data_sets", data.SOURCES)],
)
def test_pages_of_the_registries_name_every_entry(page, names):
    text = (DOCS / "reference" / f"{page}.md").read_text()
    built_in = [name for name in names if not str(names[name]).startswith("tiny:")]
    assert [name for name in built_in if f"`{name}`" not in text] == []
