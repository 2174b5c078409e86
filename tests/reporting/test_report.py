"""The report: one file that contains everything, shows what the workdirs have, and works in a browser."""

import io
import json
import shutil
import statistics

import numpy as np
import pytest
import tiny
from html_page import HtmlPage, decode_image
from matplotlib import image

from deft_jax import report
from deft_jax.reporting import elements, model_sections, score_comparison
from deft_jax.reporting import page as reporting_page
from deft_jax.reporting.run_summary import RunSummary

TITLE = "a <b>bold</b> & 'quoted' run"


@pytest.fixture(scope="module")
def runs(trained_once, tmp_path_factory):
    """A run with a name that HTML must escape, and copies of it with another seed and with other stages."""
    folder = tmp_path_factory.mktemp("runs")
    workdirs = [folder / TITLE, folder / "second", folder / "third"]
    shutil.copytree(trained_once, workdirs[0])
    config, results = (json.loads((workdirs[0] / name).read_text()) for name in ("config.json", "results.json"))
    changes = ({"seed": 1}, {"stages": config["stages"] | {"betas": [4.0, 2.0]}})
    for workdir, change, mig in zip(workdirs[1:], changes, (0.25, 0.5), strict=True):
        shutil.copytree(workdirs[0], workdir)
        (workdir / "config.json").write_text(json.dumps(config | change))
        (workdir / "results.json").write_text(json.dumps(results | {"mig": mig, "sap": {"score": mig / 2}}))
    return workdirs


@pytest.fixture(scope="module")
def page_path(runs):
    return reporting_page.report(runs[:1], runs[0] / "report.html")


@pytest.fixture(scope="module")
def page(page_path):
    return HtmlPage(page_path.read_text())


@pytest.fixture
def short_sections(monkeypatch):
    """Pages of several runs without the sections of each, which take long to draw."""
    monkeypatch.setattr(reporting_page, "training_sections", lambda run, live: [RunSummary({"Title": run.title}, "{}")])


def latent_sliders(page):
    return [slider for slider in page.attributes("input", type="range") if "data-latent" in slider]


def test_page_refers_to_nothing_outside_itself(page_path, page):
    text = page_path.read_text()
    images = page.attributes("img")
    assert len(images) >= 12
    for attributes in images:
        decode_image(attributes["src"])
        assert attributes["alt"]
    for reference in ("http://", "https://", "url(", 'src="//', 'href="//', "@import"):
        assert reference not in text
    assert [link["href"] for link in page.attributes("link")] == ["data:,"]
    assert not [script for script in page.attributes("script") if "src" in script]
    assert len(text) < 6e6


def test_every_open_latent_has_a_slider_and_a_sprite(page):
    sliders = latent_sliders(page)
    assert [slider["data-latent"] for slider in sliders] == ["0", "1", "2", "3"]
    assert all(slider["aria-label"] == f"z{slider['data-latent']}" for slider in sliders)
    assert {slider["max"] for slider in sliders} == {str(len(model_sections.VALUES) - 1)}
    sprites = page.attributes("img", **{"class": "sprite"})
    shape = (model_sections.BASES * tiny.SIDE, len(model_sections.VALUES) * tiny.SIDE)
    assert [decode_image(sprite["src"]).shape[:2] for sprite in sprites] == [shape] * 4
    assert len(page.attributes("input", type="radio")) == model_sections.BASES


def test_titles_are_escaped_and_every_link_has_its_anchor(runs, page):
    assert page.texts["title"] == [f"DEFT: {runs[0].name}"]
    assert runs[0].name in page.texts["strong"]
    assert not page.attributes("b"), "the name of the folder became markup"
    anchors = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = [link["href"].removeprefix("#") for link in page.attributes("a")]
    assert len(links) >= 7
    assert set(links) <= anchors


def test_slider_of_the_matrix_has_the_logged_nmi(runs, page):
    frames = json.loads(page.attributes("div", **{"class": "matrix"})[0]["data-frames"])
    lines = (runs[0] / "metrics.jsonl").read_text().splitlines()
    logged = [record["nmi"] for record in map(json.loads, lines) if record["kind"] == "eval"]
    np.testing.assert_allclose(frames["nmi"], logged, atol=6e-4)
    assert len(frames["labels"]) == len(logged) > 1


def test_ledger_is_drawn_with_a_row_per_stage_and_per_taken_latent(runs, page):
    results = json.loads((runs[0] / "results.json").read_text())["ledger"]
    rows = [row[0] for row in page.rows if row]
    assert sum(str(name).startswith("stage ") for name in rows) == len(results["stages"]) == 2
    taken = [f"z{latent['latent']} (group {latent['group']})" for latent in results["latents"]]
    assert [name for name in rows if name in taken] == taken


def test_several_runs_are_compared_by_their_scores(runs, short_sections, tmp_path):
    page = HtmlPage(reporting_page.report(runs, tmp_path / "all.html").read_text())
    results = [json.loads((run / "results.json").read_text()) for run in runs]
    scores = [score_comparison.scores_of(result) for result in results]
    assert all("mig" in run_scores for run_scores in scores)
    [violins] = [attributes for attributes in page.attributes("img") if attributes["alt"].startswith("Violins of")]
    decode_image(violins["src"])
    rows = {row[0]: row for row in page.rows if row}
    names = list(dict.fromkeys(name for run_scores in scores for name in run_scores))
    assert set(names) == {"mig", "sap.score", "ledger.foreign", "ledger.foreign_pairwise", "ledger.spread"}
    for run, result, run_scores, letter in zip(runs, results, scores, "AAB", strict=True):
        assert rows[run.name][1:3] == [letter, str(result["step"])]
        assert rows[run.name][4:] == [run_scores.get(name, "–") for name in names]
    for letter, group in (("A", scores[:2]), ("B", scores[2:])):
        _, count, *statistics_of_group, differences = rows[letter]
        assert count == str(len(group))
        assert "stages.betas" in differences
        for index, name in enumerate(names):
            values = [run_scores[name] for run_scores in group if name in run_scores]
            mean, deviation = statistics_of_group[2 * index : 2 * index + 2]
            assert mean == pytest.approx(statistics.mean(values))
            assert deviation == (pytest.approx(statistics.stdev(values)) if len(values) > 1 else "–")


