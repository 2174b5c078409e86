"""Bad input to any command: one line on stderr that names the fault, status 2, and every file as it was.

All cases run in one folder, one after the other in one process (this file as a program), because starting Python and
JAX takes longer than finding a fault. After each case the folder must hold what it held before: names, contents and
times.
"""

import contextlib
import hashlib
import importlib
import io
import json
import pathlib
import shutil
import subprocess
import sys
import traceback

import numpy as np
import pytest
import tiny

from deft_jax.runtime import cli
from deft_jax.runtime.signals import Interrupted

NAN, INF = float("nan"), float("inf")
FALL = {"rule": "exponential", "start": 70.0, "end": 1.0, "rate": 15.0, "thresholds": (12.0,)}


def steps(**changes):
    return {"stages": {"rule": "steps", "betas": (8.0, 2.0), "steps": 4} | changes}


def fall(**changes):
    return {"stages": FALL | changes}


# ---- configs of a training: the field or fields that are wrong, and what is said ----

WRONG = [
    ({"seed": -1}, "seed must be at least 0, got -1"),
    ({"seed": 2**40}, "seed must lie between"),
    ({"seed": "zero"}, "seed must be a whole number, got 'zero'"),
    ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ({"batch_size": 1.5}, "batch_size must be a whole number, got 1.5"),
    ({"batch_size": 7}, "batch_size = 7 does not divide over 2 devices; use a multiple of 2"),
    ({"total_steps": -3}, "total_steps must be at least 1, got -3"),
    ({"total_steps": 10**12}, "total_steps must lie between"),
    ({"total_steps": 4}, "total_steps = 4 ends before the last stage starts at step 4"),
    ({"num_seeds": 0}, "num_seeds must be at least 1, got 0"),
    ({"log_every": 0}, "log_every must be at least 1, got 0"),
    ({"log_every": NAN}, "log_every must be a whole number, got nan"),
    ({"evaluation": {"every": 0}}, "evaluation.every must be at least 1, got 0"),
    ({"evaluation": {"num_samples": 0}}, "evaluation.num_samples must be at least 1, got 0"),
    ({"evaluation": {"num_samples": -5}}, "evaluation.num_samples must be at least 1, got -5"),
    ({"evaluation": {"seed": -5}}, "evaluation.seed must be at least 0"),
    ({"evaluation": 5}, "evaluation must be a section with fields of its own, got 5"),
    ({"checkpoints": {"keep": 0}}, "checkpoints.keep must be at least 1, got 0"),
    ({"checkpoints": {"every": 0.5}}, "checkpoints.every must be a whole number, got 0.5"),
    ({"optimizer": {"learning_rate": 0.0}}, "optimizer.learning_rate must be above 0, got 0.0"),
    ({"optimizer": {"learning_rate": -1e-3}}, "optimizer.learning_rate must be above 0, got -0.001"),
    ({"optimizer": {"learning_rate": INF}}, "optimizer.learning_rate must lie between"),
    ({"optimizer": {"decoder_learning_rate": NAN}}, "optimizer.decoder_learning_rate must lie between"),
    ({"optimizer": {"decoder_learning_rate": "fast"}}, "optimizer.decoder_learning_rate must be a number, got 'fast'"),
    ({"optimizer": {"gamma": 1.5}}, "optimizer.gamma must lie between 0 (frozen) and 1, got 1.5"),
    ({"optimizer": {"gamma": -0.1}}, "optimizer.gamma must lie between 0 (frozen) and 1, got -0.1"),
    ({"optimizer": {"gamma": None}}, "optimizer.gamma must be a number, got None"),
    ({"optimizer": {"weight_decay": -1.0}}, "optimizer.weight_decay must not be negative, got -1.0"),
    ({"optimizer": {"b1": 1.0}}, "optimizer.b1 must be at least 0 and below 1, got 1.0"),
    ({"optimizer": {"eps": 0.0}}, "optimizer.eps must be above 0, got 0.0"),
    ({"optimizer": {"decay": "linear"}}, "unknown optimizer.decay 'linear'; known: constant, cosine"),
    ({"optimizer": {"decay": 3}}, "optimizer.decay must be text, got 3"),
    ({"optimizer": {"momentum": 0.9}}, "optimizer has no field 'momentum'; known: learning_rate"),
    (steps(betas=(2.0, 8.0)), "stages.betas must fall from stage to stage, got (2.0, 8.0)"),
    (steps(betas=(8.0, NAN)), "stages.betas must lie between"),
    (steps(betas=(8.0, -2.0)), "stages.betas must be finite and not negative"),
    (steps(betas=()), "stages.betas is empty"),
    (steps(betas="8, 2"), "stages.betas must be a list of numbers, got '8, 2'"),
    (steps(betas=8.0), "stages.betas must be a list of numbers, got 8.0"),
    (steps(steps=0), "stages.steps must be at least 1, got (0, 0)"),
    (steps(steps=(4, 4, 4)), "stages.steps has 3 lengths for 2 betas"),
    (steps(steps=None), "stages.steps must be a whole number or a list of whole numbers, got None"),
    (steps(betas=(8.0, 4.0, 2.0), steps=2), "3 stages for 2 encoder groups"),
    (steps(length=4), "stages has no field 'length'; known: betas, steps"),
    ({"stages": {"rule": "steps", "betas": (8.0, 2.0)}}, "stages lacks the field 'steps'; known: betas, steps"),
    ({"stages": {"betas": (8.0, 2.0), "steps": 4}}, "stages lacks the field 'rule'"),
    ({"stages": {"rule": "linear"}}, "unknown stages.rule 'linear'; known: exponential, steps"),
    ({"stages": {"rule": ("steps",)}}, "; known: exponential, steps"),
    ({"stages": (8.0, 2.0)}, "stages must be a section with fields of its own, got "),
    (fall(thresholds=(0.5,)), "never passes the threshold 0.5"),
    (fall(thresholds=(80.0,)), "stages.thresholds must lie below the first beta, 71, got (80.0,)"),
    (fall(thresholds=(NAN,)), "stages.thresholds must lie between"),
    (fall(rate=0.0), "an exponential fall of beta needs start > 0, end >= 0 and rate > 0"),
    (fall(start=INF), "stages.start must lie between"),
    ({"model": {"latents": 0}}, "latents must be from 1 to"),
    ({"model": {"latents": 5}}, "5 latents do not divide into 2 equal groups; give the size of each"),
    ({"model": {"latents": 4.0}}, "model.latents must be a whole number, got 4.0"),
    ({"model": {"groups": (1, 2)}}, "groups of (1, 2) latents must be at least 1 each and add up to 4"),
    ({"model": {"groups": 0}}, "4 latents do not divide into 0 equal groups"),
    ({"model": {"width": 0}}, "width must be at least 1, got (0, 0)"),
    ({"model": {"width": (2, 2, 2)}}, "width has 3 entries for 2 groups; give one each, or one for all"),
    ({"model": {"hidden": "wide"}}, "model.hidden must be a whole number or a list of whole numbers, got 'wide'"),
    ({"model": {"decoder_width": -1}}, "decoder_width must be at least 1"),
    ({"model": {"calibrate": "yes"}}, "model.calibrate must be True or False, got 'yes'"),
    ({"model": {"depth": 3}}, "model has no field 'depth'; known: latents, groups, width"),
    ({"data": {"name": "mnist"}}, "unknown data set 'mnist'; known: archive, cars3d"),
    ({"data": {"name": "os:getcwd"}}, "makes no Source but '"),
    ({"data": {"name": "numpy:pi"}}, "the data set 'numpy:pi' is no function but 3.14"),
    ({"data": {"side": 3}}, "data has no field 'side'"),
    ({"data": {"name": "correlated(shape=star)"}}, "no factor 'shape' to hold; known: deviation, posX, posY"),
    ({"data": {"name": "dsprites(shape=star)"}}, "shape has no value 'star'; allowed: 0 to 2, or square, ellipse"),
    ({"data": {"name": "dsprites(posX=32)"}}, "posX has no value 32; allowed: 0 to 31"),
    ({"data": {"name": "dsprites(posX)"}}, "cannot read 'posX' in the data set 'dsprites(posX)'; write FACTOR=VALUE"),
    ({"data": {"name": "translation", "grid": "hexagonal"}}, "unknown grid 'hexagonal'; known: cartesian, honeycomb"),
    ({"data": {"name": "xy_squares", "spacing": 3}}, "spacing must be one of 2, 4, 7, 8, got 3"),
    ({"data": {"name": "archive"}}, "data lacks the field 'path'"),
    ({"data": {"name": "archive", "path": "nowhere.npz"}}, "nowhere.npz': No such file or directory"),
    ({"data": {"name": "archive", "path": "cut.npz"}}, "cut.npz': File is not a zip file"),
    ({"data": {"name": "archive", "path": "pickles.npz"}}, "'images' holds pickled objects, which are never loaded"),
    ({"data": {"name": "archive", "path": "small.npz"}}, "image sides must be multiples of 16, got (10, 10, 1)"),
    ({"data": {"name": "folder", "path": "empty"}}, "empty' holds 0 images, at least 2 are needed"),
    ({"data": {"name": "folder", "path": "nowhere"}}, "nowhere' does not exist; give the folder"),
    ({"objective": {"name": "gan"}}, "unknown objective 'gan'; known: annealed_vae, beta_tcvae"),
    ({"objective": {"gamma": 3.0}}, "objective has no field 'gamma'"),
    ({"objective": {"name": "annealed_vae", "capacity": -1.0}}, "objective.capacity must be finite and not negative"),
    ({"objective": {"name": "control_vae", "period": 0}}, "objective.period must be at least 1, got 0"),
    ({"objective": {"name": "dip_vae_i", "lambda_od": "x"}}, "objective.lambda_od must be a number, got 'x'"),
    ({"periodic_metrics": {"mgi": {"every": 4}}}, "unknown metric in periodic_metrics 'mgi'; known: beta_vae, dci"),
    ({"periodic_metrics": {"dci": {"every": 0}}}, "periodic_metrics.dci.every must be at least 1, got 0"),
    ({"periodic_metrics": {"dci": {}}}, "periodic_metrics.dci lacks the field 'every'"),
    (
        {"periodic_metrics": {"mig": {"every": 4, "bins": 3}}},
        "periodic_metrics.mig has no field 'bins'; known: num_bins",
    ),
    (
        {"periodic_metrics": {"mig": {"every": 4, "num_bins": "many"}}},
        "periodic_metrics.mig.num_bins must be a whole number, got 'many'",
    ),
    ({"periodic_metrics": {"udr": {"every": 4}}}, "periodic_metrics.udr compares several runs"),
]
MISSING = [("seed",), ("stages",), ("model", "latents"), ("objective", "name"), ("data", "name"),
           ("optimizer", "gamma"), ("evaluation", "num_samples"), ("checkpoints", "keep"), ("log_every",)]  # fmt: skip


