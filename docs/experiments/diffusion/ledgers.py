"""Writes runs.csv and ledger.json beside this file from the workdir of configs/studies/diffusion.py.

    python docs/experiments/diffusion/ledgers.py runs/small_diffusion

runs.csv has one row per run and seed. All runs are cut into the same intervals, those at whose ends beta falls in
DEFT, whether or not a run has stages: diffusion is the share of what comes in after the first of them that becomes
foreign information of latents taken before. The reconstruction loss is that of 2,000 images at one draw of the latents,
in nats. ledger.json has home and foreign nats of each encoder group at every evaluation, by run and seed.

A row that is there is not computed again, nor is it removed where the workdir does not have the run: a study may be
trained in parts. Remove both files to begin anew.
"""

import argparse
import csv
import itertools
import json
import pathlib

import jax
import numpy as np

import deft_jax
from deft_jax.evaluation import ledger
from deft_jax.evaluation.encoder import draw_factors
from deft_jax.metrics.diffusion import Diffusion, diffusion
from deft_jax.runtime.files import read_object
from deft_jax.training.metrics_log import read_records

HERE = pathlib.Path(__file__).parent
NUM_IMAGES = 2_000
BOUNDS = (3 / 14, 6 / 14, 9 / 14, 1.0)  # ends of the intervals as shares of a run


def interval_diffusion(evaluations, total_steps):
    """Diffusion in the intervals between BOUNDS together, and in those between all evaluations."""
    ledgers = {record["step"]: ledger.ledger_of(record) for record in evaluations}
    ends = [round(bound * total_steps) for bound in BOUNDS]
    after_first = [step for step in ledgers if step >= ends[0]]

    def total(steps):
        changes = (diffusion(ledgers[start], ledgers[end]) for start, end in itertools.pairwise(steps))
        return sum(changes, Diffusion(0.0, 0.0))

    return total(ends), total(after_first)


def reconstruction(model):
    """The mean reconstruction loss of a model in nats per image, at one draw of the latents."""
    factors = draw_factors(model.source, NUM_IMAGES, seed=1)
    images = np.asarray(jax.jit(model.source.render)(model.source.arrays, factors, jax.random.key(0)))
    posterior = model.encode_factors(factors)
    noise = np.random.default_rng(0).standard_normal(posterior.mean.shape).astype(np.float32)
    decoded = model.decode(np.asarray(posterior.mean) + np.exp(0.5 * np.asarray(posterior.logvar)) * noise)
    decoded = np.clip(np.asarray(decoded, np.float64), 1e-7, 1 - 1e-7)
    loss = -(images * np.log(decoded) + (1 - images) * np.log1p(-decoded))
    return float(loss.sum() / NUM_IMAGES)


def read_run(folder):
    """The row of one seed, and the nats of its groups: [evaluations, groups, home or foreign]."""
    model = deft_jax.load(folder / "run")
    evaluations = ledger.with_ledger(read_records(folder / "run" / "metrics.jsonl"))
    scores = read_object(folder / "run.json")["scores"]
    by_stage, between = interval_diffusion(evaluations, model.config.total_steps)
    last = ledger.ledger_of(evaluations[-1])
    row = {
        "foreign": scores["foreign"]["foreign"],
        "foreign_pairwise": scores["foreign"]["foreign_pairwise"],
        "spread": scores["foreign"]["spread"],
        "nats": float(last.information.sum()),
        "taken": int(last.taken.sum()),
        "income": by_stage.income,
        "diffused": by_stage.diffused,
        "diffusion": by_stage.share,
        "diffusion_between": between.share,
        "reconstruction": reconstruction(model),
        "mig": scores["mig"]["mig"],
        "mig_posterior": scores["mig_posterior"]["mig_posterior"],
    }
    group_D = np.repeat(np.arange(len(model.config.model.group_sizes)), model.config.model.group_sizes)
    nats = np.array([
        [
            [of.home_information[group_D == group].sum(), of.foreign_information[group_D == group].sum()]
            for group in range(group_D.max() + 1)
        ]
        for of in map(ledger.ledger_of, evaluations)
    ])  # fmt: skip
    return row, nats, [(record["step"], record["beta"]) for record in evaluations]


def _read_rows():
    """The rows of runs.csv by run and seed; none where the file is missing."""
    path = HERE / "runs.csv"
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {(row["run"], row["seed"]): row for row in csv.DictReader(file)}


def main(workdir):
    rows, ledgers = _read_rows(), {}
    if (HERE / "ledger.json").exists():
        ledgers = read_object(HERE / "ledger.json")
    folders = sorted(path.parent for path in workdir.glob("**/seed_*/run.json"))
    folders = [folder for folder in folders if "scores" in read_object(folder / "run.json")]
    for folder in folders:
        name, seed = folder.parent.relative_to(workdir).as_posix(), folder.name.removeprefix("seed_")
        if (name, seed) in rows and seed in ledgers.get(name, {}).get("home_and_foreign", {}):
            continue
        row, nats, steps = read_run(folder)
        rows[name, seed] = {"run": name, "seed": seed} | {
            key: f"{value:.4g}" if isinstance(value, float) else value for key, value in row.items()
        }  # fmt: skip
        entry = ledgers.setdefault(name, {"home_and_foreign": {}})
        entry |= {"step": [step for step, _ in steps], "beta": [round(beta, 3) for _, beta in steps]}
        entry["home_and_foreign"][seed] = nats.round(2).tolist()
        text = f"foreign {row['foreign']:.3f}, diffusion {row['diffusion']:.3f}"
        print(f"{folder.relative_to(workdir)}: {text}", flush=True)
    with (HERE / "runs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(next(iter(rows.values()))), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[key] for key in sorted(rows, key=lambda key: (key[0], int(key[1]))))
    lines = (f"{json.dumps(name)}: {json.dumps(ledgers[name])}" for name in sorted(ledgers))
    (HERE / "ledger.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("workdir", type=pathlib.Path, help="of the study")
    main(parser.parse_args().workdir)
