"""Data sets by name. `get` imports only the module it needs: what a set depends on loads with that set."""

import importlib
import inspect
import os
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deft_jax.runtime import plugins, validation
from deft_jax.runtime.jax_settings import pinned
from deft_jax.runtime.paths import local_path

# name -> 'module:function', where the function takes keyword arguments and returns a deft_jax.data.source.Source.
SOURCES = {
    "dsprites": "deft_jax.data.sprites:dsprites",
    "color_dsprites": "deft_jax.data.variants:color_dsprites",
    "noisy_dsprites": "deft_jax.data.variants:noisy_dsprites",
    "scream_dsprites": "deft_jax.data.variants:scream_dsprites",
    "correlated": "deft_jax.data.toy:correlated",
    "translation": "deft_jax.data.toy:translation",
    "xy_squares": "deft_jax.data.toy:xy_squares",
    "tfds_dsprites": "deft_jax.data.tfds:tfds_dsprites",
    "smallnorb": "deft_jax.data.tfds:smallnorb",
    "shapes3d": "deft_jax.data.tfds:shapes3d",
    "cars3d": "deft_jax.data.tfds:cars3d",
    "archive": "deft_jax.data.archive:archive",
    "folder": "deft_jax.data.folder:folder",
}


def function_of(name: str) -> Callable:
    """The function that makes the set of this name, with or without factors to hold in parentheses.

    Raises:
      ValueError: the name is unknown; the line lists the known ones.
    """
    name = _without_subset(name)
    own = plugins.load_function(name, "data set")
    if own is not None:
        return own
    module, _, function = plugins.choose(SOURCES, name, "data set").partition(":")
    return getattr(importlib.import_module(module), function)


def option_types() -> dict[str, type]:
    """The options of all sets in SOURCES: name -> bool, int, float, str (also of paths) or tuple.

    Read off the signatures of the sets' functions, for configurations in which each option can be set on the command
    line. Imports the modules of all sets, though not what only their files need.
    """
    types = {}
    for name in SOURCES:
        for option, parameter in inspect.signature(function_of(name)).parameters.items():
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                types.setdefault(option, _flag_type(parameter))
    return types


def _flag_type(parameter) -> type:
    """The type that a value on the command line has: the first of an annotation `str | os.PathLike | None`."""
    annotation = parameter.annotation
    if annotation is parameter.empty:
        annotation = type(parameter.default)
    parts = () if typing.get_origin(annotation) is Sequence else typing.get_args(annotation)
    first = next((part for part in parts if part is not type(None)), annotation)
    kind = tuple if typing.get_origin(first) is Sequence else first
    return kind if kind in (bool, int, float, str, tuple) else str


def path_options(name: str) -> tuple[str, ...]:
    """The options of a set that are paths: those annotated with os.PathLike."""
    parameters = inspect.signature(function_of(name)).parameters
    return tuple(option for option, parameter in parameters.items() if _is_path(parameter.annotation))


def _without_subset(name: str) -> str:
    return str(name).partition("(")[0].strip()


def _is_path(annotation) -> bool:
    return annotation is os.PathLike or any(map(_is_path, typing.get_args(annotation)))


def with_absolute_paths(name: str, given: Mapping) -> dict:
    """The options of a data set with their paths absolute and ~ expanded.

    Args:
      name: of the set, as for `get`.
      given: option -> value.

    Raises:
      ValueError: the set is unknown, or a path is not on a local file system.
    """
    made = dict(given)
    for option in path_options(name):
        if isinstance(made.get(option), str | os.PathLike):
            made[option] = os.path.abspath(local_path(made[option], f"data.{option}"))
    return made


@pinned()
def get(name, *, only=None, **kw):
    """Builds the data set called `name`, or part of it.

    Args:
      name: a key of SOURCES, or 'module:function' of a function of your own which takes keyword arguments and returns a
        Source; with factors to hold in parentheses if wanted: 'dsprites(shape=heart)',
        'dsprites(shape=heart, orientation=0:40:4)'.
      only: the same as a mapping, factor -> value or values; see deft_jax.data.subset.
      **kw: passed on to the set's own function. An option that is None is left out, which is its default.

    Returns:
      A deft_jax.data.source.Source.

    Raises:
      ValueError: the name, an argument, a factor to hold or its value is unknown.
    """
    found = re.fullmatch(r"([^()]*)(?:\((.*)\))?", str(name).strip())
    if not found:
        raise ValueError(f"cannot read the data set {name!r}; write NAME or NAME(FACTOR=VALUE, ...)")
    only = dict(validation.check(Mapping[str, Any], only or {}, "data.only"))
    for item in filter(None, re.split(r"\s*,\s*", (found[2] or "").strip())):
        factor, equals, value = (part.strip() for part in item.partition("="))
        if not (factor and equals and value):
            raise ValueError(f"cannot read {item!r} in the data set {name!r}; write FACTOR=VALUE")
        only[factor] = value
    given = {option: value for option, value in kw.items() if value is not None}
    source = function_of(found[1])(**validation.options_of(function_of(found[1]), given, "data"))
    if not only:
        return source
    from deft_jax.data import subset

    return subset.subset(source, only)
