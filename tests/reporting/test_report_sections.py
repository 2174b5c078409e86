"""Sections of a training: which latents, matrices and pairs they show, and what their sliders start from."""

import json

import numpy as np
import pytest
from html_page import decode_image, render_section

from deft_jax.evaluation import plots
from deft_jax.reporting import elements, figures, model_sections, score_comparison, training_sections

NUM_LATENTS = 128
BEST = list(range(5, 105, 5))  # the twenty latents of highest KL
FACTORS = ["a", "b", "c"]


class Stages:
    """The two stages of `evaluations`."""

    starts = (0, 100)


@pytest.fixture(scope="module")
def evaluations():
    """Records of a model of 128 latents at the ends of two stages."""
    is_best = np.isin(np.arange(NUM_LATENTS), BEST)
    nmi = np.where(is_best, 0.9, 0.1)[:, None] * np.random.default_rng(0).uniform(0.9, 1.0, (NUM_LATENTS, 3))
    kl = np.where(is_best, 2.0, 1.0)
    return [
        {"kind": "eval", "step": step, "stage": stage, "beta": 4.0, "nmi": nmi.tolist(), "kl_per_latent": kl.tolist(),
         "nmi1": [0.5] * 3, "nmi2": [0.1] * 3}
        for stage, step in enumerate((100, 200))
    ]  # fmt: skip


def test_matrix_of_many_latents_shows_those_of_highest_kl(evaluations):
    groups = [latent // 64 for latent in range(NUM_LATENTS)]
    section = training_sections.latent_information(evaluations, Stages, FACTORS, groups)
    page = render_section(section)
    assert len(page.attributes("img")) == 4
    assert [row[0].split()[0] for row in page.rows[1:]] == [f"z{latent}" for latent in BEST]
    frames = json.loads(page.attributes("div", **{"class": "matrix"})[0]["data-frames"])
    np.testing.assert_allclose(frames["nmi"], [np.array(record["nmi"])[BEST] for record in evaluations], atol=6e-4)
    assert page.texts["caption"] == ["20 of 128 latents, those of highest KL"]
    [first] = [index for index, row in enumerate(page.attributes("tr")[1:]) if row.get("class") == "first"]
    assert BEST[first] == 65


@pytest.mark.parametrize("ranked_by", ["KL", "NMI"])
def test_figures_of_many_latents_show_twenty_and_their_numbers(evaluations, ranked_by):
    nmi, kl_D = [record["nmi"] for record in evaluations], evaluations[-1]["kl_per_latent"]
    kl_D = kl_D if ranked_by == "KL" else None
    for figure in (
        figures.diffusion([100, 200], nmi, FACTORS, Stages.starts, kl_D),
        figures.stage_ends(nmi, FACTORS, ["one", "two"], kl_D),
    ):
        labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert labels == [f"z{latent}" for latent in BEST]
        assert figure.get_suptitle() == f"20 of 128 latents, those of highest {ranked_by}"


def test_sprite_has_one_row_per_base_image_and_one_column_per_value():
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5, 1)) / 255
    grid = decode_image(elements.png_uri(model_sections.sprite(images)))[..., :3]
    for base in range(2):
        for value in range(3):
            tile = grid[4 * base : 4 * base + 4, 5 * value : 5 * value + 5]
            np.testing.assert_allclose(tile, plots.as_rgb(images[base, value]), atol=1e-6)


def test_slider_starts_at_the_value_nearest_to_the_posterior_mean():
    section = model_sections.sliders(
        originals_BxHxWxC=np.zeros((2, 4, 4, 1)),
        names_B=["one", "two"],
        means_BxD=np.array([[0.1, -9.0], [0.9, 1.2]]),
        decoded_LxBxTxHxWxC=np.zeros((1, 2, 3, 4, 4, 1)),
        latents_L=[1],
        labels_L=["label"],
        values_T=np.array([-1.0, 0.0, 1.0]),
    )
    page = render_section(section)
    assert [json.loads(div["data-starts"]) for div in page.attributes("div") if "data-starts" in div] == [[0, 2]]
    assert page.attributes("input", type="range")[0]["value"] == "0"


def test_pairs_are_of_the_latents_of_highest_kl_and_two_different_factors():
    nmi = np.array([[0.9, 0.1, 0.2], [0.8, 0.3, 0.1], [0.0, 0.0, 0.7], [0.5, 0.5, 0.5]])
    pairs = model_sections.informative_pairs([3.0, 2.0, 1.0, 9.0], nmi, open_latents=[0, 1, 2])
    assert pairs == [((0, 1), (0, 1)), ((0, 2), (0, 2)), ((1, 2), (0, 2))]
    assert model_sections.informative_pairs([1.0, 1.0], nmi[:2], open_latents=[1]) == []


def test_scores_of_an_evaluation_have_its_headlines_and_no_seconds():
    dci = {"disentanglement": 0.5, "informativeness_train": 0.9, "num_distinct": 8.0, "importance": [[0.5], [1.0, 2.0]]}
    evaluation = {"scores": {"mean": {"dci": dci}}, "seconds": {"dci, mean": 2.5}, "options": {"dci": {"l2": 0.1}}}
    assert score_comparison.scores_of({"mig": 0.4, "mig_bias": 0.1, "evaluation": evaluation}) == {
        "mig": 0.4, "disentanglement, mean": 0.5,
    }  # fmt: skip


def test_groups_share_everything_but_the_seed():
    configs = [{"seed": 0, "a": {"b": 1}}, {"seed": 0, "a": {"b": 2}}, {"a": {"b": 1}, "seed": 5}]
    assert score_comparison.group_by_configuration(configs) == [[0, 2], [1]]
    assert score_comparison.differing_fields(configs[:2]) == ["a.b 1", "a.b 2"]
    assert score_comparison.group_letters(28)[-3:] == ["Z", "AA", "AB"]
