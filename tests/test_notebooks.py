"""The notebooks are small and clean, and run from their first cell to their last in a short form."""

import ast
import json
import pathlib

import pytest
import tiny

NOTEBOOKS = sorted((pathlib.Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
LARGEST = 600_000  # bytes


def cells_of(path, kind):
    cells = json.loads(path.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def program_of(path):
    """The code cells as one program, without lines that only a notebook understands."""
    lines = "\n\n".join(cells_of(path, "code")).splitlines()
    return "\n".join(line for line in lines if not line.startswith(("%", "!")))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_clean(path):
    notebook = json.loads(path.read_text())
    assert notebook["nbformat"] == 4
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert path.stat().st_size < LARGEST
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1)), "run from top to bottom, once"
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not any(output["output_type"] == "error" for output in outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs), "figures of a real run are stored"
    assert all(cell["metadata"] in ({}, {"tags": ["hide-cell"]}) for cell in notebook["cells"])
    assert "/tmp/" not in path.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path):
    program = "display = print  # as IPython has it\n" + program_of(path)
    ast.parse(program)
    environment = tiny.ENVIRONMENT | {"DEFT_JAX_NOTEBOOK_SMALL": "1", "MPLBACKEND": "agg"}
    # -c: the processes that a study starts would run a script of their parent again.
    tiny.run_python(program, environment=environment, cwd=tmp_path)
    assert list(tmp_path.glob("runs/notebook_*"))
