"""Floors: a file imports from lower floors only, and nothing heavy is loaded before it is needed."""

import ast
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "deft_jax"
FILES = sorted(PACKAGE.rglob("*.py"))

# From the ground up. A folder stands for all its files, which may import one another.
FLOORS = (
    ("state", "axes", "factors", "source", "schedules", "information", "convolutions", "options", "interruption",
     "freezing", "processes", "study", "workdir", "paths", "jax_settings"),
    ("gaussian", "spectrum"),
    ("data", "metrics", "models", "plots"),
    ("objectives", "optim", "presets", "freezing_plots", "report_plots"),
    ("steps", "trials", "checkpoint", "logs"),
    ("description",),
    ("experiment", "evaluation", "commands", "scoring"),
    ("record",),
    ("loop",),
    ("trained",),
    ("pages",),
    ("train", "annealing", "evaluate", "report"),
    ("sweep", "gallery"),
)
FLOOR = {module: floor for floor, modules in enumerate(FLOORS) for module in modules}


def name_of(path):
    """'deft_jax/metrics/mig.py' -> ('metrics', 'mig'); the __init__ of a folder is the folder."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imports_of(path):
    """Every module of this package that a file imports, wherever in the file, as parts below deft_jax."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively; write the whole name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {tuple(name.split(".")[1:]) for name in names if name.split(".")[0] == "deft_jax"}
    return found


def test_every_module_has_a_floor():
    modules = {name_of(path)[0] for path in FILES if name_of(path)}
    unplaced = sorted(modules - set(FLOOR))
    assert not unplaced, f"give {', '.join(unplaced)} a place in FLOORS of {pathlib.Path(__file__).name}"
    gone = sorted(set(FLOOR) - modules)
    assert not gone, f"FLOORS names {', '.join(gone)}, which do not exist"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_file_imports_from_lower_floors_only(path):
    name = name_of(path)
    if not name:
        assert imports_of(path) == {("trained",)}, "the package itself imports nothing but what load() needs"
        return
    # What the package itself exports has no floor.
    for imported in imports_of(path) - {(), ("__version__",), ("load",)}:
        module = imported[0]
        assert module in FLOOR, f"{'.'.join(name)} imports {module}, which has no floor"
        inside = name[0] == module and len(imported) > 1  # files of one folder
        assert inside or FLOOR[module] < FLOOR[name[0]], (
            f"{'.'.join(name)} (floor {FLOOR[name[0]]}) imports {'.'.join(imported)} (floor {FLOOR[module]})"
        )


def loaded_by(statement):
    """Top-level packages in a fresh interpreter after a statement."""
    code = f"import sys\n{statement}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_package_alone_loads_nothing():
    heavy = {"jax", "flax", "optax", "orbax", "tensorflow", "tensorflow_datasets", "matplotlib", "numpy"}
    assert not heavy & loaded_by("import deft_jax; deft_jax.__version__")


def test_training_loads_no_tensorflow_and_figures_wait():
    loaded = loaded_by("import deft_jax.loop")
    assert "jax" in loaded
    assert not {"tensorflow", "tensorflow_datasets", "matplotlib", "sklearn", "torch"} & loaded


_GENERATORS = ("default_rng", "Generator", "SeedSequence", "PCG64")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_file_uses_no_global_randomness_and_no_pickle(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for banned in ("pickle", "cPickle", "cloudpickle", "dill", "joblib", "random", "numpy.random"):
            assert banned not in modules, f"{path.name}:{node.lineno} imports {banned}"
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("np.random", "numpy.random"):
            assert node.attr in _GENERATORS, f"{path.name}:{node.lineno} uses np.random.{node.attr}, a global"
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant), f"{path.name}:{node.value.lineno}"
            assert node.value.value is False, f"{path.name}:{node.value.lineno} allows pickle"
