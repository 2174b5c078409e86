"""Which factor entered the representation at which step, read from logged NMI matrices."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def freezing_order(
    evaluations: Sequence[Mapping[str, Any]],
    factor_names: Sequence[str],
    group_of_latent: Sequence[int],
    threshold: float = 0.1,
) -> list[dict[str, Any]]:
    """Factors in the order in which they entered the representation.

    A factor has entered from the first evaluation from which on its best latent stays at the threshold or above; an
    untrained encoder may pass the threshold for a moment.

    Args:
      evaluations: records with 'step', 'stage', 'beta' and 'nmi' [D, F], in the order of training.
      factor_names: F names.
      group_of_latent: the group of each latent.
      threshold: NMI, the share of a factor's entropy that one latent must have information on.

    Returns:
      One dict per factor: 'factor'; 'nmi', the best latent's value at the last evaluation of each stage so far; and
      'step', 'stage', 'beta', 'latent' and 'group' of its entry, None of a factor below the threshold at the end.
      Factors that enter at the same evaluation come in the order of their NMI there.
    """
    stage_ends = {record["stage"]: np.asarray(record["nmi"]).max(axis=0) for record in evaluations}
    entries: list[tuple[tuple[float, float, float], dict[str, Any]]] = []
    for index, name in enumerate(factor_names):
        best_nmi = [float(nmi_F[index]) for _, nmi_F in sorted(stage_ends.items())]
        entry: dict[str, Any] = {"factor": name, "nmi": best_nmi}
        entry |= dict.fromkeys(("step", "stage", "beta", "latent", "group"))
        sort_key = (1.0, 0.0, -max(best_nmi))
        for record in reversed(evaluations):
            nmi_D = np.asarray(record["nmi"])[:, index]
            if nmi_D.max() < threshold:
                break
            latent = int(nmi_D.argmax())
            entry |= {field: record[field] for field in ("step", "stage", "beta")}
            entry |= {"latent": latent, "group": group_of_latent[latent]}
            sort_key = (0.0, record["step"], -nmi_D.max())
        entries.append((sort_key, entry))
    return [entry for _, entry in sorted(entries, key=lambda pair: pair[0])]


def freezing_table(rows: Sequence[Mapping[str, Any]], betas: Sequence[float]) -> str:
    """The freezing order as a text table.

    Args:
      rows: of `freezing_order`, at least one.
      betas: at the end of each stage.

    Returns:
      A head and one line per factor.
    """
    stages = len(rows[0]["nmi"])
    head = "".join(f"{f'beta {beta:.3g}':>11}" for beta in betas[:stages])
    width = max(12, *(len(row["factor"]) + 1 for row in rows))
    lines = [f"{'factor':<{width}}{head}   enters"]
    for row in rows:
        values = "".join(f"{value:>11.2f}" for value in row["nmi"])
        enters = "not yet"
        if row["stage"] is not None:
            enters = f"beta {row['beta']:.3g}, stage {row['stage']}: z{row['latent']} of group {row['group']}"
        lines.append(f"{row['factor']:<{width}}{values}   {enters}")
    return "\n".join(lines)
