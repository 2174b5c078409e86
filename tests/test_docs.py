"""README.md, docs/ and the notebooks: links, paths, commands and their flags exist, and the examples run."""

import importlib.util
import json
import pathlib
import re

import jax
import numpy as np
import pytest
import tiny

import deft_jax
from deft_jax import data, metrics
from deft_jax.runtime import cli
from deft_jax.training import build as training_build
from deft_jax.training.config import parse_training
from deft_jax.training.runner import Runner
from deft_jax.training.step import init_state

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md",
         *(path for path in sorted((ROOT / "docs").rglob("*.md")) if not {"_build", "generated"} & set(path.parts)),
         *sorted((ROOT / "notebooks").glob("*.ipynb"))]  # fmt: skip


def page_id(page):
    return str(page.relative_to(ROOT))


def text_of(page):
    """The text of a page; of a notebook, its markdown."""
    text = page.read_text()
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return text


def commands_of(page):
    """(module, the rest of the line) of every `python -m` on a page; lines that go on are joined."""
    text = re.sub(r"\\\n\s*", "", text_of(page))
    if page.suffix == ".ipynb":
        text = re.sub(r"(?<!\n)\n(?!\n)", " ", text)  # prose is wrapped, commands within it too
    return re.findall(r"python3? -m ((?:deft_jax|benchmarks)[\w.]*)([^\n`]*)", text)


def fields_of(config, prefix=""):
    """Every field of a config by its dotted name, sections as well."""
    fields = set()
    for name, value in config.items():
        fields.add(prefix + name)
        if hasattr(value, "items"):
            fields |= fields_of(value, f"{prefix}{name}.")
    return fields


def config_named(argument):
    return cli._ConfigFile().parse(argument)


