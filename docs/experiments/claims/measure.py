"""Brings results of trainings into this folder, and where they come from into results.json.

    python docs/experiments/claims/measure.py trials runs/ifp                 # trials.csv
    python docs/experiments/claims/measure.py choose runs/small_settings      # CHOSEN of configs/studies/claims.py
    python docs/experiments/claims/measure.py settings runs/small_settings    # study_settings.json
    python docs/experiments/claims/measure.py scores runs/small_claims        # study_claims.json
    python docs/experiments/claims/measure.py rotated runs/small_claims_rotated           # study_claims_rotated.json
    python docs/experiments/claims/measure.py correlated runs/small_correlated_pairs      # correlated.csv
    python docs/experiments/claims/measure.py udr runs/small_settings         # udr.csv

Run it on the machine of the trainings, which it names. Then: claims.py, and ../build.py.
"""

import argparse
import csv
import datetime
import itertools
import json
import os
import pathlib
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence

import claims
import jax
import numpy as np
import pairs
import score_rules

import deft_jax
from deft_jax.data import toy
from deft_jax.evaluation.encoder import draw_factors
from deft_jax.runtime.files import read_object
from deft_jax.studies import scoring

HERE = pathlib.Path(__file__).resolve().parent
KEPT_SCORES = ("mig", "mig_posterior", "disentanglement", "completeness", "foreign", "spread")
STUDY_FILES = {"settings": "settings", "scores": "claims", "rotated": "claims_rotated"}


def trials(workdir: pathlib.Path) -> None:
    """Copies the freezing points of the single trials."""
    config = read_object(workdir / "config.json")
    of = config["trials"]
    shutil.copyfile(workdir / "trials.csv", HERE / "trials.csv")
    scale = f"{of['num_trials']} trials a factor, {of['steps']:,} x {of['batch_size']}"
    note("trials", scale=scale, seeds=str(config["seed"]))


def scores(name: str, workdir: pathlib.Path) -> None:
    """Copies the study.json of a study, with the scores of the page alone."""
    study = read_object(workdir / "study.json")
    for run in study["runs"].values():
        run["scores"] = {
            score: {seed: round(value, 5) for seed, value in values.items()}
            for score, values in run["scores"].items()
            if score in KEPT_SCORES
        }
        run["seconds"] = {seed: round(seconds, 1) for seed, seconds in run["seconds"].items()}
    seeds = f"{min(study['seeds'])} to {max(study['seeds'])}"
    study["provenance"] = {"scale": study_scale(workdir), "seeds": seeds} | origin()
    (HERE / f"study_{name}.json").write_text(json.dumps(study, indent=1) + "\n")


def choose(workdir: pathlib.Path) -> dict[str, dict[str, str]]:
    """The settings of the best mean MIG over the seeds of configs/studies/claims_settings.py."""
    return score_rules.choose(claims.of_seeds(claims.study_scores(workdir / "study.json"), claims.CHOICE_SEEDS))


def correlated(workdir: pathlib.Path) -> None:
    """Scores every run on pairs of factors of the set `correlated`, all of whose images are taken."""
    rows = []
    for folder in finished(workdir):
        model = deft_jax.load(folder / "run")
        factors = draw_factors(model.source, model.source.num_images, seed=0)
        codes = np.asarray(model.encode_factors(factors).mean)
        four = np.column_stack([factors, toy.orientation(factors)])
        held = read_object(folder / "run.json")["scores"]
        row = {"mig": held["mig"]["mig"], "foreign": held["foreign"]["foreign"]} | pairs.pair_scores(codes, four)
        rows.append(row_names(workdir, folder) | {key: f"{value:.4g}" for key, value in row.items()})
    write_rows("correlated.csv", rows)
    seeds = " ".join(dict.fromkeys(row["seed"] for row in rows))
    note("correlated", scale=study_scale(workdir), seeds=seeds)


def udr(workdir: pathlib.Path) -> None:
    """Compares the seeds of each setting on dSprites."""
    rows = []
    folders = [folder for folder in finished(workdir) if row_names(workdir, folder)["run"].startswith("dsprites/")]
    for name, group in itertools.groupby(folders, key=lambda folder: folder.parent):
        group = list(group)
        by_correlation = scoring.compare([folder / "run" for folder in group])
        for index, folder in enumerate(group):
            held = read_object(folder / "run.json")["scores"]
            values = {
                "udr": by_correlation["spearman"]["udr"][index],
                "udr_lasso": by_correlation["lasso"]["udr"][index],
                "mig": held["mig"]["mig"],
                "disentanglement": held["dci"]["disentanglement"],
            }
            names = {"method": name.parent.name, "setting": name.name, "seed": folder.name.removeprefix("seed_")}
            rows.append(names | {key: f"{value:.4g}" for key, value in values.items()})
    write_rows("udr.csv", rows)
    seeds = " ".join(dict.fromkeys(row["seed"] for row in rows))
    note("unsupervised", scale=study_scale(workdir), seeds=seeds)


# ---- folders, files and where results come from ----


def finished(workdir: pathlib.Path) -> list[pathlib.Path]:
    """Folders of the runs of a study that have scores, sorted by run and seed."""
    folders = [path.parent for path in workdir.glob("**/seed_*/run.json") if "scores" in read_object(path)]
    return sorted(folders, key=lambda folder: (folder.parent.as_posix(), int(folder.name.removeprefix("seed_"))))


def row_names(workdir: pathlib.Path, folder: pathlib.Path) -> dict[str, str]:
    name = folder.parent.relative_to(workdir).as_posix()
    return {"run": name, "seed": folder.name.removeprefix("seed_")}


def write_rows(name: str, rows: Sequence[Mapping[str, str]]) -> None:
    with (HERE / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def study_scale(workdir: pathlib.Path) -> str:
    """'small: 14,000 x 16'."""
    config = read_object(workdir / "config.json")
    sizes = {f"{run['total_steps']:,} x {run['batch_size']}" for run in config["runs"].values()}
    return f"{config['scale']}: {', '.join(sorted(sizes))}"


def origin() -> dict[str, str]:
    """Date and commit, machine, versions."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True)
    device = jax.devices()[0]
    accelerator = "no accelerator" if device.platform == "cpu" else device.device_kind
    return {
        "recorded": ", ".join([datetime.date.today().isoformat(), *commit.stdout.split()]),
        "machine": f"{os.cpu_count()} cores of {processor()}, {accelerator}",
        "versions": f"Python {'.'.join(platform.python_version_tuple()[:2])}, jax {jax.__version__}",
    }


def processor() -> str:
    """The processor's name where the system tells it, its architecture elsewhere."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def note(study: str, *, scale: str, seeds: str) -> None:
    """Enters into results.json where the results of a study come from."""
    path = HERE / "results.json"
    results = json.loads(path.read_text())
    results["provenance"][study] |= {"scale": scale, "seeds": seeds} | origin()
    path.write_text(json.dumps(results, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("trials", "choose", *STUDY_FILES, "correlated", "udr"))
    parser.add_argument("workdir", type=pathlib.Path)
    args = parser.parse_args()
    if args.what == "choose":
        print(f"CHOSEN = {json.dumps(choose(args.workdir), indent=4)}")
    elif args.what in STUDY_FILES:
        scores(STUDY_FILES[args.what], args.workdir)
    else:
        {"trials": trials, "correlated": correlated, "udr": udr}[args.what](args.workdir)


if __name__ == "__main__":
    main()
