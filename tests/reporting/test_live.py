"""The live decoder of a page: its JavaScript computes what JAX computes, by mouse, by keyboard and on a phone."""

import jax
import numpy as np
import pytest
import tiny

from deft_jax.data import description
from deft_jax.models import build, likelihoods
from deft_jax.models.decoder_layers import Layer, decoder_layers
from deft_jax.models.posterior import kl_per_latent
from deft_jax.reporting import live_section, weights
from deft_jax.reporting.model_sample import Sample
from deft_jax.reporting.rendering import Article, Page, render
from deft_jax.training.restore import load

_DECODE = """
const decode = makeDecoder(arguments[0], arguments[1]);
return arguments[2].map((code) => Array.from(decode(code)));"""
PHONE = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}


@pytest.fixture(scope="module")
def blank(tmp_path_factory):
    """A page without runs, which has the scripts."""
    path = tmp_path_factory.mktemp("blank") / "page.html"
    path.write_text(render(Page("blank", None, [])))
    return path.as_uri()


@pytest.mark.parametrize(
    ("shape", "width", "likelihood", "scale"),
    [((16, 16, 1), 3, "bernoulli", 1.5), ((16, 48, 3), 5, "bernoulli", 1.5), ((27, 18, 3), 2, "gaussian", 0.7)],
)
def test_javascript_decodes_as_jax_does(browser, blank, shape, width, likelihood, scale):
    model = build(shape, latents=3, groups=1, width=1, hidden=2, decoder_width=width, decoder_hidden=7)
    rng = np.random.default_rng(0)
    # Weights and biases that let pixels differ much, so that a misplaced one shows.
    params = jax.tree.map(lambda leaf: rng.normal(0.05, scale / leaf.shape[-1] ** 0.5, leaf.shape).astype(np.float32),
                          jax.eval_shape(model.init, jax.random.key(0)))  # fmt: skip
    codes = rng.uniform(-2.5, 2.5, (5, 3)).astype(np.float32)
    layers = decoder_layers(model, params)
    decode = jax.jit(lambda params: likelihoods.to_images(likelihood, model.decode(params, codes)))
    wanted = np.asarray(decode(params))
    assert wanted.std() > 0.1

    browser.get(blank)
    for precision, tolerance in (("half", 0.01), ("single", 1e-4)):
        what = {"shape": shape, "likelihood": likelihood, "precision": precision}
        decoded = browser.execute_script(_DECODE, what, weights.pack_layers(layers, precision), codes.tolist())
        np.testing.assert_allclose(np.reshape(decoded, wanted.shape), wanted, atol=tolerance)


def test_half_precision_is_read_as_numpy_reads_it(browser, blank):
    values = np.concatenate([np.random.default_rng(0).normal(size=50), [0.0, -0.0, 1e-7, 3e-6, -6e4, 7e5]])
    [layer] = weights.rounded([Layer("dense", True, (1,), values, np.zeros(1))], "half")
    browser.get(blank)
    read = "return Array.from(unpackNumbers(arguments[0], 'half'))"
    np.testing.assert_array_equal(browser.execute_script(read, weights.pack(values, "half")), layer.kernel)


def test_weights_that_half_precision_would_change_visibly_are_kept_in_single():
    layers = [Layer("dense", True, (1,), np.array([1 / 3]), np.zeros(1))]
    error = lambda rounded: 1e3 * abs(rounded[0].kernel[0] - 1 / 3)  # noqa: E731
    assert weights.choose_precision(layers, error, 0.5)[0] == "half"
    precision, left = weights.choose_precision(layers, error, 0.05)
    assert precision == "single"
    assert left < 1e-4


@pytest.fixture(scope="module")
def model(trained_once):
    """The smallest run with its weights doubled, so that its latents are in use."""
    model = load(trained_once)
    model.params = jax.tree.map(lambda leaf: 2 * np.asarray(leaf), model.params)
    return model


def live_section_of(model):
    kept = description.read_sample(model.workdir)
    sample = Sample(kept.images[:20], kept.ground_truth, model.encode(kept.images))
    kl_D = np.asarray(kl_per_latent(sample.posterior)).mean(axis=0)
    return live_section.live_decoder(model, sample, kl_D, np.eye(4, 3))


@pytest.fixture(scope="module")
def section(model):
    return live_section_of(model)


@pytest.fixture(scope="module")
def page(section, tmp_path_factory):
    """Two runs on the same images; they are the same model."""
    path = tmp_path_factory.mktemp("live") / "page.html"
    titles = ("first", "second <b>")
    articles = [Article(f"run-{index}", title, "training", [section]) for index, title in enumerate(titles)]
    path.write_text(render(Page("two runs", None, articles)))
    return path.as_uri()


_VALUES = "return [...document.querySelectorAll('#run-0-live .live-latent input')].map((input) => input.value)"
PIXELS = """
const canvas = document.querySelector(`#run-0-live ${arguments[0]}`), done = arguments[1];
requestAnimationFrame(() => requestAnimationFrame(() => {
  const image = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  done(Array.from(image).filter((_, i) => i % 4 === 0));
}));"""


def decoded(browser, canvas=".live-decoded"):
    return np.reshape(browser.execute_async_script(PIXELS, canvas), (tiny.SIDE, tiny.SIDE)) / 255


def code(browser):
    """The values of the sliders of the first run."""
    return np.array(browser.execute_script(_VALUES), float)


def assert_shows(browser, model, z_D, canvas=".live-decoded"):
    [wanted] = model.decode(np.array([z_D], np.float32))
    # half a grey level by the screen, 0.02 of a latent by the steps of a slider
    np.testing.assert_allclose(decoded(browser, canvas), wanted[..., 0], atol=0.012)


