"""Figures of the annealing test: curves over beta, which falls to the right, densities, and the spectrum."""

import numpy as np
import pytest

from deft_jax.annealing import plots

BETAS = np.geomspace(100, 1, 30)
NAMES = ("posX", "scale")


def curves(starts):
    return np.array([np.maximum(0, np.log(start / BETAS)) for start in starts])


def test_kl_over_beta_has_one_line_per_trial_and_one_median_per_factor():
    kl = curves([50, 60, 70, 10, 11, 12])
    figure = plots.kl_over_beta(BETAS, kl, ["posX"] * 3 + ["scale"] * 3, 0.1)
    [axes] = figure.axes
    assert axes.get_xlim() == (BETAS[0], BETAS[-1])
    assert axes.get_xscale() == "log"
    labelled = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert list(labelled) == list(NAMES)
    np.testing.assert_allclose(labelled["scale"].get_ydata(), kl[4])
    assert len(axes.lines) == 6 + 2 + 1
    with pytest.raises(ValueError, match="kl has shape"):
        plots.kl_over_beta(BETAS, kl, ["posX"] * 5, 0.1)


def test_densities_go_from_the_highest_median_down_with_median_and_bound():
    betas = [10.0, 11, 12, 90, 100, 110]
    figure = plots.densities(betas, ["scale"] * 3 + ["posX"] * 3, [14.0] * 3 + [130.0] * 3)
    [axes] = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["scale", "posX"]  # from below
    assert {"100", "11", "130", "14"} <= {text.get_text() for text in axes.texts}
    high, low = axes.get_xlim()
    assert high > 130
    assert low < 10
    assert len(axes.collections) == 4  # one density and one median per factor
    with pytest.raises(ValueError, match="freezing points"):
        plots.densities([], [], [])


@pytest.mark.parametrize(
    ("logs", "width"),
    [([1.0], 0.04), ([1.0] * 5, 0.04), ([1.0, 1.01, 1.02], 0.04), (np.linspace(0, 3, 20), 0.9 * 0.9106 * 20**-0.2)],
)
def test_density_has_gaussian_kernels_of_silverman_s_width_and_at_least_four_percent(logs, width):
    grid = np.linspace(-1, 4, 7)
    kernels = np.exp(-0.5 * ((grid[:, None] - np.asarray(logs)) / width) ** 2) / (width * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(plots._log_density(np.asarray(logs), grid), kernels.mean(axis=1), rtol=1e-3, atol=1e-9)


def test_spectrum_marks_the_first_mode_of_each_factor():
    values = np.array([100.0, 90, 20, 5])
    effects = np.array([[1, 0], [0.9, 0.1], [0.2, 0.8], [0.1, 0.9]])
    figure = plots.spectrum(values, effects, NAMES, {"posX": 0, "scale": 2})
    above, below = figure.axes[:2]
    np.testing.assert_allclose(below.images[0].get_array(), effects.T)
    marks = [line for line in above.lines if line.get_marker() == "o" and len(line.get_xdata())]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in marks] == [(0, 100), (2, 20)]
    assert [text.get_text() for text in above.get_legend().get_texts()] == ["posX  100", "scale  20"]
    plots.spectrum(values, effects, NAMES, {"posX": None, "scale": None})
    with pytest.raises(ValueError, match="total effects"):
        plots.spectrum(values, effects.T, NAMES, {})


def history(kl_ExD, information_ExF):
    """A history of the whole set, with these two of its curves."""
    one = curves([80])[0]
    names = ("mutual_information", "mutual_information_upper", "total_correlation", "dimension_wise_kl")
    return dict.fromkeys(names, one) | {
        "beta": BETAS, "kl_per_latent": kl_ExD, "factor_information": information_ExF,
    }  # fmt: skip


def test_whole_set_shows_information_rate_latents_and_factors():
    information = curves([80, 20]).T
    rate = np.gradient(curves([80])[0])
    figure = plots.whole_set(history(curves([80, 20, 5]).T, information), rate, [80.0, 20.0], NAMES)
    latents, factors = figure.axes[2:]
    assert [line.get_label() for line in latents.lines][:3] == ["z0", "z1", "z2"]
    np.testing.assert_allclose(factors.lines[1].get_ydata(), information[:, 1])
    assert {text.get_text() for text in figure.axes[1].texts} == {"80", "20"}


def test_whole_set_shows_the_twenty_of_many_latents_with_the_highest_kl_and_no_panel_without_factors():
    kl = curves(np.linspace(90, 2, 128)[::-1]).T  # rising with the number of the latent
    figure = plots.whole_set(history(kl, np.zeros((len(BETAS), 0))), curves([80])[0], [], ())
    assert len(figure.axes) == 3
    shown = [line.get_label() for line in figure.axes[2].lines if line.get_label().startswith("z")]
    assert shown == [f"z{d}" for d in range(108, 128)]
    figure.draw_without_rendering()
    legend, panel = figure.axes[2].get_legend().get_window_extent(), figure.axes[2].get_window_extent()
    assert panel.x1 - 1 <= legend.x0 < legend.x1 <= figure.bbox.x1 + 1  # beside the curves
    assert figure.axes[2].get_tightbbox().y0 < 0.05 * figure.bbox.height
