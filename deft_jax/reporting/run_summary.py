"""The first section of every run: facts, and all fields of the configuration."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from deft_jax.reporting.elements import Section


@dataclasses.dataclass(frozen=True)
class RunSummary(Section):
    """What was run, on which data and how far: filled by training_summary and annealing_summary.

    Attributes:
      facts: name -> text.
      configuration: JSON of all fields.
    """

    facts: Mapping[str, str]
    configuration: str

    heading = "Run"
    template = "run_summary.html.j2"


def run_summary(facts: Mapping[str, str], config: Mapping[str, Any]) -> RunSummary:
    """The section of a run; facts without text are left out."""
    return RunSummary({name: text for name, text in facts.items() if text}, json.dumps(config, indent=2))


def options_text(options: Mapping[str, Any]) -> str:
    """A section of a configuration on one line; options that are None are left out.

    Example:
      >>> options_text({"name": "dip_vae", "kind": "ii", "betas": [4, 1]})
      'dip_vae (kind ii, betas 4 1)'
    """
    fields = ", ".join(f"{name} {value_text(value)}" for name, value in options.items()
                       if name != "name" and value is not None)  # fmt: skip
    if "name" not in options:
        return fields
    return f"{options['name']} ({fields})" if fields else str(options["name"])


def value_text(value: Any) -> str:
    """A value of a configuration without brackets and quotes."""
    return " ".join(map(value_text, value)) if isinstance(value, list) else str(value)


def devices_text(devices: Sequence[str]) -> str:
    """Names of devices, each once, with their counts.

    Example:
      >>> devices_text(["H100", "H100"])
      '2 × H100'
    """
    return ", ".join(f"{list(devices).count(name)} × {name}" for name in dict.fromkeys(devices))
