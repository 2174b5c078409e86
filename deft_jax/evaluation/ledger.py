"""The ledger of home and foreign information over a training: what evaluations log, and what the results state.

metrics/diffusion.py defines the quantities, metrics/information_ledger.py estimates them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deft_jax.metrics import information_ledger
from deft_jax.metrics.diffusion import Diffusion, Ledger, diffusion
from deft_jax.models.posterior import Posterior

Record = Mapping[str, Any]

_MIN_IMAGES = 5  # per combination of factor values, for accounts; the default of metrics/foreign.py


def ledger_record(posterior: Posterior, classes_NxF: np.ndarray, num_images: int) -> dict[str, Any]:
    """What an evaluation logs of the ledger.

    Args:
      posterior: of a sample, [N, D].
      classes_NxF: its ground truth, classes (see `scores.in_bins`), [N, F]; a factor may be constant.
      num_images: of the data set; if they are more than N, the estimates are corrected for their bias.

    Returns:
      'foreign', 'foreign_pairwise', 'spread', shares; 'home_information', 'foreign_information' [D] and
      'latent_factor_information' [D, F], nats. {} where F = 0.
    """
    if not classes_NxF.shape[1]:
        return {}
    mean_NxD, logvar_NxD = np.asarray(posterior.mean), np.asarray(posterior.logvar)
    ledger = information_ledger.estimate(mean_NxD, logvar_NxD, classes_NxF, num_images).ledger
    return _shares(ledger) | {
        "home_information": ledger.home_information,
        "foreign_information": ledger.foreign_information,
        "latent_factor_information": ledger.factor_information,
    }


def with_ledger(records: Sequence[Record]) -> list[Record]:
    """The evaluations among records that have a ledger, in their order."""
    return [record for record in records if record["kind"] == "eval" and "latent_factor_information" in record]


def ledger_of(record: Record) -> Ledger:
    """The ledger that `ledger_record` has written into a record."""
    home_D, foreign_D = (np.asarray(record[name], float) for name in ("home_information", "foreign_information"))
    return Ledger(home_D + foreign_D, np.asarray(record["latent_factor_information"], float))


def stage_diffusion(records: Sequence[Record]) -> list[dict[str, Any]]:
    """How much of what came in diffused, stage by stage.

    Args:
      records: of metrics.jsonl. A stage begins where the last evaluation before it has left the model, the first one
        with empty latents.

    Returns:
      One dict per stage: 'stage'; 'step' and 'beta' of its last evaluation; 'income', 'diffused' (nats) and 'diffusion'
      (their ratio) of the whole stage, with the homes of its start; and 'diffusion_between_evaluations', the ratio of
      the sums over the intervals between evaluations, each with homes of its own. Stages without a start are left out.
    """
    evaluations = with_ledger(records)
    if not evaluations:
        return []
    first = ledger_of(evaluations[0])
    is_whole = evaluations[0]["stage"] == 0
    previous = Ledger(np.zeros_like(first.information), np.zeros_like(first.factor_information)) if is_whole else first
    rows = []
    for stage in dict.fromkeys(record["stage"] for record in evaluations[0 if is_whole else 1 :]):
        of_stage = [record for record in evaluations if record["stage"] == stage]
        start, between = previous, Diffusion(0.0, 0.0)
        for record in of_stage:
            ledger = ledger_of(record)
            between += diffusion(previous, ledger)
            previous = ledger
        whole = diffusion(start, previous)
        rows.append(
            {
                "stage": stage,
                "step": of_stage[-1]["step"],
                "beta": of_stage[-1]["beta"],
                "income": whole.income,
                "diffused": whole.diffused,
                "diffusion": whole.share,
                "diffusion_between_evaluations": between.share,
            }
        )
    return rows


def ledger_results(
    posterior: Posterior,
    classes_NxF: np.ndarray,
    num_images: int,
    factor_names: Sequence[str],
    group_of_latent: Sequence[int],
) -> dict[str, Any]:
    """The ledger of a trained model, with standard errors, and accounts of what foreign information is about.

    Args:
      posterior: of a sample, [N, D].
      classes_NxF: its ground truth, classes, F at least 1.
      num_images: of the data set; if they are more than N, the estimates are corrected for their bias.
      factor_names: F names.
      group_of_latent: the group of each latent.

    Returns:
      'foreign', 'foreign_pairwise', 'spread' and their errors; and 'latents', one dict per taken latent: 'latent',
      'group', 'home', its name; 'information', 'home_information', 'foreign_information' and
      'foreign_information_standard_error' in nats; 'account', dicts of 'factor', 'information', given the home and the
      factors before, and 'alone'; 'rest', the foreign information that the account leaves.
    """
    estimate = information_ledger.estimate(
        np.asarray(posterior.mean), np.asarray(posterior.logvar), classes_NxF, num_images, _MIN_IMAGES
    )
    ledger = estimate.ledger
    latents = []
    for d in np.flatnonzero(ledger.taken):
        account = estimate.accounts[d]
        latents.append(
            {
                "latent": int(d),
                "group": int(group_of_latent[int(d)]),
                "home": factor_names[int(ledger.home[d])],
                "information": ledger.information[d],
                "home_information": ledger.home_information[d],
                "foreign_information": ledger.foreign_information[d],
                "foreign_information_standard_error": estimate.foreign_information_error[d],
                "account": [
                    {"factor": factor_names[step.factor], "information": step.information, "alone": step.alone}
                    for step in account
                ],
                "rest": max(0.0, ledger.foreign_information[d] - sum(step.information for step in account)),
            }
        )
    errors = {
        "foreign_standard_error": estimate.foreign_error,
        "spread_standard_error": estimate.spread_error,
    }
    return _shares(ledger) | errors | {"latents": latents}


def summary_line(results: Mapping[str, Any]) -> str:
    """The shares of `ledger_results`, and the diffusion of its 'stages', as one sentence."""
    nats = sum(latent["information"] for latent in results["latents"])
    stages = "".join(f"; stage {row['stage']}: {row['diffusion']:.0%} of {row['income']:.2f} nats diffused"
                     for row in results["stages"] if row["stage"] > 0)  # fmt: skip
    return f"Foreign information: {results['foreign']:.0%} of {nats:.2f} nats, spread {results['spread']:.2f}{stages}"


def _shares(ledger: Ledger) -> dict[str, float]:
    return {"foreign": ledger.foreign, "foreign_pairwise": ledger.foreign_pairwise, "spread": ledger.spread}