def wrong(number):
    """The configuration of a number in WRONG."""
    return tiny.config(**WRONG[number][0])


def lacking(number):
    """The configuration without a field of MISSING."""
    *sections, field = MISSING[number]
    made = tiny.config()
    del (made[sections[0]] if sections else made)[field]
    return made


# ---- studies and annealing tests ----

ONE = {"runs": {"one": tiny.config()}, "seeds": (0,), "metrics": ("mig",), "num_samples": 64, "scale": "full",
       "scales": {"full": {}}}  # fmt: skip
STUDIES = [
    ({"scale": "huge"}, "unknown scale 'huge'; known: full"),
    ({"runs": {}}, "a study needs at least one run and one seed"),
    ({"seeds": (0, 0)}, "each seed once, got seeds (0, 0)"),
    ({"metrics": ("mgi",)}, "unknown metric 'mgi'; known: beta_vae"),
    ({"scales": {"full": {"model/depth": 3}}}, "the scale sets 'model/depth', which the run 'one' does not have"),
    ({"runs": {"one": tiny.config(optimizer={"gamma": 2.0})}}, "one: optimizer.gamma must lie between 0 (frozen) and"),
    ({"runs": {"one": tiny.config(objective={"name": "gan"})}}, "one: unknown objective 'gan'"),
]

