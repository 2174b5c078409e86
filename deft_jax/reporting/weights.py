"""Weights of a decoder as text for a page: numbers of 16 or 32 bits in base64, and what their rounding changes."""

import base64
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from deft_jax.models.decoder_layers import Layer

Precision = Literal["half", "single"]

_DTYPES = {"half": "<f2", "single": "<f4"}


def size_in_bytes(layers: Sequence[Layer], precision: Precision = "half") -> int:
    """Bytes of all weights, before base64, which adds a third."""
    return np.dtype(_DTYPES[precision]).itemsize * sum(layer.kernel.size + layer.bias.size for layer in layers)


def scale_of(values: np.ndarray) -> float:
    """The power of two by which an array is divided before it is rounded to half precision.

    Half precision ends at 65504 and loses digits below 6e-5; divided, the largest entry lies between 1/2 and 1.

    Example:
      >>> scale_of(np.array([0.3, -5.0])), scale_of(np.zeros(3))
      (8.0, 1.0)
    """
    largest = float(np.abs(values).max(initial=0.0))
    return 2.0 ** int(np.frexp(largest)[1]) if largest > 0 else 1.0


def pack(values: np.ndarray, precision: Precision) -> dict[str, Any]:
    """An array as decoder.js reads it.

    Args:
      values: finite floats of any shape.
      precision: 'half' or 'single'.

    Returns:
      'scale', a power of two, and 'data', base64 of the flat array divided by it, least significant byte first.

    Example:
      >>> pack(np.array([1.0, -0.5]), "half")
      {'scale': 2.0, 'data': 'ADgAtA=='}
    """
    scale = scale_of(values)
    content = (np.asarray(values, np.float64) / scale).astype(_DTYPES[precision]).tobytes()
    return {"scale": scale, "data": base64.b64encode(content).decode()}


def rounded(layers: Sequence[Layer], precision: Precision) -> list[Layer]:
    """The layers with the weights that a browser reads from `pack`."""

    def round_trip(values: np.ndarray) -> np.ndarray:
        scale = scale_of(values)
        return ((values / scale).astype(_DTYPES[precision]).astype(np.float64) * scale).astype(np.float32)

    return [layer._replace(kernel=round_trip(layer.kernel), bias=round_trip(layer.bias)) for layer in layers]


def pack_layers(layers: Sequence[Layer], precision: Precision) -> list[dict[str, Any]]:
    """The layers as decoder.js reads them: kind, relu, input shape, number of outputs, kernel and bias."""
    return [
        {
            "kind": layer.kind,
            "relu": layer.relu,
            "input": list(layer.input_shape),
            "outputs": layer.bias.size,
            "kernel": pack(layer.kernel, precision),
            "bias": pack(layer.bias, precision),
        }
        for layer in layers
    ]


def choose_precision(
    layers: Sequence[Layer], largest_error: Callable[[Sequence[Layer]], float], tolerance: float
) -> tuple[Precision, float]:
    """Half precision if it changes no pixel by more than the tolerance, else single.

    Args:
      layers: of a decoder.
      largest_error: of layers, the largest difference of a pixel from the decoder.
      tolerance: in units of a pixel, of which 1 is white.

    Returns:
      (precision, largest error with it).
    """
    error = largest_error(rounded(layers, "half"))
    return ("half", error) if error <= tolerance else ("single", largest_error(rounded(layers, "single")))
