"""Prints signs.csv: the correlation of the third latent with scale in the four quarters of each axis of position.

python docs/experiments/latent_counts/signs.py runs/sized_0 runs/sized_3 > docs/experiments/latent_counts/signs.csv
"""

import csv
import sys

import numpy as np

import deft_jax
from deft_jax import data
from deft_jax.evaluation import encoder


def main(workdirs):
    factors = encoder.draw_factors(data.get("dsprites"), 20_000, seed=0)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["run", "axis", *(f"quarter {number}" for number in range(1, 5))])
    for workdir in workdirs:
        size = deft_jax.load(workdir).encode_factors(factors).mean[:, 2]
        for axis, name in ((3, "posX"), (4, "posY")):
            quarters = [factors[:, axis] // 8 == quarter for quarter in range(4)]
            correlations = [np.corrcoef(size[rows], factors[rows, 1])[0, 1] for rows in quarters]
            writer.writerow([workdir.removeprefix("runs/"), name, *np.round(correlations, 2)])


if __name__ == "__main__":
    main(sys.argv[1:])