TEST = {
    "seed": 0,
    "data": {"name": "squares"},
    "instruments": ("spectrum",),
    "spectrum": {"num_modes": 6, "num_samples": 500, "share": 0.4},
    "trials": {"factors": (), "num_trials": 2, "steps": 80, "beta_max": None, "beta_min": 1.0, "threshold": 0.1,
               "smooth": 3, "points": 40, "checkpoint_every": 40},
    "whole": {"beta_max": None, "beta_min": 1.0, "threshold": 0.1, "smooth": 3, "model": {"latents": 2},
              "optimizer": {}},
    "betas": {"source": "spectrum", "last": 1.0},
}  # fmt: skip


def trials(**changes):
    return {"instruments": ("spectrum", "trials"), "trials": TEST["trials"] | changes}


TESTS = [
    ({"seed": -1}, "seed must be at least 0"),
    ({"data": {}}, "data lacks the field 'name'"),
    ({"instruments": "spectrum"}, "instruments must be a list of texts, got 'spectrum'"),
    ({"instruments": ("guess",)}, "unknown instrument 'guess'; known: spectrum, trials, whole"),
    ({"spectrum": {"num_modes": 6}}, "spectrum lacks the field 'share'"),
    ({"spectrum": {"num_modes": 0, "share": 0.4}}, "spectrum needs num_modes >= 1"),
    ({"spectrum": {"num_modes": 6, "share": NAN}}, "spectrum.share must lie between"),
    ({"spectrum": 3}, "spectrum must be a section with fields of its own, got 3"),
    ({"betas": {"last": 1.0}}, "betas lacks the field 'source'"),
    ({"betas": {"source": "spectrum", "last": "low"}}, "betas.last must be a number, got 'low'"),
    (trials(points=0), "trials.points must be at least 1, got 0"),
    (trials(smooth=2.0), "trials.smooth must be a whole number, got 2.0"),
    (trials(threshold=NAN), "trials.threshold must lie between"),
    (trials(beta_max=-1.0), "trials.beta_max must be above 0, got -1.0"),
    ({"instruments": ("spectrum", "whole"), "whole": TEST["whole"] | {"model": 3}}, "whole.model must be a section"),
]


