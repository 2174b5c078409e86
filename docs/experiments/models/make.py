"""Puts trained models into the package, scores them there and notes them in models.json.

    python docs/experiments/models/make.py runs/models/quickstart runs/models/dsprites_sized runs/models/dsprites_tcvae

The folder NAME is a finished training with configs/NAME.py as it stands. deft_jax/pretrained/NAME is replaced by its
parameters, records and results, and by scores that were computed from those files.
"""

import argparse
import json
import pathlib
import runpy
import shutil
import tempfile

import jax
import numpy as np

import deft_jax
from deft_jax.evaluation.scores import headlines
from deft_jax.runtime import pretrained
from deft_jax.runtime.files import read_object, write_json
from deft_jax.studies import scoring
from deft_jax.studies.scales import METRICS
from deft_jax.training import export
from deft_jax.training.config import parse_training

CONFIGS = pathlib.Path(__file__).parents[3] / "configs"
TABLE = pathlib.Path(__file__).with_name("models.json")


def main(workdirs):
    for workdir in workdirs:  # all of them are checked before one is written
        check(workdir)
    rows = {row["name"]: row for row in json.loads(TABLE.read_text())} if TABLE.exists() else {}
    for workdir in workdirs:
        with tempfile.TemporaryDirectory() as folder:
            made = export(workdir, pathlib.Path(folder) / workdir.name)
            scoring.evaluate(made, METRICS, variants=("mean",))
            shutil.rmtree(pretrained.FOLDER / workdir.name, ignore_errors=True)
            shutil.copytree(made, pretrained.FOLDER / workdir.name)
        rows[workdir.name] = row_of(workdir.name)
        write_json(TABLE, sorted(rows.values(), key=lambda row: -row["mig"]))
        print(rows[workdir.name])


def check(workdir):
    """Raises ValueError unless the folder is a finished training of the config of its name."""
    path = CONFIGS / f"{workdir.name}.py"
    if not path.exists():
        raise ValueError(f"there is no {path}: the folder {workdir} must have the name of a config")
    expected = parse_training(runpy.run_path(str(path))["get_config"]())
    if parse_training(read_object(workdir / "config.json")) != expected:  # fields of later versions have their defaults
        raise ValueError(f"{workdir} was not trained with {path} as it stands")
    results = read_object(workdir / "results.json") or {}
    if results.get("step") != expected.total_steps:
        raise ValueError(f"the training in {workdir} is not finished")


def row_of(name):
    """What models.json has of a model in the package."""
    folder = pretrained.FOLDER / name
    model = deft_jax.load(folder)
    results = read_object(folder / "results.json")
    evaluation = results["evaluation"]
    return {
        "name": name,
        "objective": model.config.objective.name,
        "latents": model.model.num_latents,
        "groups": list(model.model.sizes),
        "seed": model.config.seed,
        "steps": model.step,
        "batch_size": model.config.batch_size,
        "parameters": sum(np.size(leaf) for leaf in jax.tree.leaves(model.params)),
        "kilobytes": round(sum(path.stat().st_size for path in folder.iterdir()) / 1000),
        "version": evaluation["versions"]["deft_jax"],
        "mig_of_training": results["mig"],
        **headlines(evaluation["scores"]["mean"]),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("workdirs", nargs="+", type=lambda path: pathlib.Path(path).resolve())
    main(parser.parse_args().workdirs)
