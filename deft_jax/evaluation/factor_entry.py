"""Which factor entered the representation when, read from logged NMI matrices."""

from collections.abc import Mapping, Sequence

import numpy as np


def freezing_order(
    evaluations: Sequence[Mapping],
    factor_names: Sequence[str],
    group_of_latent: Sequence[int],
    threshold: float = 0.1,
) -> list[dict]:
    """Which factor entered when, read from the logged NMI matrices: one dict a factor, in the order of entering.

    evaluations: records with 'step', 'stage', 'beta' and 'nmi' [D, F], in the order of training.
    threshold: share of a factor's entropy that one latent must know for the factor to have entered.

    Each dict has 'factor'; 'nmi', the best latent's value at the last evaluation of each stage so far; and 'step',
    'stage', 'beta', 'latent' and 'group' of the first evaluation from which on it has stayed at the threshold or above
    (an untrained encoder may pass it for a moment), None if it is below at the last. Factors seen to enter at the same
    evaluation come in the order of how much is known of them there.
    """
    ends = {record["stage"]: np.asarray(record["nmi"]).max(axis=0) for record in evaluations}
    rows = []
    for index, name in enumerate(factor_names):
        row = {"factor": name, "nmi": [float(best[index]) for _, best in sorted(ends.items())]}
        row |= dict.fromkeys(("step", "stage", "beta", "latent", "group"))
        order = (1, 0, -max(row["nmi"]))
        for record in reversed(evaluations):
            nmi_D = np.asarray(record["nmi"])[:, index]
            if nmi_D.max() < threshold:
                break
            latent = int(nmi_D.argmax())
            row |= {name: record[name] for name in ("step", "stage", "beta")}
            row |= {"latent": latent, "group": group_of_latent[latent]}
            order = (0, record["step"], -nmi_D.max())
        rows.append((order, row))
    return [row for _, row in sorted(rows, key=lambda pair: pair[0])]


def freezing_table(rows: Sequence[Mapping], betas: Sequence[float]) -> str:
    """The freezing order as a text table, one line a factor, at least one. betas: at the end of each stage."""
    stages = len(rows[0]["nmi"])
    head = "".join(f"{f'beta {beta:.3g}':>11}" for beta in betas[:stages])
    lines = [f"{'factor':<12}{head}   enters"]
    for row in rows:
        values = "".join(f"{value:>11.2f}" for value in row["nmi"])
        enters = "not yet"
        if row["stage"] is not None:
            enters = f"beta {row['beta']:.3g}, stage {row['stage']}: z{row['latent']} of group {row['group']}"
        lines.append(f"{row['factor']:<12}{values}   {enters}")
    return "\n".join(lines)