def test_study_compares_all_finished_runs_and_shows_one_of_each_configuration(trained_once, short_sections, tmp_path):
    folder = tmp_path / "study"
    for name, seed, batch_size in (("a/seed_2", 2, 8), ("a/seed_10", 10, 8), ("b/seed_2", 2, 4)):
        shutil.copytree(trained_once, folder / name / "run")
        config = json.loads((trained_once / "config.json").read_text()) | {"seed": seed, "batch_size": batch_size}
        (folder / name / "run" / "config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"runs": {}}))
    (folder / "a" / "seed_11" / "run").mkdir(parents=True)  # not finished
    page = HtmlPage(reporting_page.report([folder], tmp_path / "page.html").read_text())
    assert [article["id"] for article in page.attributes("article")] == ["scores", "run-0", "run-1"]
    assert [row[0] for row in page.rows if row and str(row[0]).startswith(("a/", "b/"))] == [
        "a/seed_2", "a/seed_10", "b/seed_2",
    ]  # fmt: skip
    assert [text for text in page.texts["h2"] if "seed" in text] == ["a/seed_2", "b/seed_2"]


def test_interrupted_run_shows_the_model_of_its_checkpoint(runs, tmp_path):
    workdir = tmp_path / "stopped"
    shutil.copytree(runs[0], workdir)
    (workdir / "results.json").unlink()
    for step in (6, 8):
        shutil.rmtree(workdir / "checkpoints" / str(step))  # 4 is left, the end of the first stage
    page = HtmlPage(reporting_page.report([workdir], tmp_path / "page.html").read_text())
    assert any("4 of 8, not finished" in text for text in page.texts["dd"])
    assert [slider["data-latent"] for slider in latent_sliders(page)] == ["0", "1"], "the second group is not open"


def test_page_of_one_run_lies_in_its_workdir_and_of_several_in_the_current_folder(
    runs, capsys, short_sections, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    report.main([str(runs[1])])
    report.main([str(runs[1]), str(runs[2])])
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{runs[1] / 'report.html'} (")
    assert second.startswith("report.html (")
    assert (runs[1] / "report.html").exists()
    assert (tmp_path / "report.html").exists()


_SET = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))"
_FITS = "return document.documentElement.scrollWidth <= window.innerWidth"


def test_page_works_in_a_browser(browser, page_path, page, tmp_path):
    # Sprites whose tiles all differ, so that another tile is another picture however little the model has learned.
    bases, values = model_sections.BASES, len(model_sections.VALUES)
    tiles = np.linspace(0, 1, bases * values).reshape(bases, values)
    images = np.broadcast_to(tiles[..., None, None, None], (bases, values, tiny.SIDE, tiny.SIDE, 1))
    text = page_path.read_text()
    for sprite in page.attributes("img", **{"class": "sprite"}):
        text = text.replace(sprite["src"], elements.png_uri(model_sections.sprite(images)))
    copy = tmp_path / "page.html"
    copy.write_text(text)
    phone = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    browser.get(copy.as_uri())
    assert browser.execute_script(_FITS), "wider than a phone"
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get(copy.as_uri())
    assert browser.execute_script(_FITS)
    widths = browser.execute_script("return [...document.images].map((image) => image.naturalWidth)")
    assert len(widths) >= 12
    assert min(widths) > 0

    panel = browser.find_element("css selector", ".latent")
    window, slider = panel.find_element("css selector", ".window"), panel.find_element("css selector", "input")
    for column, value in ((0, "−2.50"), (7, "0.00"), (14, "2.50")):
        browser.execute_script(_SET, slider, column)
        assert panel.find_element("css selector", "output").text == value
        assert brightness(window) == pytest.approx(tiles[0, column], abs=0.02)
    panel.find_element("xpath", "//input[@type='radio'][@value='2']").click()
    starts = json.loads(panel.get_attribute("data-starts"))
    assert brightness(window) == pytest.approx(tiles[2, starts[2]], abs=0.02)

    matrix = browser.find_element("css selector", ".matrix")
    frames = json.loads(matrix.get_attribute("data-frames"))
    browser.execute_script(_SET, matrix.find_element("css selector", "input"), 0)
    numbers = [float(entry.text) for entry in matrix.find_elements("css selector", "tbody td")]
    np.testing.assert_allclose(numbers, np.ravel(frames["nmi"][0]), atol=0.0051)
    assert matrix.find_element("css selector", "output").text == frames["labels"][0]
    assert browser.get_log("browser") == []


def brightness(element):
    """Mean of the pixels in the middle of an element, in [0, 1]."""
    pixels = image.imread(io.BytesIO(element.screenshot_as_png))[..., :3]
    height, width = pixels.shape[:2]
    return float(pixels[height // 4 : -height // 4, width // 4 : -width // 4].mean())
