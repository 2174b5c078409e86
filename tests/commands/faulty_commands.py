"""Commands with faults: arguments, and what the line on stderr must name. As a program it runs all of them.

All run in one folder, one after the other in one process, because starting Python and JAX takes longer than finding a
fault. After each the folder must be as before: names, contents and times.
"""

import contextlib
import hashlib
import importlib
import io
import json
import pathlib
import shutil
import sys
import traceback

import faulty_configs
import numpy as np
import tiny

from deft_jax.runtime import cli

CONFIG = """
import {module}
from ml_collections import ConfigDict

def get_config({word}):
    return ConfigDict({config})
"""
CHOICE = """
def get_config(word):
    if word != 'small':
        raise ValueError(f'unknown {word!r}; known: small')
"""


def numbered(function):
    return CONFIG.format(module="faulty_configs", word="word", config=f"faulty_configs.{function}(int(word))")


FILES = {
    "base.py": CONFIG.format(module="tiny", word="", config="tiny.config()"),
    "training.py": numbered("training"),
    "without_required.py": numbered("without_required"),
    "study.py": numbered("study"),
    "test.py": numbered("annealing_test"),
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
    "unmeasured/config.json": '{"instruments": ["spectrum"]}',
    "half/config.json": '{"instruments": ["spectrum"]}',
    "half/freezing.json": "{}",
}
# Flags of a training: arguments beside --workdir=run, and a part of the line
FLAGS = [
    ((), "--config"),
    (("--config=",), "--config"),
    (("--config=missing.py",), "missing.py"),
    (("--config=empty",), "empty"),
    (("--config=words.txt",), "words.txt, line 1"),
    (("--config=syntax.py",), "syntax.py, line 2"),
    (("--config=raises.py",), "raises.py, line 4"),
    (("--config=imports.py",), "no_such_module"),
    (("--config=without.py",), "get_config"),
    (("--config=number.py",), "get_config"),
    (("--config=nothing.py",), "NoneType"),
    (("--config=listed.py",), "list"),
    (("--config=choice.py:big",), "big"),
    (("--config=choice.py",), "choice.py:WORD"),
    (("--config=base.py:small",), "small"),
    (("--config=base.py", "more"), "more"),
    (("--config=base.py", "--sky=blue"), "sky"),
    (("--config.seed=1", "--config=base.py"), "--config"),
]
# Fields set on the command line
FIELDS = [
    ("--config.sede=3", "sede"),
    ("--config.optimizer.learning_rat=3", "learning_rate"),
    ("--config.seed=x", "'x'"),
    ("--config.batch_size=1.5", "batch_size"),
    ("--config.optimizer.gamma=much", "much"),
    ("--config.optimizer.gamma=nan", "optimizer.gamma"),
    ("--config.stages.betas=high", "stages.betas"),
    ("--config.model.latents=0", "model.latents"),
    ("--config.stages=3", "--config.stages"),
    ("--config.stages.betas=@nowhere.json", "nowhere.json"),
    ("--config.stages.betas=@empty", "empty"),
    ("--config.stages.betas=@cut.json", "cut.json"),
    ("--config.stages.betas=@list.json", "list.json"),
    ("--config.stages.betas=@betas.json", "betas.json"),
    ("--config.stages.betas=@", "stages.betas"),
]
WORKDIRS = [
    ("", "--workdir"),
    ("base.py", "base.py"),
    ("base.py/run", "base.py/run"),
    ("damaged", "damaged/config.json"),
    ("strange", "strange/config.json"),
    ("folder", "folder/config.json"),
    ("other", "batch_size"),
]
EVALUATE = [
    ((), "--workdir"),
    (("--workdir", "done", "--codes", "codes.npz"), "--workdir"),
    (("--workdir", "done", "--colour", "red"), "--colour"),
    (("--workdir", "done", "--step", "x"), "--step"),
    (("--workdir", ""), "--workdir"),
    (("--workdir", "empty"), "config.json"),
    (("--workdir", "nowhere"), "nowhere"),
    (("--workdir", "base.py"), "base.py"),
    (("--workdir", "damaged"), "damaged/config.json"),
    (("--workdir", "strange"), "strange/config.json"),
    (("--workdir", "other"), "other"),
    (("--workdir", "young"), "young"),
    (("--workdir", "torn"), "torn/results.json"),
    (("--workdir", "done", "--step", "5"), "step 5"),
    (("--workdir", "done", "--metrics", "migg"), "migg"),
    (("--workdir", "done", "--metrics", ","), "metric"),
    (("--workdir", "done", "--variants", "median"), "median"),
    (("--workdir", "done", "--num_samples", "-1"), "sample"),
    (("--workdir", "done", "--seed", "-1"), "seed"),
    (("--workdir", "done", "--jobs", "0"), "--jobs"),
    (("--workdir", "done", "--num_samples", "19"), "at least 20"),
    (("--workdir", "done", "--metrics", "udr"), "udr"),
    (("--workdir", "gs://bucket"), "--workdir"),
    (("--workdir", "~nobody_of_this_name/run"), "--workdir"),
    (("--codes", ""), "--codes"),
    (("--codes", "nowhere.npz"), "nowhere.npz"),
    (("--codes", "empty"), "empty"),
    (("--codes", "words.txt"), "words.txt"),
    (("--codes", "cut.npz"), "cut.npz"),
    (("--codes", "small.npz"), "codes"),
    (("--codes", "holes.npz"), "row 7, latent 1"),
    (("--codes", "rows.npz"), "(40, 3)"),
    (("--codes", "still.npz", "--metrics", "mig,sap"), "factor"),
    (("--codes", "objects.npz"), "objects.npz"),
    (("--codes", "codes.npz", "--metrics", "factor_vae"), "--workdir"),
]
REPORT = [
    ((), "DIR"),
    (("empty", "--out", "page.html"), "config.json"),
    (("base.py", "--out", "page.html"), "base.py"),
    (("nowhere",), "nowhere"),
    (("damaged",), "damaged/config.json"),
    (("folder",), "folder/config.json"),
    (("other",), "other"),
    (("young", "--out", "page.html"), "young"),
    (("unmeasured", "--out", "page.html"), "freezing.json"),
    (("half", "--out", "page.html"), "lacks the entry"),
    (("done", "--out", "empty"), "empty"),
    (("",), "workdir"),
]
GALLERY = [
    (("mnist",), "mnist"),
    (("squares", "translation"), "size"),
    (("squares", "--seed", "-1"), "seed"),
    (("squares", "--seed", "one"), "--seed"),
    (("squares", "--options", "[1]"), "--options"),
    (("squares", "--options", "{x"), "--options"),
    (("squares", "--options", '{"side": 3}'), "side"),
    (("squares", "--out", "empty"), "empty"),
    (("archive", "--options", '{"path": "cut.npz"}'), "cut.npz"),
    (("squares(size=2)",), "size"),
    (("squares", "listed_squares", "--options", '{"a": 1}'), "options"),
]


