"""Data sets as sources: named factors and a pure renderer that runs inside the compiled training step.

`get` loads a set by name, with whatever it depends on; `Source` is the contract that every set fulfils, built-in or of
the user ('module:function'). Other rooms know a data set by its Source alone.
"""

from deft_jax.data.registry import SOURCES, function_of, get, option_types, path_options, with_absolute_paths
from deft_jax.data.source import LIKELIHOODS, Source

__all__ = [
    "LIKELIHOODS", "SOURCES", "Source", "function_of", "get", "option_types", "path_options", "with_absolute_paths",
]  # fmt: skip