def test_page_starts_at_the_code_of_an_image_and_fits_a_phone(browser, page, model, section):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    browser.get(page)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= PHONE["width"]
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get(page)
    means = model.encode(description.read_sample(model.workdir).images[:20]).mean
    assert np.abs(means - means[0]).max() > 0.1, "the images have one code: another start would not show"
    np.testing.assert_allclose(code(browser), means[0], atol=0.006)
    off = browser.find_elements("css selector", "#run-0-live .live-latent.off")
    assert len(off) == sum(kl < 0.05 for kl in section.data["evaluations"][-1]["kl"])
    assert browser.get_log("browser") == []
    assert_shows(browser, model, means[0])
    browser.find_elements("css selector", "#run-0-live .strip button")[5].click()
    np.testing.assert_allclose(code(browser), means[5], atol=0.006)
    assert_shows(browser, model, means[5])
    assert_shows(browser, model, means[5], ".live-beside")


def test_everything_can_be_reached_by_the_keyboard(browser, page, model):
    browser.get(page)
    part = browser.find_element("id", "run-0-live")
    start = code(browser)
    slider = part.find_element("css selector", "[data-live='1'] input")
    slider.send_keys("\ue014" * 20)  # arrow to the right
    np.testing.assert_allclose(code(browser) - start, [0, 0.2, 0, 0], atol=0.011)
    plane = part.find_element("css selector", ".live-plane")
    across, up = (
        int(part.find_element("css selector", f".live-{axis}").get_attribute("value")) for axis in ("across", "up")
    )
    slider.send_keys("r")
    np.testing.assert_allclose(code(browser), start, atol=0.011)
    plane.send_keys("\ue014\ue014\ue015")  # twice to the right, once down
    moved = start + 0.2 * (np.arange(4) == across) - 0.1 * (np.arange(4) == up)
    np.testing.assert_allclose(code(browser), moved, atol=0.011)
    assert_shows(browser, model, moved)
    assert_shows(browser, model, moved, ".live-beside")
    plane.send_keys("R")
    np.testing.assert_allclose(code(browser), start, atol=0.011)
    part.find_element("css selector", "[aria-checked=true]").send_keys("\ue014")
    assert browser.execute_script("return document.activeElement.getAttribute('aria-checked')") == "true"
    means = model.encode(description.read_sample(model.workdir).images[:2]).mean
    np.testing.assert_allclose(code(browser), means[1], atol=0.006)


def test_point_of_the_plane_can_be_dragged(browser, page, model, section):
    browser.get(page)
    action = pytest.importorskip("selenium.webdriver").ActionChains(browser)
    plane = browser.find_element("css selector", "#run-0-live .live-plane")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", plane)
    quarter = plane.size["width"] / 4
    action.move_to_element(plane).click_and_hold().move_by_offset(quarter, quarter).release().perform()
    place = code(browser)[[int(browser.find_element("css selector", f"#run-0-live .live-{axis}").get_attribute("value"))
                           for axis in ("across", "up")]]  # fmt: skip
    np.testing.assert_allclose(place, [section.limit / 2, -section.limit / 2], atol=0.05)
    assert_shows(browser, model, code(browser))


def test_slider_of_the_stages_decodes_with_the_checkpoint_of_an_earlier_stage(browser, page, model, section):
    assert [snapshot["step"] for snapshot in section.data["snapshots"]] == [4, 8]
    assert [entry["stage"] for entry in section.data["evaluations"]][::3] == [0, 1]
    earlier = load(model.workdir, 4)
    browser.get(page)
    slider = browser.find_element("css selector", "#run-0-live .live-stages input")
    slider.send_keys("\ue011")  # home, the first evaluation
    np.testing.assert_allclose(
        code(browser), earlier.encode(description.read_sample(model.workdir).images[:1]).mean[0], atol=0.006
    )
    assert_shows(browser, earlier, code(browser))
    logged = section.data["evaluations"][0]["kl"]
    texts = [element.text for element in browser.find_elements("css selector", "#run-0-live .live-nats")]
    assert [text.replace(",", "").split()[1] for text in texts] == [f"{kl:.2f}" for kl in logged]


def test_latents_of_two_models_are_paired_by_correlation(browser, blank):
    means = np.random.default_rng(0).normal(size=(4, 200))
    mine = {"kl": [1, 1, 1, 0.01], "off": 0.05, "means": means.tolist()}
    other = mine | {"means": [means[2], -means[0], np.random.default_rng(1).normal(size=200), means[3]]}
    other["means"] = np.array(other["means"]).tolist()
    browser.get(blank)
    pairs = browser.execute_script("return pairLatents(arguments[0], arguments[1])", mine, other)
    np.testing.assert_allclose(pairs, [[0, 1, -1], [2, 0, 1]], atol=1e-9)


def test_a_decoder_that_is_too_large_or_not_wanted_stays_out_of_the_page(model, monkeypatch):
    monkeypatch.setattr(live_section, "LARGEST", 1000)
    section = live_section_of(model)
    assert "weights" in section.missing
    assert not section.data
    assert 'class="live"' not in render(Page("one run", None, [Article("run-0", "run", "training", [section])]))


def test_earlier_stages_are_left_out_where_they_do_not_fit(model, section, monkeypatch):
    monkeypatch.setattr(live_section, "LARGEST", section.num_bytes - 1)
    smaller = live_section_of(model)
    assert smaller.stages_without == [0]
    assert [snapshot["step"] for snapshot in smaller.data["snapshots"]] == [8]