# ---- files and flags ----

CONFIG = """
import {module}
from ml_collections import ConfigDict

def get_config({word}):
    return ConfigDict({made})
"""
CHOICE = """
def get_config(word):
    if word != 'small':
        raise ValueError(f'unknown {word!r}; known: small')
"""
FILES = {
    "base.py": CONFIG.format(module="tiny", word="", made="tiny.config()"),
    "wrong.py": CONFIG.format(module="test_bad_input as t", word="word", made="t.wrong(int(word))"),
    "lacking.py": CONFIG.format(module="test_bad_input as t", word="word", made="t.lacking(int(word))"),
    "study.py": CONFIG.format(module="test_bad_input as t", word="word", made="t.ONE | t.STUDIES[int(word)][0]"),
    "test.py": CONFIG.format(module="test_bad_input as t", word="word", made="t.TEST | t.TESTS[int(word)][0]"),
    "choice.py": CHOICE,
    "words.txt": "a text, and no Python\n",
    "syntax.py": "def get_config():\n    return (\n",
    "raises.py": "import math\n\ndef get_config():\n    return math.sqroot(2)\n",
    "imports.py": "import no_such_module\n",
    "without.py": "seed = 0\n",
    "number.py": "get_config = 3\n",
    "nothing.py": "def get_config():\n    pass\n",
    "listed.py": "def get_config():\n    return [1, 2]\n",
    "betas.json": '{"thresholds": [3.0], "text": "high"}',
    "list.json": "[8.0, 2.0]",
    "cut.json": '{"betas": [8.0,',
    "damaged/config.json": '{"seed": 0,',
    "strange/config.json": "[1, 2]",
    "empty/.keep": "",
    "folder/config.json/.keep": "",
    "other/config.json": '{"seed": 0}',
}
FLAGS = [
    ((), "give --config, the experiment: a file in configs/."),
    (("--config=base.py",), "give --workdir, where the run writes"),
    (("--config=base.py", "--workdir="), "give --workdir"),
    (("--config=", "--workdir=run"), "--config is empty"),
    (("--config=missing.py", "--workdir=run"), "cannot read the config missing.py: No such file or directory"),
    (("--config=empty", "--workdir=run"), "cannot read the config empty: Is a directory"),
    (("--config=words.txt", "--workdir=run"), "the config words.txt, line 1: SyntaxError: invalid syntax"),
    (("--config=syntax.py", "--workdir=run"), "the config syntax.py, line 2: SyntaxError: "),
    (("--config=raises.py", "--workdir=run"), "the config raises.py, line 4: AttributeError: module 'math' has"),
    (("--config=imports.py", "--workdir=run"), "the config imports.py, line 1: ModuleNotFoundError: No module named"),
    (("--config=without.py", "--workdir=run"), "the config without.py has no function get_config()"),
    (("--config=number.py", "--workdir=run"), "the config number.py has no function get_config()"),
    (("--config=nothing.py", "--workdir=run"), "must return a ConfigDict, got NoneType"),
    (("--config=listed.py", "--workdir=run"), "of the config listed.py must return a ConfigDict, got list"),
    (("--config=choice.py:big", "--workdir=run"), "the config choice.py, line 4: unknown 'big'; known: small"),
    (("--config=choice.py", "--workdir=run"), "the config choice.py needs a word: --config=choice.py:WORD"),
    (("--config=base.py:small", "--workdir=run"), "the config base.py takes no word after the colon, got 'small'"),
    (("--config=base.py", "--workdir=run", "more"), "unexpected argument 'more'; known: --config, --workdir, --config"),
    (("--config=base.py", "--workdir=run", "--sky=blue"), "Unknown command line flag 'sky'; known: --config, --"),
    (("--config.seed=1", "--config=base.py", "--workdir=run"), "before a value for --config was specified"),
]
FIELDS = [
    ("--config.sede=3", "the config has no field 'sede'"),
    ("--config.optimizer.learning_rat=3", 'Did you mean "learning_rate"'),
    ("--config.seed=x", "invalid literal for int() with base 10: 'x'; it takes an integer"),
    ("--config.batch_size=1.5", "--config.batch_size=1.5: "),
    ("--config.optimizer.gamma=much", "could not convert string to float: 'much'; it takes a number"),
    ("--config.optimizer.gamma=nan", "optimizer.gamma must lie between"),
    ("--config.stages.betas=high", "stages.betas must be a list of numbers, got "),
    ("--config.model.latents=0", "latents must be from 1 to"),
    ("--config.stages=3", "--config.stages"),
    ("--config.stages.betas=@nowhere.json", "cannot read nowhere.json for --config.stages.betas: No such file"),
    ("--config.stages.betas=@empty", "cannot read empty for --config.stages.betas: Is a directory"),
    ("--config.stages.betas=@cut.json", "cannot read cut.json for --config.stages.betas, it is not JSON: "),
    ("--config.stages.betas=@list.json", "list.json has no entry 'betas' for --config.stages.betas, it holds no JSON"),
    ("--config.stages.betas=@betas.json", "betas.json has no entry 'betas' for --config.stages.betas; it has thresho"),
    ("--config.stages.betas=@", "cannot read '' for --config.stages.betas"),
]
WORKDIRS = [
    ("base.py", "cannot write into the workdir base.py"),
    ("base.py/run", "cannot write into the workdir base.py/run: Not a directory"),
    ("damaged", "cannot read damaged/config.json: "),
    ("strange", "cannot read strange/config.json: it holds no JSON object"),
    ("folder", "cannot read folder/config.json: Is a directory"),
    ("other", "other holds a run of another configuration (batch_size is None there and 8 here"),
]
EVALUATE = [
    ((), "one of the arguments --workdir --codes is required"),
    (("--workdir", "done", "--codes", "codes.npz"), "not allowed with argument --workdir"),
    (("--workdir", "done", "--colour", "red"), "unrecognized arguments: --colour red; known: --help, --workdir"),
    (("--workdir", "done", "--step", "x"), "argument --step: invalid int value: 'x'"),
    (("--workdir", ""), "--workdir is empty"),
    (("--workdir", "empty"), "empty holds no run: it has no config.json"),
    (("--workdir", "nowhere"), "nowhere holds no run"),
    (("--workdir", "base.py"), "base.py holds no run"),
    (("--workdir", "damaged"), "cannot read damaged/config.json"),
    (("--workdir", "strange"), "cannot read strange/config.json: it holds no JSON object"),
    (("--workdir", "other"), "other is not the workdir of a training"),
    (("--workdir", "young"), "young has no checkpoint yet"),
    (("--workdir", "torn"), "cannot read torn/results.json: "),
    (("--workdir", "done", "--step", "5"), "no checkpoint of step 5 in "),
    (("--workdir", "done", "--metrics", "migg"), "unknown metric 'migg'; known: beta_vae, dci"),
    (("--workdir", "done", "--metrics", ","), "there must be a metric, a variant and a sample at least"),
    (("--workdir", "done", "--variants", "median"), "unknown variant 'median'; known: mean"),
    (("--workdir", "done", "--num_samples", "-1"), "there must be a metric, a variant and a sample at least"),
    (("--workdir", "done", "--seed", "-1"), "seed must be at least 0, got -1"),
    (("--workdir", "done", "--jobs", "0"), "--jobs must be at least 1, got 0"),
    (("--workdir", "done", "--metrics", "udr"), "udr compares several runs: give two workdirs or more"),
    (("--codes", ""), "--codes is empty; give a path"),
    (("--codes", "nowhere.npz"), "cannot read codes and factors from nowhere.npz: No such file or directory"),
    (("--codes", "empty"), "cannot read codes and factors from empty: Is a directory"),
    (("--codes", "words.txt"), "cannot read codes and factors from words.txt: "),
    (("--codes", "cut.npz"), "cannot read codes and factors from cut.npz: "),
    (("--codes", "small.npz"), "it lacks codes; it has images, factors"),
    (("--codes", "pickles.npz"), "it lacks codes; it has images, factors"),
    (("--codes", "holes.npz"), "codes must be finite, got nan in row 7, latent 1"),
    (("--codes", "rows.npz"), "codes and factors must have the same N, got (40, 3) and (50, 2)"),
    (("--codes", "still.npz", "--metrics", "mig,sap"), "no factor varies in the sample"),
    (("--codes", "objects.npz"), "cannot read codes and factors from objects.npz: Object arrays cannot be loaded"),
    (("--codes", "codes.npz", "--metrics", "factor_vae"), "needs a model, not an archive of codes: give --workdir"),
]
REPORT = [
    ((), "the following arguments are required: DIR"),
    (("empty", "--out", "page.html"), "empty holds no run: it has no config.json"),
    (("base.py", "--out", "page.html"), "base.py is no folder; give the workdir of a run"),
    (("nowhere",), "nowhere is not there; give the workdir of a run"),
    (("damaged",), "cannot read damaged/config.json"),
    (("folder",), "cannot read folder/config.json: Is a directory"),
    (("other",), "other is no run: its config.json has neither stages nor instruments"),
    (("done", "--out", "empty"), "empty is a folder; give the name of the page to write"),
    (("",), "the name of a workdir is empty"),
]
GALLERY = [
    (("mnist",), "unknown data set 'mnist'; known: archive, cars3d"),
    (("squares", "translation"), "sets of different sizes do not fit one figure"),
    (("squares", "--seed", "-1"), "seed must be at least 0, got -1"),
    (("squares", "--seed", "one"), "argument --seed: invalid int value: 'one'"),
    (("squares", "--options", "[1]"), "--options must be a JSON object, got [1]"),
    (("squares", "--options", "{x"), "--options '{x' is not JSON"),
    (("squares", "--options", '{"side": 3}'), "data has no field 'side'"),
    (("squares", "--out", "empty"), "empty is a folder; give the name of the PNG to write"),
    (("archive", "--options", '{"path": "cut.npz"}'), "cannot read the archive 'cut.npz'"),
    (("squares(size=2)",), "size has no value 2; allowed: 0 to 1"),
]


