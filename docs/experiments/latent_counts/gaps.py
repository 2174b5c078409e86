"""Prints gaps.csv: what each factor adds to the MIG of trained models, and the nats of their latents.

python docs/experiments/latent_counts/gaps.py runs/sized_ten/sized/seed_*/run > docs/experiments/latent_counts/gaps.csv

The MIG is the mean over factors of the gap between the two most informative latents, as a share of the factor's
entropy (`best` is that of the first of them); from 10,000 images and 20 bins. Home and foreign nats of the latents, in
their order, are those of the last evaluation (docs/explanation/information_diffusion.md).
"""

import csv
import pathlib
import sys

import numpy as np

import deft_jax
from deft_jax import metrics
from deft_jax.evaluation import encoder, ledger
from deft_jax.training.metrics_log import read_records


def main(workdirs):
    writer = csv.writer(sys.stdout, lineterminator="\n")
    names = None
    for workdir in map(pathlib.Path, workdirs):
        model = deft_jax.load(workdir)
        if names is None:
            names = model.source.factor_names
            kinds = ("gap", "best"), ("home", "foreign")
            latents = range(model.model.num_latents)
            writer.writerow(["seed", "mig", *(f"{kind} {name}" for kind in kinds[0] for name in names),
                             *(f"{kind} {latent}" for kind in kinds[1] for latent in latents)])  # fmt: skip
        factors = encoder.draw_factors(model.source, 10_000, seed=0)
        nmi_DxF = np.sort(metrics.compute("nmi", model.encode_factors(factors).mean, factors)["nmi"], axis=0)
        gap_F, best_F = nmi_DxF[-1] - nmi_DxF[-2], nmi_DxF[-1]
        last = ledger.ledger_of(ledger.with_ledger(read_records(workdir / "metrics.jsonl"))[-1])
        row = np.concatenate([[gap_F.mean()], gap_F, best_F, last.home_information, last.foreign_information])
        writer.writerow([model.config.seed, *(f"{value:.3f}" for value in row)])


if __name__ == "__main__":
    main(sys.argv[1:])