def cases():
    """Every case: (command, its arguments, a part of each line that it must print)."""
    run = "--workdir=run"
    yield from (("train", (run, *arguments), (part,)) for arguments, part in FLAGS)
    yield from (("train", ("--config=base.py", run, argument), (part,)) for argument, part in FIELDS)
    yield from (("train", ("--config=base.py", f"--workdir={workdir}"), (part,)) for workdir, part in WORKDIRS)
    yield "train", ("--config=base.py",), ("--workdir",)
    yield "train", ("--config=base.py", "--workdir=done", "--config.seed=1"), ("seed",)
    for number, (_, *parts) in enumerate(faulty_configs.TRAININGS):
        yield "train", (f"--config=training.py:{number}", run), parts
    for number, path in enumerate(faulty_configs.REQUIRED):
        yield "train", (f"--config=without_required.py:{number}", run), (path[-1],)
    for number, (_, *parts) in enumerate(faulty_configs.STUDIES):
        yield "sweep", (f"--config=study.py:{number}", run), parts
    yield "sweep", ("--config=study.py:0", run, "--jobs=0"), ("--jobs",)
    yield "sweep", ("--config=study.py:0", run, "--resources=GPU"), ("NAME=NUMBER",)
    for resources in ("GPU=-1", "GPU=nan", "=1", "GPU=0"):
        yield "sweep", ("--config=study.py:0", run, f"--resources={resources}"), ("NAME=NUMBER",)
    for scheduler in ("", "tcp://localhost", "http://localhost:8786"):
        yield "sweep", ("--config=study.py:0", run, f"--scheduler={scheduler}"), ("tcp://HOST:PORT",)
    yield "sweep", ("--config=study.py:0", run, "--jobs=1", "--scheduler=tcp://localhost:1"), ("--jobs is",)
    yield "sweep", ("--config=missing.py", run), ("missing.py",)
    for number, (_, *parts) in enumerate(faulty_configs.TESTS):
        yield "annealing", (f"--config=test.py:{number}", run), parts
    yield "annealing", ("--config=without.py", run), ("get_config",)
    yield from (("evaluate", arguments, (part,)) for arguments, part in EVALUATE)
    yield from (("report", arguments, (part,)) for arguments, part in REPORT)
    yield from (("gallery", arguments, (part,)) for arguments, part in GALLERY)


def fill(folder, trained):
    """Writes the files that the cases name; `trained` is the workdir of a finished training."""
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
    with_nan, constant = codes.copy(), factors.copy()
    with_nan[7, 1], constant[:] = np.nan, 2
    traps = np.array([tiny.Trap(pathlib.Path("unpickled"))] * 50, object)
    images = rng.integers(0, 256, (50, 10, 10), np.uint8)
    for name, arrays in {
        "small": {"images": images, "factors": factors},
        "pickles": {"images": traps, "factors": factors},
        "codes": {"codes": codes, "factors": factors},
        "holes": {"codes": with_nan, "factors": factors},
        "rows": {"codes": codes[:40], "factors": factors},
        "still": {"codes": codes, "factors": constant},
        "objects": {"codes": traps, "factors": factors},
    }.items():
        np.savez(folder / f"{name}.npz", **arrays)
    (folder / "cut.npz").write_bytes((folder / "small.npz").read_bytes()[:-300])


def contents(folder):
    """Everything below a folder: name -> size, time and digest."""
    states = {}
    for path in sorted(folder.rglob("*")):
        status = path.stat()
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        states[str(path.relative_to(folder))] = (status.st_size, status.st_mtime_ns, digest)
    return states


def run_here(name, arguments):
    """Runs a command as `python -m` would, in this process: (status, stdout, stderr)."""
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
    """Runs all cases in the working folder and prints, as JSON, what each did."""
    folder, outcomes = pathlib.Path.cwd(), []
    before = contents(folder)
    for name, arguments, _ in cases():
        status, out, err = run_here(name, arguments)
        after = contents(folder)
        changed = sorted(path for path in before | after if before.get(path) != after.get(path))
        outcomes.append({"status": status, "stdout": out, "stderr": err, "changed": changed})
        before = after
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
