"""Data sets by name. `get` imports only the module it needs: what a set depends on loads with that set."""

import importlib

# name -> 'module:function', where the function takes keyword arguments and returns a deft_jax.source.Source.
SOURCES = {
    "dsprites": "deft_jax.data.sprites:dsprites",
}


def get(name, **kw):
    """Builds the data set called `name`.

    Args:
      name: a key of SOURCES.
      **kw: passed on to the set's own function.

    Returns:
      A deft_jax.source.Source.

    Raises:
      ValueError: the name is unknown.
    """
    if name not in SOURCES:
        raise ValueError(f"unknown data set {name!r}; known: {', '.join(sorted(SOURCES))}")
    module, function = SOURCES[name].split(":")
    return getattr(importlib.import_module(module), function)(**kw)
