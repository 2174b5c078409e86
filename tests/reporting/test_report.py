"""The report: one page that holds everything, shows what the files say, and works in a browser."""

import base64
import html.parser
import io
import json
import shutil
import statistics

import numpy as np
import pytest
import tiny
from matplotlib import image

from deft_jax import report
from deft_jax.evaluation import plots
from deft_jax.reporting import annealing_page as freezing_page
from deft_jax.reporting import elements, figures, training_page
from deft_jax.reporting import page as reporting_page
from deft_jax.reporting import scores as score_page

TITLE = "a <b>bold</b> & 'quoted' run"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")


class Page(html.parser.HTMLParser):
    """Tags with their attributes, texts by the tag around them, rows of tables."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.texts, self.rows = [], [], {}, []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
        elif tag == "data":
            self.rows[-1][-1] = float(dict(attributes)["value"])

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)
        if self.rows and self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data

    def of(self, tag, **wanted):
        return [found for name, found in self.tags if name == tag and wanted.items() <= found.items()]


@pytest.fixture(scope="module")
def runs(trained_once, tmp_path_factory):
    """A run with a name that HTML must escape, and copies of it told to be of another seed and of other stages."""
    folder = tmp_path_factory.mktemp("runs")
    made = [folder / TITLE, folder / "second", folder / "third"]
    shutil.copytree(trained_once, made[0])
    results = json.loads((made[0] / "results.json").read_text())
    changes = ({"seed": 1}, {"stages": {"rule": "steps", "betas": (4.0, 2.0), "steps": 4}})
    for workdir, change, mig in zip(made[1:], changes, (0.25, 0.5), strict=True):
        shutil.copytree(made[0], workdir)
        (workdir / "config.json").write_text(json.dumps(tiny.config(**change)))
        (workdir / "results.json").write_text(json.dumps(results | {"mig": mig, "sap": {"score": mig / 2}}))
    return made


@pytest.fixture(scope="module")
def single(runs):
    return reporting_page.report(runs[:1], runs[0] / "report.html")


@pytest.fixture(scope="module")
def several(runs):
    with pytest.MonkeyPatch.context() as patch:  # the parts of one run are those of the page above
        patch.setattr(reporting_page, "training_sections", lambda anchor, run: [("Run", elements.note(run.title))])
        return Page(reporting_page.report(runs, runs[0].parent / "all.html").read_text())


def decoded(source):
    """Shape of the image in a data URI."""
    head, _, content = source.partition(";base64,")
    content = base64.b64decode(content, validate=True)
    if head == "data:image/svg+xml":
        assert b"<svg" in content
        assert content.rstrip().endswith(b"</svg>")
        return None
    assert head == "data:image/png"
    return image.imread(io.BytesIO(content)).shape


def test_page_holds_all_it_shows(single):
    text = single.read_text()
    page = Page(text)
    images = page.of("img")
    assert len(images) >= 12
    for one in images:
        decoded(one["src"])
        assert one["alt"]
    for outside in ("http://", "https://", "url(", 'src="//', 'href="//', "@import"):
        assert outside not in text
    assert not page.of("link", rel="stylesheet")
    assert [link["href"] for link in page.of("link")] == ["data:,"]
    assert not [script for script in page.of("script") if "src" in script]
    assert len(text) < 6e6


def test_every_open_latent_has_a_slider_and_a_sprite(single):
    page = Page(single.read_text())
    sliders = [one for one in page.of("input", type="range") if "data-latent" in one]
    assert [one["data-latent"] for one in sliders] == ["0", "1", "2", "3"]
    assert all(one["aria-label"] == f"z{one['data-latent']}" for one in sliders)
    assert {one["max"] for one in sliders} == {str(len(training_page.VALUES) - 1)}
    sprites = page.of("img", **{"class": "sprite"})
    expected = (training_page.BASES * tiny.SIDE, len(training_page.VALUES) * tiny.SIDE)
    assert [decoded(one["src"])[:2] for one in sprites] == [expected] * 4
    assert len(page.of("input", type="radio")) == training_page.BASES


def test_titles_are_escaped_and_contents_lead_somewhere(runs, single):
    page = Page(single.read_text())
    name = runs[0].name
    assert "".join(page.texts["title"]) == f"DEFT: {name}"
    assert name in page.texts["strong"]
    assert not page.of("b"), "the name of the folder became markup"
    anchors = {found["id"] for _, found in page.tags if "id" in found}
    links = [one["href"].removeprefix("#") for one in page.of("a")]
    assert len(links) >= 7
    assert set(links) <= anchors


def test_matrix_of_the_slider_is_that_of_the_evaluations(runs, single):
    page = Page(single.read_text())
    frames = json.loads(page.of("div", **{"class": "matrix"})[0]["data-frames"])
    lines = (runs[0] / "metrics.jsonl").read_text().splitlines()
    logged = [record["nmi"] for record in map(json.loads, lines) if record["kind"] == "eval"]
    np.testing.assert_allclose(frames["nmi"], logged, atol=6e-4)
    assert len(frames["labels"]) == len(logged) > 1


MANY = 128
BEST = list(range(5, 105, 5))  # the twenty latents of highest KL


def many_latents(steps=(100, 200), nmi=None):
    """Evaluations of a model of 128 latents, two stages, three factors."""
    kl = np.where(np.isin(np.arange(MANY), BEST), 2.0, 1.0)
    nmi = np.random.default_rng(0).random((MANY, 3)) if nmi is None else nmi
    return [
        {"kind": "eval", "step": step, "stage": stage, "beta": 4.0, "nmi": nmi.tolist(), "kl_per_latent": kl.tolist(),
         "nmi1": [0.5] * 3, "nmi2": [0.1] * 3}
        for stage, step in enumerate(steps)
    ]  # fmt: skip


def test_the_matrix_of_many_latents_shows_those_of_highest_kl():
    evaluated = many_latents()
    groups = [latent // 64 for latent in range(MANY)]
    page = Page(training_page.matrix_slider(evaluated, ["a", "b", "c"], groups))
    assert [row[0].split()[0] for row in page.rows[1:]] == [f"z{latent}" for latent in BEST]
    frames = json.loads(page.of("div", **{"class": "matrix"})[0]["data-frames"])
    np.testing.assert_allclose(frames["nmi"], [np.array(record["nmi"])[BEST] for record in evaluated], atol=6e-4)
    assert page.texts["caption"] == ["20 of 128 latents, those of highest KL"]
    [first] = [index for index, row in enumerate(page.of("tr")[1:]) if row.get("class") == "first"]
    assert BEST[first] == 65
    assert not Page(
        training_page.matrix_slider(
            [record | {"nmi": record["nmi"][:9], "kl_per_latent": [1.0] * 9} for record in evaluated],
            ["a", "b", "c"],
            groups[:9],
        )
    ).of("caption")


@pytest.mark.parametrize("kl", [True, False])
def test_figures_of_many_latents_show_twenty_and_their_numbers(kl):
    evaluated = many_latents(nmi=np.where(np.isin(np.arange(MANY), BEST), 0.9, 0.1)[:, None] * np.ones(3))
    nmi, kl_D = [record["nmi"] for record in evaluated], evaluated[-1]["kl_per_latent"] if kl else None
    for figure in (
        figures.diffusion([100, 200], nmi, ["a", "b", "c"], (0, 100), kl_D),
        figures.stage_ends(nmi, ["a", "b", "c"], ["one", "two"], kl_D),
    ):
        labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert labels == [f"z{latent}" for latent in BEST]
        assert "20 of 128 latents" in figure.get_suptitle()
    page = Page(training_page.information_part(many_latents(), Stages, ["a", "b", "c"], [0] * MANY))
    assert len(page.of("img")) == 4


class Stages:
    """The stages of `many_latents`."""

    starts = (0, 100)


def test_turns_are_told_with_their_angle_and_not_all_of_very_many():
    def turns(steps):
        return [{"kind": "rotation", "step": step, "degrees": 44.4} for step in steps] + [{"kind": "train", "step": 0}]

    assert training_page.rotations_note(turns([])) == ""
    told = training_page.rotations_note(turns([600, 1_200]))
    assert "44° at step 600, 44° at step 1,200." in told
    told = training_page.rotations_note(turns(range(100, 10_100, 100)))
    assert told.count("°") == 24
    assert "44° at step 10,000; 24 of 100 turns." in told


def test_sprite_holds_row_of_base_and_column_of_value():
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5, 1)) / 255
    content = base64.b64decode(training_page.sprite(images).partition(",")[2])
    grid = image.imread(io.BytesIO(content))
    for base in range(2):
        for value in range(3):
            cell = grid[4 * base : 4 * base + 4, 5 * value : 5 * value + 5, :3]
            np.testing.assert_allclose(cell, np.broadcast_to(images[base, value], (4, 5, 3)), atol=1e-6)


@pytest.mark.parametrize("channels", [2, 4])
def test_images_of_other_channels_are_pictures_too(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, channels)) / 255
    drawn = image.imread(io.BytesIO(base64.b64decode(elements.png(pixels).partition(",")[2])))[..., :3]
    np.testing.assert_allclose(drawn, plots.as_rgb(pixels), atol=0.5 / 255 + 1e-6)


def test_slider_starts_at_the_value_nearest_to_the_posterior_mean():
    text = training_page.traversals(
        "run-0",
        np.zeros((2, 4, 4, 1)),
        ["one", "two"],
        np.array([[0.1, -9.0], [0.9, 1.2]]),
        np.zeros((1, 2, 3, 4, 4, 1)),
        [1],
        ["label"],
        [-1.0, 0.0, 1.0],
    )
    page = Page(text)
    assert [json.loads(found["data-starts"]) for found in page.of("div") if "data-starts" in found] == [[0, 2]]
    assert page.of("input", type="range")[0]["value"] == "0"


def test_several_runs_are_compared_by_their_scores(runs, several):
    results = [json.loads((run / "results.json").read_text()) for run in runs]
    scores = [score_page.scores_of(result) for result in results]
    assert all("mig" in of for of in scores)
    violins = [one for one in several.of("img") if one["alt"].startswith("Violins of")]
    assert len(violins) == 1
    decoded(violins[0]["src"])
    rows = {row[0]: row for row in several.rows if row}
    found = ["mig", "sap.score"]
    for run, result, of, letter in zip(runs, results, scores, "AAB", strict=True):
        row = rows[run.name]
        assert row[1:3] == [letter, str(result["step"])]
        assert row[4:] == [of.get(name, "–") for name in found]
    for letter, group in (("A", scores[:2]), ("B", scores[2:])):
        numbers = iter(rows[letter][2:])
        assert rows[letter][1] == str(len(group))
        for name in found:
            values = [of[name] for of in group if name in of]
            assert next(numbers) == pytest.approx(statistics.mean(values))
            deviation = next(numbers)
            assert deviation == (pytest.approx(statistics.stdev(values)) if len(values) > 1 else "–")
        assert "stages.betas" in next(numbers)


def test_a_study_is_compared_in_full_and_one_run_of_each_configuration_is_shown(trained_once, tmp_path):
    folder = tmp_path / "study"
    for name, seed, batch_size in (("a/seed_2", 2, 8), ("a/seed_10", 10, 8), ("b/seed_2", 2, 4)):
        shutil.copytree(trained_once, folder / name / "run")
        config = json.loads((trained_once / "config.json").read_text()) | {"seed": seed, "batch_size": batch_size}
        (folder / name / "run" / "config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"runs": {}}))
    (folder / "a" / "seed_11" / "run").mkdir(parents=True)  # under way
    page = Page(reporting_page.report([folder], tmp_path / "page.html").read_text())
    assert [found["id"] for found in page.of("article")] == ["scores", "run-0", "run-1"]
    assert [row[0] for row in page.rows if row and str(row[0]).startswith(("a/", "b/"))] == [
        "a/seed_2", "a/seed_10", "b/seed_2",
    ]  # fmt: skip
    assert [text.strip() for text in page.texts["h2"] if "seed" in text] == ["a/seed_2", "b/seed_2"]


def test_groups_share_everything_but_the_seed():
    configs = [{"seed": 0, "a": {"b": 1}}, {"seed": 0, "a": {"b": 2}}, {"a": {"b": 1}, "seed": 5}]
    assert score_page.groups_of(configs) == [[0, 2], [1]]
    assert score_page.differences([configs[0], configs[1]]) == ["a.b 1", "a.b 2"]
    assert score_page.letters(28)[-3:] == ["Z", "AA", "AB"]


def test_pairs_are_of_the_latents_of_highest_kl_and_two_different_factors():
    nmi = np.array([[0.9, 0.1, 0.2], [0.8, 0.3, 0.1], [0.0, 0.0, 0.7], [0.5, 0.5, 0.5]])
    pairs = training_page.informative_pairs([3.0, 2.0, 1.0, 9.0], nmi, opened=[0, 1, 2])
    assert pairs == [((0, 1), (0, 1)), ((0, 2), (0, 2)), ((1, 2), (0, 2))]
    assert training_page.informative_pairs([1.0, 1.0], nmi[:2], opened=[1]) == []


def test_interrupted_run_shows_the_model_of_its_checkpoint(runs, tmp_path):
    workdir = tmp_path / "stopped"
    shutil.copytree(runs[0], workdir)
    (workdir / "results.json").unlink()
    for step in (6, 8):
        shutil.rmtree(workdir / "checkpoints" / str(step))  # 4 is left, the end of the first stage
    page = Page(reporting_page.report([workdir], tmp_path / "page.html").read_text())
    assert any("4 of 8, not finished" in text for text in page.texts["dd"])
    sliders = [one["data-latent"] for one in page.of("input", type="range") if "data-latent" in one]
    assert sliders == ["0", "1"], "the second group is not open"


def annealed(folder):
    """An annealing test with all three instruments, in numbers small enough to write down."""
    rows = [
        {"factor": factor, "bound": bound, "beta": beta, "censored": censored}
        for factor, bound, beta, censored in (
            ("size", 12.0, 10.0, ""),
            ("size", 12.0, 8.0, ""),
            ("posX", 6.0, 5.0, ""),
            ("posX", 6.0, 1.0, "below"),
        )
    ]
    betas = np.geomspace(20, 1, 6)
    told = np.linspace(0, 1, 6)
    points = {name: {"beta": beta, "censored": ""} for name, beta in (("size", 10.0), ("posX", 5.5))}
    history = dict.fromkeys(("mutual_information", "mutual_information_upper", "total_correlation"), told)
    history |= {"beta": betas, "dimension_wise_kl": told}
    history |= {name: np.stack([told, told**2], axis=1) for name in ("kl_per_latent", "factor_information")}
    results = {
        "factor_names": ["size", "posX"],
        "devices": ["cpu", "cpu"],
        "spectrum": {
            "eigenvalues": [12.0, 6.0],
            "total_effects": [[0.9, 0.1], [0.2, 0.8]],
            "num_samples": 1000,
            "share": 0.4,
            "modes": {"size": 0, "posX": 1},
            "points": points,
        },
        "trials": {"rows": rows, "factors": freezing_page.trials_summary(rows), "points": points},
        "whole": {
            "history": {name: values.tolist() for name, values in history.items()},
            "points": points,
            "peaks": [{"beta": 4.0, "height": 1.0}],
            "latents": list(points.values()),
        },
    }
    config = {
        "instruments": ["spectrum", "trials", "whole"],
        "seed": 3,
        "data": {"name": "squares"},
        "trials": {"threshold": 0.1},
        "whole": {"smooth": 3},
    }
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "freezing.json").write_text(json.dumps(results))
    np.savez(
        folder / "curves.npz", betas=betas, kl=np.stack([told] * 4), factor=np.array([row["factor"] for row in rows])
    )
    return results


def test_annealing_test_shows_its_freezing_points(tmp_path):
    results = annealed(tmp_path / "ifp")
    text = reporting_page.report([tmp_path / "ifp"], tmp_path / "page.html").read_text()
    page = Page(text)
    assert [decoded(one["src"]) is None for one in page.of("img")] == [True, True, False, True]
    rows = [row for row in page.rows if row[:1] in (["size"], ["posX"])]
    assert rows[:2] == [["size", "10", "10", "10"], ["posX", "5.5", "5.5", "5.5"]]
    assert rows[2][:3] == ["size", "8", "8 to 10"]
    assert rows[3][:3] == ["posX", "<1", "<1 to 5"]
    assert "2 × cpu" in page.texts["dd"]

    # The rows of trials.csv serve where freezing.json has no trials yet.
    trials = results.pop("trials")
    results.pop("whole")
    (tmp_path / "ifp" / "freezing.json").write_text(json.dumps(results))
    lines = ["factor,bound,ifp,censored"]
    lines += [f"{row['factor']},{row['bound']},{row['beta']},{row['censored']}" for row in trials["rows"]]
    (tmp_path / "ifp" / "trials.csv").write_text("\n".join(lines) + "\n")
    partial = Page(reporting_page.report([tmp_path / "ifp"], tmp_path / "page.html").read_text())
    assert [row[:3] for row in partial.rows if len(row) > 4 and row[0] in ("size", "posX")] == [
        ["size", "8", "8 to 10"],
        ["posX", "<1", "<1 to 5"],
    ]
    assert "Not measured." in partial.texts["p"]


def no_folder(folder):
    pass


def a_file(folder):
    folder.write_text("")


def an_empty_folder(folder):
    folder.mkdir()


def no_run(folder):
    folder.mkdir()
    (folder / "notes.txt").write_text("")


def another_config(folder):
    folder.mkdir()
    (folder / "config.json").write_text("{}")


def a_cut_config(folder):
    folder.mkdir()
    (folder / "config.json").write_text('{"stages": ')


def no_checkpoint(folder):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(tiny.config()))


def no_instrument_done(folder):
    folder.mkdir()
    (folder / "config.json").write_text('{"instruments": ["spectrum"]}')


def an_older_result(folder):
    annealed(folder)
    (folder / "freezing.json").write_text("{}")


FAULTS = [
    (no_folder, "is not there"),
    (a_file, "is no folder"),
    (an_empty_folder, "is empty"),
    (no_run, "has no config.json"),
    (another_config, "neither stages nor instruments"),
    (a_cut_config, "cannot read"),
    (no_checkpoint, "no checkpoint yet"),
    (no_instrument_done, "no freezing.json yet"),
    (an_older_result, "lacks the entry 'factor_names'"),
]


@pytest.mark.parametrize(("make", "fault"), FAULTS, ids=lambda value: getattr(value, "__name__", ""))
def test_bad_input_ends_in_one_line_and_no_page(tmp_path, make, fault, capsys):
    make(tmp_path / "run")
    with pytest.raises(SystemExit) as ended:
        report.main([str(tmp_path / "run"), "--out", str(tmp_path / "page" / "report.html")])
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("deft_jax.report: ")
    assert fault in line
    assert not (tmp_path / "page").exists()


def test_command_says_where_the_page_is(runs, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(reporting_page, "training_sections", lambda anchor, run: [("Run", elements.note(run.title))])
    monkeypatch.chdir(tmp_path)
    report.main([str(runs[1])])
    report.main([str(runs[1]), str(runs[2])])
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{runs[1] / 'report.html'} (")
    assert second.startswith("report.html (")
    assert (runs[1] / "report.html").exists()
    assert (tmp_path / "report.html").exists()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    if not CHROMIUM or not DRIVER:
        pytest.skip("no Chromium with its chromedriver on the PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "disable-dev-shm-usage",
        "window-size=1200,900",
        f"user-data-dir={tmp_path_factory.mktemp('browser')}",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


_SET = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))"


def test_page_works_in_a_browser(browser, single, tmp_path):
    # Sprites whose tiles all differ, so that another tile is another picture however little the model has learned.
    page = tmp_path / "page.html"
    tiles = np.linspace(0, 1, training_page.BASES * len(training_page.VALUES)).reshape(training_page.BASES, -1, 1, 1, 1)
    text = single.read_text()
    sprites = [one["src"] for one in Page(text).of("img", **{"class": "sprite"})]
    for one in sprites:
        text = text.replace(
            one, training_page.sprite(np.broadcast_to(tiles, (*tiles.shape[:2], tiny.SIDE, tiny.SIDE, 1)))
        )
    page.write_text(text)
    browser.get(page.as_uri())
    widths = browser.execute_script("return [...document.images].map((one) => one.naturalWidth)")
    assert len(widths) >= 12
    assert min(widths) > 0
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")

    panel = browser.find_element("css selector", ".latent")
    window, slider = panel.find_element("css selector", ".window"), panel.find_element("css selector", "input")
    pictures = []
    for value in (0, 7, 14):
        browser.execute_script(_SET, slider, value)
        assert panel.find_element("css selector", "output").text == ("−2.50", "0.00", "2.50")[value // 7]
        pictures.append(brightness(window))
    assert pictures == pytest.approx([tiles[0, column, 0, 0, 0] for column in (0, 7, 14)], abs=0.02)

    base = panel.find_element("xpath", "//input[@type='radio'][@value='2']")
    base.click()
    starts = json.loads(panel.get_attribute("data-starts"))
    assert brightness(window) == pytest.approx(tiles[2, starts[2], 0, 0, 0], abs=0.02)

    matrix = browser.find_element("css selector", ".matrix")
    frames = json.loads(matrix.get_attribute("data-frames"))
    browser.execute_script(_SET, matrix.find_element("css selector", "input"), 0)
    cells = [float(cell.text) for cell in matrix.find_elements("css selector", "tbody td")]
    np.testing.assert_allclose(cells, np.ravel(frames["nmi"][0]), atol=0.0051)
    assert matrix.find_element("css selector", "output").text == frames["labels"][0]
    assert browser.get_log("browser") == []


def brightness(element):
    """Mean of what the middle of an element shows, in [0, 1]."""
    pixels = image.imread(io.BytesIO(element.screenshot_as_png))[..., :3]
    height, width = pixels.shape[:2]
    return float(pixels[height // 4 : -height // 4, width // 4 : -width // 4].mean())
