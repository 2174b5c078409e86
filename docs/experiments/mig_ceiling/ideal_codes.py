"""Writes readings.csv and centres.csv beside it: MIG and NMI of codes that need no model, and of one model.

    python docs/experiments/mig_ceiling/ideal_codes.py --workdir runs/one_core

Codes are the centre and the area of a sprite of dSprites: with noise, a share of their variance; distributed as
normals; and with the pivot, posX and posY of the archive, in place of the centre. Without --workdir centres.csv is
printed for the exact centre alone, and not written.
"""

import argparse
import csv
import pathlib
import sys

import jax
import numpy as np
from scipy import stats

import deft_jax
from deft_jax import data, metrics
from deft_jax.evaluation import encoder
from deft_jax.metrics import mutual_information

FOLDER = pathlib.Path(__file__).parent


def centre_and_area(num_samples):
    """Factors [N, 5] and codes [N, 3], x, y and area in pixels, of random images."""
    source = data.get("dsprites")
    factors_NxF = encoder.draw_factors(source, num_samples, seed=0)
    images = np.asarray(source.render(source.arrays, factors_NxF, jax.random.key(0)))[..., 0]
    area_N, grid = images.sum((1, 2)), np.arange(64)
    x_N, y_N = ((images * axis).sum((1, 2)) / area_N for axis in (grid, grid[:, None]))
    return factors_NxF, np.stack([x_N, y_N, area_N], 1)


def readings(num_samples=10_000):
    """Rows of readings.csv: name of the codes, MIG, NMI of the best code with each factor."""
    factors, exact = centre_and_area(num_samples)
    pivot = np.stack([*factors[:, 3:].T, exact[:, 2]], 1)
    noise = np.random.default_rng(0).normal(size=exact.shape)
    codes = {f"with {share:.1%} noise": exact + share**0.5 * exact.std(0) * noise for share in (0, 0.001, 0.003)}
    codes["as normals"] = stats.norm.ppf((stats.rankdata(exact, axis=0) - 0.5) / len(exact))
    codes["pivot in place of the centre with 0.1% noise"] = pivot + 0.001**0.5 * pivot.std(0) * noise
    for name, values in codes.items():
        mig, nmi = (metrics.compute(metric, values, factors) for metric in ("mig", "nmi"))
        yield [name, f"{mig['mig']:.3f}", *(str(value) for value in nmi["nmi1"].round(2))]


def centres(workdir, num_samples=30_000):
    """Rows of centres.csv: shape, codes, NMI of the best code with orientation, posX and posY."""
    factors, exact = centre_and_area(num_samples)
    codes = {"exact": exact[:, :2]}
    if workdir is not None:
        codes["model"] = deft_jax.load(workdir).encode_factors(factors).mean
    for shape, name in enumerate(("square", "ellipse", "heart")):
        rows = factors[:, 0] == shape
        for label, values in codes.items():
            nmi = mutual_information.normalised_mutual_information(values[rows], factors[rows][:, 1:]).max(0)
            yield [name, label, *(f"{value:.2f}" for value in nmi[1:])]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", help="of a trained quickstart")
    workdir = parser.parse_args(argv).workdir
    tables = {"readings.csv": (["codes", "MIG", "shape", "scale", "orientation", "posX", "posY"], readings()),
              "centres.csv": (["shape", "codes", "orientation", "posX", "posY"], centres(workdir))}  # fmt: skip
    for name, (heads, rows) in tables.items():
        rows = [heads, *rows]
        csv.writer(sys.stdout, lineterminator="\n").writerows(rows)
        if name == "readings.csv" or workdir is not None:
            with (FOLDER / name).open("w", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    main()
