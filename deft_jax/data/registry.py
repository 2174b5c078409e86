"""Data sets by name. Each is imported when it is asked for, with what it depends on."""

import importlib
import inspect
import os
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deft_jax.data.source import Source
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
    "mpi3d": "deft_jax.data.published:mpi3d",
    "falcor3d": "deft_jax.data.published:falcor3d",
    "isaac3d": "deft_jax.data.published:isaac3d",
    "vectors": "deft_jax.data.vectors:vectors",
    "digits": "deft_jax.data.vectors:digits",
    "breast_cancer": "deft_jax.data.vectors:breast_cancer",
}


def function_of(name: str) -> Callable[..., Source]:
    """The function that loads the data set of this name.

    Args:
      name: a key of SOURCES or 'module:function'; fixed factors in parentheses are ignored.

    Returns:
      A function of keyword arguments that returns a Source; its signature declares the options of the set.

    Raises:
      ValueError: the name is unknown; the message lists the known ones.

    Example:
      >>> import inspect
      >>> print(inspect.signature(function_of("translation")))
      (grid: str = 'cartesian') -> deft_jax.data.source.Source
      >>> function_of("translation(posX=3)") is function_of("translation")
      True
    """
    name = str(name).partition("(")[0].strip()
    plugin = plugins.load_function(name, "data set")
    if plugin is not None:
        return plugin
    module, _, function = plugins.choose(SOURCES, name, "data set").partition(":")
    return getattr(importlib.import_module(module), function)


def option_types() -> dict[str, type]:
    """The options of all data sets in SOURCES, with the type of their values on the command line.

    Reads the signatures of the sets' functions. This imports the modules of all sets, but not the packages that only
    reading their files needs.

    Returns:
      Option -> bool, int, float, str (also of paths) or tuple (of any sequence).

    Example:
      >>> types = option_types()
      >>> types["path"], types["size"], types["download"], types["names"]
      (<class 'str'>, <class 'int'>, <class 'bool'>, <class 'tuple'>)
    """
    types: dict[str, type] = {}
    for name in SOURCES:
        for option, parameter in inspect.signature(function_of(name)).parameters.items():
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                types.setdefault(option, _flag_type(parameter))
    return types


def _flag_type(parameter: inspect.Parameter) -> type:
    """The type of a value on the command line: the first member of an annotation `str | os.PathLike | None`."""
    annotation = parameter.annotation
    if annotation is parameter.empty:
        annotation = type(parameter.default)
    parts = () if typing.get_origin(annotation) is Sequence else typing.get_args(annotation)
    first = next((part for part in parts if part is not type(None)), annotation)
    kind = tuple if typing.get_origin(first) is Sequence else first
    return kind if kind in (bool, int, float, str, tuple) else str


def path_options(name: str) -> tuple[str, ...]:
    """The options of a data set that are paths: those annotated with os.PathLike.

    Args:
      name: of the set, as for `get`.

    Raises:
      ValueError: the set is unknown.

    Example:
      >>> path_options("folder")
      ('path', 'cache')
      >>> path_options("dsprites")
      ()
    """
    parameters = inspect.signature(function_of(name)).parameters
    return tuple(option for option, parameter in parameters.items() if _is_path(parameter.annotation))


def _is_path(annotation: Any) -> bool:
    return annotation is os.PathLike or any(map(_is_path, typing.get_args(annotation)))


def with_absolute_paths(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a data set with absolute paths, so that they hold in any working directory.

    Args:
      name: of the set, as for `get`.
      options: name -> value.

    Returns:
      The options; paths are absolute and a leading ~ is expanded.

    Raises:
      ValueError: the set is unknown, or a path is not on a local file system.

    Example:
      >>> with_absolute_paths("folder", {"path": "/data/faces/../chairs", "size": 64})
      {'path': '/data/chairs', 'size': 64}
    """
    absolute = dict(options)
    for option in path_options(name):
        if isinstance(absolute.get(option), str | os.PathLike):
            absolute[option] = os.path.abspath(local_path(absolute[option], f"data.{option}"))
    return absolute


@pinned()
def get(name: str, *, only: Mapping[str, Any] | None = None, **options: Any) -> Source:
    """Loads a data set, or the part of it in which some factors are fixed.

    Args:
      name: a key of SOURCES, or 'module:function' for a function of the user that takes keyword arguments and returns a
        Source. Factors may be fixed in parentheses: 'dsprites(shape=heart)',
        'dsprites(shape=heart, orientation=0:40:4)'.
      only: further factors to fix, as a mapping factor -> value or values; see deft_jax.data.subset.
      **options: arguments of the set's function. An option that is None takes its default.

    Returns:
      A deft_jax.data.source.Source.

    Raises:
      ValueError: the name, an option, a fixed factor or its value is unknown.

    Example:
      >>> import jax, numpy as np
      >>> source = get("translation(posY=0:11)", grid="cartesian")
      >>> source.factor_names, source.factor_sizes, source.image_shape
      (('posX', 'posY'), (22, 11), (64, 64, 1))
      >>> images = source.render(source.arrays, np.array([[0, 0], [21, 10]]), jax.random.key(0))
      >>> images.shape, float(images.max())
      ((2, 64, 64, 1), 1.0)
      >>> get("translation", grid="hexagonal")
      Traceback (most recent call last):
      ValueError: unknown grid 'hexagonal'; known: cartesian, honeycomb, polar
    """
    match = re.fullmatch(r"([^()]*)(?:\((.*)\))?", str(name).strip())
    if not match:
        raise ValueError(f"cannot read the data set {name!r}; write NAME or NAME(FACTOR=VALUE, ...)")
    fixed = dict(validation.check(Mapping[str, Any], only or {}, "data.only"))
    for item in filter(None, re.split(r"\s*,\s*", (match[2] or "").strip())):
        factor, equals, value = (part.strip() for part in item.partition("="))
        if not (factor and equals and value):
            raise ValueError(f"cannot read {item!r} in the data set {name!r}; write FACTOR=VALUE")
        fixed[factor] = value
    function = function_of(match[1])
    options = {option: value for option, value in options.items() if value is not None}
    source = function(**validation.options_of(function, options, "data"))
    if not fixed:
        return source
    from deft_jax.data import subset

    return subset.subset(source, fixed)