def cases():
    """Every case: (command, its arguments, what must be said)."""
    run = "--workdir=run"
    yield from (("train", arguments, told) for arguments, told in FLAGS)
    yield from (("train", ("--config=base.py", run, argument), told) for argument, told in FIELDS)
    yield from (("train", (f"--config=wrong.py:{n}", run), told) for n, (_, told) in enumerate(WRONG))
    yield from (("train", (f"--config=lacking.py:{n}", run), path[-1]) for n, path in enumerate(MISSING))
    yield from (("train", ("--config=base.py", f"--workdir={workdir}"), told) for workdir, told in WORKDIRS)
    yield "train", ("--config=base.py", "--workdir=done", "--config.seed=1"), "(seed is 0 there and 1 here)"
    yield from (("sweep", (f"--config=study.py:{n}", run), told) for n, (_, told) in enumerate(STUDIES))
    yield "sweep", ("--config=base.py", run), "the study lacks runs, seeds, metrics"
    yield "sweep", ("--config=study.py:0", run, "--jobs=0"), "--jobs=0"
    yield "sweep", ("--config=missing.py", run), "cannot read the config missing.py"
    yield from (("annealing", (f"--config=test.py:{n}", run), told) for n, (_, told) in enumerate(TESTS))
    yield "annealing", ("--config=base.py", run), "the configuration lacks instruments"
    yield "annealing", ("--config=without.py", run), "has no function get_config()"
    yield from (("evaluate", arguments, told) for arguments, told in EVALUATE)
    yield from (("report", arguments, told) for arguments, told in REPORT)
    yield from (("gallery", arguments, told) for arguments, told in GALLERY)


