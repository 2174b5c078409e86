"""The section of a report on home and foreign information, read from the log and from results.json."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from deft_jax.evaluation import ledger
from deft_jax.evaluation.figures import ledger_figure
from deft_jax.reporting.elements import Image, Section, Table, image_of


@dataclasses.dataclass(frozen=True)
class InformationLedger(Section):
    """Nats of the latents, home and foreign, and what diffused in each stage.

    Attributes:
      over_training: the ledger over steps.
      stages: income and diffusion of each stage.
      latents: home, nats and account of each taken latent; None before the end of the training.
    """

    over_training: Image
    stages: Table
    latents: Table | None

    heading = "Information diffusion"
    template = "information_ledger.html.j2"


def information_ledger(
    records: Sequence[Mapping[str, Any]],
    stage_starts: Sequence[int],
    group_of_latent: Sequence[int],
    results: Mapping[str, Any],
) -> list[InformationLedger]:
    """The section; [] where no evaluation has a ledger.

    Args:
      records: of metrics.jsonl.
      stage_starts: first steps of the stages.
      group_of_latent: the group of each latent.
      results: of results.json; {} before the end of the training.
    """
    drawn = ledger_figure(records, group_of_latent=group_of_latent, stage_starts=stage_starts)
    if not drawn:
        return []
    rows = [
        (f"stage {row['stage']}, to β {row['beta']:.3g}", row["income"], row["diffused"],
         row["diffusion"] if row["stage"] else None, row["diffusion_between_evaluations"])
        for row in ledger.stage_diffusion(records)
    ]  # fmt: skip
    stages = Table(("Stage", "nats that came in", "of them diffused", "diffusion", "between evaluations"), rows)
    latents = results.get("ledger", {}).get("latents")
    return [InformationLedger(image_of(drawn["ledger"]), stages, None if latents is None else _latents_table(latents))]


def _latents_table(latents: Sequence[Mapping[str, Any]]) -> Table:
    head = ("Latent", "nats", "home", "home nats", "foreign nats", "known with the home", "rest")
    rows = [
        (
            f"z{entry['latent']} (group {entry['group']})",
            entry["information"],
            entry["home"],
            entry["home_information"],
            entry["foreign_information"],
            "; ".join(
                f"{step['factor']} {step['information']:.2f} (alone {step['alone']:.2f})" for step in entry["account"]
            ),
            entry["rest"],
        )
        for entry in latents
    ]
    return Table(head, rows)
