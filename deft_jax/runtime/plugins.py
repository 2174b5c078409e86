"""Functions of the user's own, named as 'module:function'."""

import importlib
from collections.abc import Callable

from deft_jax.runtime.options import short_repr


def load_function(name, what: str) -> Callable | None:
    """The function that 'module:function' names, of a module of the user's; None of a name without a colon.

    what: what it makes, for the message. Raises ValueError where there is no such function.
    """
    if not (isinstance(name, str) and ":" in name):
        return None
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"cannot find the {what} {name!r}, a function of a module of yours: {error}") from None
    if not callable(found):
        raise ValueError(f"the {what} {name!r} is no function but {short_repr(found)}")
    return found