CASES = list(cases())


class Trap:
    """Unpickled, it makes a file."""

    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path("unpickled"),)


def fill(folder, trained):
    """The files that the cases name."""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for name in ("done", "torn"):
        shutil.copytree(trained, folder / name)
    (folder / "torn" / "results.json").write_text('{"mig":')
    (folder / "young").mkdir()
    shutil.copy(trained / "config.json", folder / "young")

    rng = np.random.default_rng(0)
    codes, factors = rng.normal(size=(50, 3)), rng.integers(0, 3, (50, 2))
    holes, still = codes.copy(), factors.copy()
    holes[7, 1], still[:] = NAN, 2
    traps = np.array([Trap()] * 50, object)
    images = rng.integers(0, 256, (50, 10, 10), np.uint8)
    for name, arrays in {
        "small": {"images": images, "factors": factors},
        "pickles": {"images": traps, "factors": factors},
        "codes": {"codes": codes, "factors": factors},
        "holes": {"codes": holes, "factors": factors},
        "rows": {"codes": codes[:40], "factors": factors},
        "still": {"codes": codes, "factors": still},
        "objects": {"codes": traps, "factors": factors},
    }.items():
        np.savez(folder / f"{name}.npz", **arrays)
    (folder / "cut.npz").write_bytes((folder / "small.npz").read_bytes()[:-300])


