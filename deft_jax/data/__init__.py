"""Data sets as sources: factors and a pure renderer, drawn inside the compiled step; each loads when asked for."""

from deft_jax.data.registry import SOURCES, function_of, get, option_types, path_options, with_absolute_paths
from deft_jax.data.source import LIKELIHOODS, Source

__all__ = [
    "LIKELIHOODS", "SOURCES", "Source", "function_of", "get", "option_types", "path_options", "with_absolute_paths",
]  # fmt: skip
