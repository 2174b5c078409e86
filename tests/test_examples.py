"""Examples in docstrings of public functions of metrics, objectives and data: each function has one, and it runs."""

import doctest
import importlib
import inspect

import pytest

from deft_jax import data, metrics, objectives


def _public(room):
    """Functions and classes that a room exports, and those that it knows by name."""
    names = {name: getattr(room, name) for name in room.__all__}
    return {name: value for name, value in names.items() if inspect.isfunction(value) or inspect.isclass(value)}


def _registered():
    for name in metrics.REGISTRY:
        yield f"metrics.{name}", metrics.get(name)
    for name in objectives.OBJECTIVES:
        yield f"objectives.{name}", objectives.function_of(name)
    for name in data.SOURCES:
        if not data.SOURCES[name].startswith("tiny:"):
            yield f"data.{name}", data.function_of(name)


CASES = dict(_registered()) | {
    f"{room.__name__.rpartition('.')[2]}.{name}": value
    for room in (metrics, objectives, data)
    for name, value in _public(room).items()
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_example_runs(name):
    function = inspect.unwrap(CASES[name])
    module = importlib.import_module(function.__module__)
    tests = doctest.DocTestFinder(recurse=False).find(function, name, module=module, globs=vars(module).copy())
    examples = [test for test in tests if test.examples]
    assert examples, f"{name} has no example in its docstring"
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    for test in examples:
        assert runner.run(test, clear_globs=False).failed == 0