def contents(folder):
    """Everything below a folder: name -> size, time and digest."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.stat()
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(folder))] = (status.st_size, status.st_mtime_ns, digest)
    return found


@pytest.fixture(scope="module")
def outcomes(trained_once, tmp_path_factory):
    """What came of each case: its status, what it wrote on stdout and stderr, and which files it changed."""
    folder = tmp_path_factory.mktemp("bad_input")
    fill(folder, trained_once)
    environment = tiny.devices(2)
    done = subprocess.run(
        [sys.executable, __file__], cwd=folder, env=environment, capture_output=True, text=True, timeout=3000
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{name} {told[:50]}" for name, _, told in CASES])
def test_one_line_status_2_and_nothing_changed(outcomes, number):
    name, _, told = CASES[number]
    outcome = outcomes[number]
    assert "Traceback" not in outcome["stderr"], outcome["stderr"]
    [line] = outcome["stderr"].splitlines()
    assert line.startswith(f"deft_jax.{name}: ")
    assert told in line
    assert outcome["status"] == 2
    assert outcome["stdout"] == ""
    assert outcome["changed"] == []


def in_this_process(name, arguments):
    """Runs a command as `python -m` would: -> status, stdout, stderr."""
    from absl.testing import flagsaver

    module = importlib.import_module(f"deft_jax.{name}")
    out, err, status = io.StringIO(), io.StringIO(), 0
    sys.argv = [f"deft_jax.{name}", *arguments]
    with flagsaver.flagsaver(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if name in ("train", "annealing"):
                load = module._load if name == "train" else lambda: module.run
                cli.run_command(f"deft_jax.{name}", load)
            else:
                module.main()
        except SystemExit as ended:
            status = ended.code
        except BaseException:
            traceback.print_exc()
            status = "an exception"
    return status, out.getvalue(), err.getvalue()


def main():
    sys.modules["test_bad_input"] = sys.modules["__main__"]  # as the configs call it
    folder, told = pathlib.Path.cwd(), []
    before = contents(folder)
    for name, arguments, _ in CASES:
        status, out, err = in_this_process(name, arguments)
        after = contents(folder)
        changed = sorted(path for path in before | after if before.get(path) != after.get(path))
        told.append({"status": status, "stdout": out, "stderr": err, "changed": changed})
        before = after
    print(json.dumps(told))


# ---- the same as programs of their own, and what ends in another status ----


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("train", ("--config=wrong.py:0", "--workdir=run"), "seed must be at least 0, got -1"),
        ("evaluate", ("--codes", "missing.npz"), "cannot read codes and factors from missing.npz: No such file"),
        ("gallery", ("mnist",), "unknown data set 'mnist'"),
    ],
)
def test_the_same_as_a_program_of_its_own(tmp_path, name, arguments, told):
    (tmp_path / "wrong.py").write_text(FILES["wrong.py"])
    before = contents(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", f"deft_jax.{name}", *arguments],
        cwd=tmp_path, env=tiny.ENVIRONMENT, capture_output=True, text=True, timeout=3000,
    )  # fmt: skip
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"deft_jax.{name}: ")
    assert told in line
    assert done.stdout == ""
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("of two\nlines"), 2),
        (FloatingPointError("the loss is not finite"), 1),
        (OSError(28, "No space left on device"), 1),
        (ChildProcessError("a process died"), 1),
        (Interrupted("SIGTERM: saved step 3 of 8"), 143),
    ],
)
def test_how_a_command_ends(error, status, capsys):
    with pytest.raises(SystemExit) as ended, cli.cli_errors("deft_jax.train"):
        raise error
    assert ended.value.code == status
    assert capsys.readouterr().err == f"deft_jax.train: {' '.join(str(error).split())}\n"


def test_a_fault_of_ours_is_not_hidden():
    with pytest.raises(ZeroDivisionError), cli.cli_errors("deft_jax.train"):
        raise ZeroDivisionError


if __name__ == "__main__":
    main()
