"""The interface of the instruments of an annealing test, and what they share."""

import math
import pathlib
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import jax

from deft_jax.annealing.freezing_points import Point

Result: TypeAlias = dict[str, Any]
"""The entry of an instrument in freezing.json."""
HEADROOM = 1.15  # a sweep starts this far above the freezing spectrum


class Instrument(Protocol):
    """A way to measure freezing points. Its constructor validates whatever can be validated before training."""

    name: str
    """Of its section in the configuration and of its entry in freezing.json."""

    def measure(self, workdir: pathlib.Path, devices: Sequence[jax.Device] | None) -> Result:
        """Measures, and returns the entry of freezing.json.

        Args:
          workdir: for checkpoints and curves; a measurement that was interrupted resumes from there.
          devices: to train on. None: all local ones.

        Returns:
          'points': factor -> point_dict of its freezing point. Optional 'separate': name -> beta, points to separate by
          stages in place of those of the factors, for sets without labels; 'latents': point_dict of each latent.
          Further entries are the instrument's.
        """

    def table(self, result: Result) -> str:
        """What `measure` returned, as lines for the terminal."""

    def draw(self, result: Result, directory: pathlib.Path) -> None:
        """Writes figures of what `measure` returned into a directory of the workdir."""


def point_dict(point: Point) -> dict[str, Any]:
    """A freezing point as an entry of freezing.json."""
    return {"beta": point.beta, "censored": point.censored}


def resolve_beta_max(beta_max: float | None, top: float, swept: str, section: str) -> float:
    """The beta from which a sweep starts.

    Args:
      beta_max: of the configuration; None: 15 % above the spectrum.
      top: highest freezing point of the spectrum.
      swept: name of the images of which that is the spectrum, for the message.
      section: of the configuration, for the message.

    Raises:
      ValueError: beta_max lies below the spectrum.
    """
    if beta_max is None:
        return HEADROOM * top
    if beta_max < top:
        raise ValueError(
            f"{section}.beta_max must be at least {math.ceil(top)} or None, got {beta_max:g}: the freezing spectrum "
            f"reaches {top:.1f} ({swept}), so information would be frozen from the start"
        )
    return beta_max
