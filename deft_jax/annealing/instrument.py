"""What the instruments of the annealing test share."""

import math

from deft_jax.annealing.freezing_points import Point

HEADROOM = 1.15  # a sweep starts this far above the freezing spectrum


def point_dict(point: Point) -> dict:
    """A freezing point as freezing.json holds it."""
    return {"beta": point.beta, "censored": point.censored}


def resolve_beta_max(given: float | None, top: float, where: str, section: str) -> float:
    """Where a sweep starts: above the spectrum, or at the given beta, which must not lie below the spectrum."""
    if given is None:
        return HEADROOM * top
    if given < top:
        raise ValueError(
            f"{section}.beta_max = {given:g} lies below the freezing spectrum, which reaches {top:.1f} ({where}): "
            f"information would be frozen from the start; leave it out, or take at least {math.ceil(top)}"
        )
    return given