@pytest.fixture
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_and_images_exist(page):
    text = text_of(page)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"https?:|#", target):
            assert (page.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_paths_of_this_repository_exist(page):
    pattern = r"(?<![\w/.@])((?:deft_jax|configs|docs|launch|benchmarks|notebooks)/[a-z0-9_/]+(?:\.[a-z]+)?)(?![\w<*])"
    for path in re.findall(pattern, text_of(page).replace("docs/_build/html", "")):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_exist_with_their_flags(page, at_root):
    for module, rest in commands_of(page):
        where_flags_are = "benchmarks/suite.py" if module.startswith("benchmarks") else "deft_jax/runtime/cli.py"
        shared = (ROOT / where_flags_are).read_text()
        module_spec = importlib.util.find_spec(module)
        assert module_spec is not None, f"python -m {module}"
        if module_spec.submodule_search_locations:
            module_spec = importlib.util.find_spec(f"{module}.__main__")
            assert module_spec is not None, f"python -m {module}"
        source = pathlib.Path(module_spec.origin).read_text()
        for flag in re.findall(r"(?<!\S)--([a-z][\w-]*)(?=[\s=]|$)", rest):
            assert re.search(rf"[\"'](?:--)?{flag}[\"']", source + shared), f"python -m {module} --{flag}"
        named = re.search(r"--config[ =](configs/[\w/]+\.py\S*)", rest)
        if named and not re.search("[A-Z]", named[1]):
            known = fields_of(config_named(named[1]))
            for field in re.findall(r"--config\.([a-z_.]+)=", rest):
                assert field in known, f"{named[1]} has no field {field}"


def test_every_field_that_is_named_belongs_to_some_config(at_root):
    known = set()
    for path in sorted((ROOT / "configs").rglob("*.py")):
        known |= fields_of(config_named(str(path.relative_to(ROOT))))
    for page in PAGES:
        for field in re.findall(r"--config\.([a-z_.]+)=", text_of(page)):
            assert field in known, f"{page_id(page)}: --config.{field}"


def test_every_feature_is_shown_and_every_reference_of_the_table_has_its_commit():
    text = (ROOT / "docs" / "explanation" / "other_libraries.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if re.match(r"\| [^|]+ \| ", line)]
    assert len(rows) > 100
    for row in rows:
        assert len(row) == 6, row
        assert not row[1].startswith("yes"), f"without a link: {row}"
    defined = dict(re.findall(r"^\[([\w-]+)\]: \S+/blob/([0-9a-f]{7})/", text, re.MULTILINE))
    assert set(re.findall(r"\]\[([\w-]+)\]", text)) == set(defined)
    for commit in set(defined.values()):
        assert f"commit {commit}" in text


# ---- the examples of docs/extending.md ----


def blocks():
    """The Python of docs/extending.md: file name -> text; the block without a file name under ''."""
    named = {}
    for text in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(), re.DOTALL):
        name = re.match(r'"""(\w+\.py): ', text)
        named[name[1] if name else ""] = text
    return named


@pytest.fixture
def examples(tmp_path, monkeypatch):
    """The files of docs/extending.md in an importable folder."""
    for name, text in blocks().items():
        if name:
            (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)


def train(**changes):
    """Metrics of the first and of the second step of the smallest run."""
    experiment = training_build.build(tiny.config(**changes))
    runner = Runner(experiment, jax.devices()[:1])
    state, first = runner.run(0, runner.put(init_state(experiment)), 1)
    _, second = runner.run(0, state, 1)
    return first, second


def test_the_objective_trains_and_its_options_are_checked(examples):
    objective = {"name": "sparse_vae:sparse_vae", "weight": 5.0}
    for step in train(objective=objective, stages={"rule": "steps", "betas": (2.0, 0.5), "steps": 4}):
        assert step["l1"] > 0
        expected = step["reconstruction"] + 2.0 * step["kl"] + 5.0 * step["l1"]
        np.testing.assert_allclose(step["loss"], expected, rtol=1e-5)
    for wrong in ({"wait": 1.0}, {"weight": "high"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            training_build.build(tiny.config(objective={"name": "sparse_vae:sparse_vae"} | wrong))


def test_the_state_of_the_objective_is_the_next_step_s_weight(examples):
    first, second = train(objective={"name": "budget_vae:budget_vae", "budget": 3.0, "rate": 0.1})
    np.testing.assert_allclose(first["beta"], 8.0)
    np.testing.assert_allclose(second["beta"], 8.0 * np.exp(0.1 * (first["kl"] - 3.0)), rtol=1e-5)
    assert second["beta"] < 7.0


def test_an_objective_that_cannot_be_imported_is_refused(examples):
    for name in ("sparse_vae:dense_vae", "no_such_module:vae", ":", "..:x"):
        with pytest.raises(ValueError, match="objective"):
            training_build.build(tiny.config(objective={"name": name}))


def test_the_metric_separates_linear_codes_from_noise(examples, trained_once):
    rng = np.random.default_rng(0)
    factors = rng.integers(0, (3, 4), (500, 2))
    codes = factors @ np.array([[1.0, 0.5, 0.0], [-1.0, 1.0, 2.0]])
    assert metrics.compute("linear_fit:linear_fit", codes, factors)["linear_fit"] > 0.99
    assert metrics.compute("linear_fit:linear_fit", rng.normal(size=(500, 3)), factors)["linear_fit"] < 0.1
    assert metrics.kind("linear_fit:linear_fit") == "samples"
    namespace = {"WORKDIR": trained_once}
    exec(blocks()[""], namespace)
    assert 0 <= namespace["scores"]["linear_fit"] <= 1
    changes = {"periodic_metrics": {"linear_fit:linear_fit": {"every": 4}}}
    training_build.check_metrics(parse_training(tiny.config(**changes)), data.get("squares"))


def test_a_function_that_is_no_metric_is_refused(examples):
    for name in ("linear_fit:cubic_fit", "no_such_module:fit", "sparse_vae:sparse_vae", "linear_fit"):
        with pytest.raises(ValueError, match="metric"):
            metrics.compute(name, np.zeros((4, 2)), np.zeros((4, 1), int))


def test_the_data_set_trains(examples):
    source = data.get("discs:discs", side=32, places=5)
    factors = np.array([[0, 0, 0], [2, 4, 0], [1, 2, 2]])
    images = np.asarray(jax.jit(source.render)(source.arrays, factors, jax.random.key(0)))
    assert images.shape == (3, 32, 32, 1)
    areas = images.sum(axis=(1, 2, 3))
    assert areas[0] < areas[2] < areas[1]
    down, across = (np.argwhere(images[1, :, :, 0]) + 0.5).mean(axis=0)
    assert (across, down) == pytest.approx((0.8 * 32, 0.2 * 32), abs=0.5)
    first, _ = train(data={"name": "discs:discs", "side": 16, "places": 4})
    assert np.isfinite(first["loss"])
    assert data.get("discs:discs(size=0)").num_images == 16 * 16


def test_changelog_and_citation_name_the_version():
    assert f"## [{deft_jax.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
    assert f"\nversion: {deft_jax.__version__}\n" in (ROOT / "CITATION.cff").read_text()


# ---- the configurations of the how-to guides ----


def example_file(page, name):
    """The Python block of a guide that opens with this file name."""
    blocks_of_page = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "howto" / page).read_text(), re.DOTALL)
    return next(text for text in blocks_of_page if text.startswith(f'"""{name}: '))


def test_the_configuration_of_the_guide_is_a_training(tmp_path, at_root):
    path = tmp_path / "my_run.py"
    path.write_text(example_file("configure.md", "my_run.py"))
    assert training_build.build(config_named(str(path))).model.sizes == (2, 1, 1)


def test_the_study_of_the_guide_is_a_study(tmp_path, at_root):
    studies_config = pytest.importorskip("deft_jax.studies.config")
    path = tmp_path / "my_study.py"
    path.write_text(example_file("compare_methods.md", "my_study.py"))
    runs = studies_config.parse_study(config_named(str(path))).expand_runs()
    assert len(runs) == 9
