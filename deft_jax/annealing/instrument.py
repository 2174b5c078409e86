"""What the instruments of the annealing test share."""

import math
from collections.abc import Mapping

from deft_jax.annealing.freezing_points import Point
from deft_jax.runtime import options

HEADROOM = 1.15  # a sweep starts this far above the freezing spectrum


def without(section: Mapping, *names: str) -> dict:
    """The fields of a section but those of these names."""
    return {key: value for key, value in section.items() if key not in names}


def check_fields(name: str, section: Mapping, *fields: str) -> None:
    """That a section is one, and has these fields."""
    options.check_section(name, section)
    missing = [field for field in fields if field not in section]
    if missing:
        raise ValueError(f"{name} lacks the field {', '.join(map(repr, missing))}")


def check_reading(section: Mapping, name: str) -> None:
    """The fields by which curves are read."""
    options.check_above(f"{name}.threshold", section["threshold"])
    options.check_type(f"{name}.smooth", section["smooth"], int)
    options.check_type(f"{name}.beta_min", section["beta_min"], float)
    if section["smooth"] < 1 or section["smooth"] % 2 == 0:
        allowed = "the window of a moving mean, must be odd and at least 1"
        raise ValueError(f"{name}.smooth, {allowed}, got {section['smooth']}")


def point_dict(point: Point) -> dict:
    """A freezing point as freezing.json holds it."""
    return {"beta": point.beta, "censored": point.censored}


def resolve_beta_max(given: float | None, top: float, where: str, section: str) -> float:
    """Where a sweep starts: above the spectrum, or at the given beta, which must not lie below the spectrum."""
    if given is None:
        return HEADROOM * top
    options.check_above(f"{section}.beta_max", given)
    if given < top:
        raise ValueError(
            f"{section}.beta_max = {given:g} lies below the freezing spectrum, which reaches {top:.1f} ({where}): "
            f"information would be frozen from the start; leave it out, or take at least {math.ceil(top)}"
        )
    return given
