"""What is chosen by name: a key of a table, or 'module:function' of the user."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from deft_jax.runtime.messages import short_repr

T = TypeVar("T")


def choose(table: Mapping[str, T], name: Any, what: str) -> T:
    """table[name].

    Args:
      table: name -> value.
      name: a key of it.
      what: what the names stand for, for the message.

    Raises:
      ValueError: the name is unknown; the message lists the known ones.
    """
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"unknown {what} {short_repr(name)}; known: {', '.join(sorted(table))}")
    return table[name]


def load_function(name: Any, what: str) -> Callable[..., Any] | None:
    """The function that 'module:function' names.

    Args:
      name: 'module:function'; anything else is not a function of the user.
      what: what the function returns, for the message.

    Returns:
      The function; None where `name` has no colon.

    Raises:
      ValueError: the module cannot be imported, or has no such function.
    """
    if not (isinstance(name, str) and ":" in name):
        return None
    module, _, function = name.partition(":")
    try:
        value = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        remedy = "run in the folder of its file, or set PYTHONPATH"
        raise ValueError(f"cannot find the {what} {name!r}, {error}; {remedy}") from None
    if not callable(value):
        raise ValueError(f"the {what} {name!r} is no function but {short_repr(value)}")
    return value
