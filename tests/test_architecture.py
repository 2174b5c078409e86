"""Floors: a file imports from lower floors only, and nothing heavy is loaded before it is needed."""

import ast
import pathlib

import pytest
import tiny

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "deft_jax"
FILES = sorted(PACKAGE.rglob("*.py"))

# From the ground up: a room imports from those before it. Files beside the rooms are commands, which may use any.
ROOMS = ("runtime", "data", "models", "objectives", "metrics", "evaluation", "training", "annealing", "studies",
         "reporting")  # fmt: skip


def imports_of(path):
    """Every module of this package that a file imports, wherever in the file, as parts below deft_jax."""
    imports = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively; write the whole name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        imports |= {tuple(name.split(".")[1:]) for name in names if name.split(".")[0] == "deft_jax"}
    return imports


def test_every_room_has_a_docstring_and_public_names():
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(ROOMS)
    for room in ROOMS:
        tree = ast.parse((PACKAGE / room / "__init__.py").read_text())
        assert ast.get_docstring(tree)
        assert any(isinstance(node, ast.Assign) and node.targets[0].id == "__all__" for node in tree.body), room


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_file_imports_from_lower_rooms_only(path):
    parts = path.relative_to(PACKAGE).parts
    rooms = {name[0] for name in imports_of(path) if name} - {"__version__", "load"}
    assert rooms <= set(ROOMS), f"{path} imports {rooms - set(ROOMS)}, which are no rooms"
    if len(parts) > 1:
        allowed = ROOMS[: ROOMS.index(parts[0]) + 1]
        assert rooms <= set(allowed), f"{'/'.join(parts)} imports upward, from {', '.join(rooms - set(allowed))}"


def loaded_by(statement):
    """Top-level packages in a fresh interpreter after a statement."""
    code = f"import sys\n{statement}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    return set(tiny.run_python(code, environment=tiny.PLAIN).split())


def test_import_of_the_package_loads_no_framework():
    heavy = {"jax", "flax", "optax", "orbax", "tensorflow", "tensorflow_datasets", "matplotlib", "numpy", "distributed"}
    assert not heavy & loaded_by("import deft_jax; deft_jax.__version__")


def test_readers_of_data_sets_scikit_learn_and_figures_are_loaded_where_they_are_needed():
    loaded = loaded_by("import deft_jax.training, deft_jax.metrics, deft_jax.data.tfds")
    assert "jax" in loaded
    waiting = {"tensorflow", "tensorflow_datasets", "h5py", "PIL", "matplotlib", "sklearn", "torch"}
    assert not waiting & loaded


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
