"""Pages of docs/experiments: they are what build.py writes from the data, and no result in them is typed by hand."""

import importlib.util
import json
import pathlib
import re
import runpy
import shutil
import statistics
import sys

import pytest

FOLDER = pathlib.Path(__file__).parent.parent / "docs" / "experiments"
TEMPLATES = sorted(FOLDER.glob("*/page.md.j2"))


@pytest.fixture(scope="module")
def build():
    sys.path.insert(0, str(FOLDER))  # of measured.py
    spec = importlib.util.spec_from_file_location("build_experiments", FOLDER / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copy(tmp_path):
    """A copy of the folder of experiments, to change its data."""
    return shutil.copytree(FOLDER, tmp_path / "experiments", ignore=shutil.ignore_patterns("*.png", "__pycache__"))


def literal_text(template):
    """The text of a template that is written by hand, without code."""
    text = re.sub(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", " ", template, flags=re.DOTALL)
    text = re.sub(r"```.*?```", " ", text, flags=re.DOTALL)
    return re.sub(r"`[^`]*`|\]\([^)]*\)", " ", text)


def test_committed_pages_are_those_of_the_data(build):
    pages = build.build()
    stale = [name for name, text in pages.items() if (FOLDER / name).read_text(encoding="utf-8") != text]
    assert not stale, f"run python docs/experiments/build.py: {stale}"
    assert {path.name for path in FOLDER.glob("*.md")} == set(pages)


@pytest.mark.parametrize("path", [*TEMPLATES, FOLDER / "index.md.j2"], ids=lambda path: path.parent.name)
def test_no_result_is_typed_by_hand(path):
    literals = re.findall(r"(?<![\w.])\d*\.\d+|±", literal_text(path.read_text(encoding="utf-8")))
    assert [text for text in literals if text != "±" or path.name != "index.md.j2"] == []


def test_means_and_deviations_agree_with_the_seeds(build):
    for path in sorted(FOLDER.glob("*/scores.csv")):
        for key, score in build.Experiment.read(path.parent).scores.items():
            numbers = [float(text) for text in score.values]
            if numbers:
                assert len(numbers) == len(score.seeds), key
            if len(numbers) > 1 and score.deviation:
                assert float(score.mean) == pytest.approx(statistics.mean(numbers), abs=1.1e-3), key
                assert float(score.deviation) == pytest.approx(statistics.stdev(numbers), abs=1.6e-3), key


def test_the_quickstart_promises_what_its_seeds_had():
    migs = [run["mig"] for run in json.loads((FOLDER / "quickstart" / "seeds.json").read_text())]
    assert len(migs) >= 10
    promise = runpy.run_path(str(FOLDER.parents[1] / "configs" / "quickstart.py"))["EXPECTED"]
    assert [float(number) for number in re.findall(r"0\.\d+", promise)] == [min(migs), max(migs)]


def test_a_study_json_replaces_the_runs_it_holds(build, copy):
    run = {"scores": {"mig": {"0": 0.9, "1": 0.7}, "sap": {"0": 0.1, "1": 0.1}}, "seconds": {"0": 60, "1": 62},
           "diverged": [], "missing": []}  # fmt: skip
    summary = {"scale": "full", "seeds": [0, 1], "runs": {"deft": run}}
    (copy / "dsprites" / "study.json").write_text(json.dumps(summary))
    held = build.Experiment.read(copy / "dsprites")
    assert str(held.score("small_dsprites", "deft", "mig")) == "0.800 ± 0.141"
    assert held.score("small_dsprites", "deft", "seconds").mean == "61"
    assert held.score("small_dsprites", "beta_vae", "mig").mean == "0.039"
    with pytest.raises(KeyError, match="no nmi1 of deft"):
        held.score("small_dsprites", "deft", "nmi1")
    page = build.render("dsprites", copy)
    assert "**Answer:** DEFT has" in page
    assert "0.800 ± 0.141" in page
    assert "study.json" in page


def test_a_folder_outside_the_index_is_an_error(build, copy):
    shutil.copytree(copy / "survival", copy / "another")
    with pytest.raises(ValueError, match="lacks another"):
        build.build(copy)


def test_results_of_the_readme_are_those_of_the_rotation_page():
    pages = (FOLDER / "rotation.md", FOLDER.parents[1] / "README.md")
    measured, in_readme = (set(re.findall(r"(0\.\d+)\s±\s(0\.\d+)", page.read_text())) for page in pages)
    assert in_readme
    assert in_readme <= measured
