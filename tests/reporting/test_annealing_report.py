"""Sections of an annealing test: freezing points by each instrument, also of a test that is not finished."""

import json

import numpy as np
import pytest
from html_page import HtmlPage, decode_image

from deft_jax.reporting import annealing_sections
from deft_jax.reporting.page import report

TRIALS = [
    {"factor": factor, "bound": bound, "beta": beta, "censored": censored}
    for factor, bound, beta, censored in (
        ("size", 12.0, 10.0, ""),
        ("size", 12.0, 8.0, ""),
        ("posX", 6.0, 5.0, ""),
        ("posX", 6.0, 1.0, "below"),
    )
]


@pytest.fixture
def workdir(tmp_path):
    """An annealing test with all three instruments, in numbers small enough to write down."""
    betas, rising = np.geomspace(20, 1, 6), np.linspace(0, 1, 6)
    points = {name: {"beta": beta, "censored": ""} for name, beta in (("size", 10.0), ("posX", 5.5))}
    names = ("mutual_information", "mutual_information_upper", "total_correlation", "dimension_wise_kl")
    history = dict.fromkeys(names, rising) | {"beta": betas}
    history |= {name: np.stack([rising, rising**2], axis=1) for name in ("kl_per_latent", "factor_information")}
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
        "trials": {"rows": TRIALS, "factors": annealing_sections.summarise_trials(TRIALS), "points": points},
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
    folder = tmp_path / "ifp"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "freezing.json").write_text(json.dumps(results))
    factors = np.array([row["factor"] for row in TRIALS])
    np.savez(folder / "curves.npz", betas=betas, kl=np.stack([rising] * 4), factor=factors)
    return folder


def test_freezing_points_of_every_instrument_are_shown(workdir):
    page = HtmlPage(report([workdir], workdir / "page.html").read_text())
    assert [decode_image(image["src"]) is None for image in page.attributes("img")] == [True, True, False, True]
    rows = [row for row in page.rows if row[:1] in (["size"], ["posX"])]
    assert rows[:2] == [["size", "10", "10", "10"], ["posX", "5.5", "5.5", "5.5"]]
    assert rows[2][:3] == ["size", "8", "8 to 10"]
    assert rows[3][:3] == ["posX", "<1", "<1 to 5"]
    assert "2 × cpu" in page.texts["dd"]


def test_trials_of_an_unfinished_test_are_read_from_their_table(workdir):
    results = json.loads((workdir / "freezing.json").read_text())
    del results["trials"], results["whole"]
    (workdir / "freezing.json").write_text(json.dumps(results))
    lines = ["factor,bound,ifp,censored"]
    lines += [f"{row['factor']},{row['bound']},{row['beta']},{row['censored']}" for row in TRIALS]
    (workdir / "trials.csv").write_text("\n".join(lines) + "\n")
    page = HtmlPage(report([workdir], workdir / "page.html").read_text())
    assert [row[:3] for row in page.rows if len(row) > 4 and row[0] in ("size", "posX")] == [
        ["size", "8", "8 to 10"],
        ["posX", "<1", "<1 to 5"],
    ]
    assert "Not measured." in page.texts["p"]
