"""What templates draw: sections, tables, and images as data URIs, so that a page needs no other file."""

import base64
import dataclasses
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import numpy as np

if TYPE_CHECKING:  # matplotlib loads when a figure is drawn
    from matplotlib.figure import Figure

T = TypeVar("T")


class Section:
    """A part of a run under a heading. Subclasses are dataclasses; their template reads their fields as `section`."""

    heading: ClassVar[str]
    template: ClassVar[str]


@dataclasses.dataclass(frozen=True)
class Image:
    """A picture.

    Attributes:
      source: a data URI.
      width: in CSS pixels, where there is room.
    """

    source: str
    width: int


@dataclasses.dataclass(frozen=True)
class Table:
    """A table. The first entry of a row is its heading.

    Attributes:
      head: names of the columns.
      rows: one entry per column; None and '' are drawn as a dash, floats with three digits.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]


def image_of(figure: "Figure", kind: Literal["svg", "png"] = "svg") -> Image:
    """A matplotlib figure for the page.

    Args:
      figure: what is drawn.
      kind: 'svg', or 'png' for figures with many marks or images, which would be larger as SVG.

    Returns:
      The image; the same bytes for the same figure.
    """
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "deft_jax"}):
        figure.savefig(
            buffer, format=kind, dpi=192, facecolor="white",
            metadata={"Date": None, "Creator": None} if kind == "svg" else {"Software": None},
        )  # fmt: skip
    mime = "image/svg+xml" if kind == "svg" else "image/png"
    return Image(_data_uri(mime, buffer.getvalue()), round(96 * figure.get_figwidth()))


def png_uri(pixels_HxWxC: np.ndarray) -> str:
    """Pixels as the data URI of a PNG, one pixel each.

    Args:
      pixels_HxWxC: in [0, 1]; for C see evaluation.image_grids.as_rgb.
    """
    from matplotlib import image

    from deft_jax.evaluation.image_grids import as_rgb

    pixels = np.round(255 * as_rgb(pixels_HxWxC)).astype(np.uint8)
    buffer = io.BytesIO()
    image.imsave(buffer, pixels, format="png", pil_kwargs={"optimize": True})
    return _data_uri("image/png", buffer.getvalue())


def thin(entries: Sequence[T], most: int) -> list[T]:
    """At most `most` of the entries, evenly spread, the first and the last among them.

    Example:
      >>> thin(range(9), 3)
      [0, 4, 8]
    """
    if len(entries) <= most:
        return list(entries)
    return [entries[index] for index in np.linspace(0, len(entries) - 1, most).round().astype(int)]


def _data_uri(mime: str, content: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"
