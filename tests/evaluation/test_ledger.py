"""The ledger over a training: diffusion by stages from records, accounts of a trained model, the figure."""

import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from deft_jax.evaluation import ledger, plots
from deft_jax.models.posterior import Posterior


def _record(step, stage, *latents):
    """Of latents given as (information, information on each factor)."""
    known = np.array([row[1] for row in latents])
    home = known.max(axis=1)
    return {
        "kind": "eval", "step": step, "stage": stage, "beta": 10.0 / (1 + step),
        "home_information": home.tolist(), "latent_factor_information": known.tolist(),
        "foreign_information": (np.array([row[0] for row in latents]) - home).tolist(),
    }  # fmt: skip


RECORDS = [
    _record(1, 0, (0.5, [0.5, 0.0]), (0.0, [0.0, 0.0])),
    {"kind": "train", "step": 2, "stage": 0},
    _record(2, 0, (1.0, [0.9, 0.1]), (0.0, [0.0, 0.0])),
    {"kind": "eval", "step": 3, "stage": 1, "beta": 3.0},  # an evaluation without a ledger
    _record(4, 1, (1.2, [0.9, 0.3]), (0.5, [0.0, 0.5])),
    _record(5, 1, (1.1, [1.0, 0.1]), (1.5, [0.1, 1.4])),
]


def test_diffusion_of_stages_has_the_homes_of_their_start():
    first, second = ledger.stage_diffusion(RECORDS)
    assert (first["step"], second["step"], second["beta"]) == (2, 5, 10 / 6)
    # Stage 0 begins with empty latents; between its evaluations 0.1 of 1.0 nats came in as foreign of z0.
    assert (first["income"], first["diffused"]) == pytest.approx((1.0, 0.0))
    assert first["diffusion_between_evaluations"] == pytest.approx(0.1)
    # From end to end z0 was refined by 0.1 nat. On the way 0.2 nats came in as foreign, and z1 had 0.1 at its end.
    assert (second["income"], second["diffused"]) == pytest.approx((1.6, 0.0))
    assert second["diffusion_between_evaluations"] == pytest.approx((0.2 + 0.1) / (0.7 + 0.1 + 1.0))


def test_stage_whose_start_has_no_ledger_begins_with_the_first():
    [row] = ledger.stage_diffusion(RECORDS[4:])
    assert row["income"] == pytest.approx(0.1 + 1.0)
    assert ledger.stage_diffusion(RECORDS[1:2]) == []


def test_record_is_read_back_as_its_ledger():
    rng = np.random.default_rng(0)
    posterior = Posterior(rng.normal(size=(50, 3)), np.full((50, 3), -2.0))
    classes = np.stack([rng.integers(4, size=50), np.zeros(50, int)], axis=1)
    record = ledger.ledger_record(posterior, classes, 50)
    of_record = ledger.ledger_of(record)
    assert of_record.foreign == pytest.approx(record["foreign"])
    assert (of_record.factor_information[:, 1] == 0).all()  # of a constant factor nothing is known
    assert ledger.ledger_record(posterior, classes[:, :0], 50) == {}


def test_account_and_rest_add_up_to_the_foreign_information():
    rng = np.random.default_rng(0)
    factors = rng.integers(6, size=(2_000, 2))
    mean = np.stack([factors[:, 0] + 0.3 * factors[:, 1], 0.1 * rng.normal(size=2_000)], axis=1)
    posterior = Posterior(mean, np.tile([-4.0, 0.0], (2_000, 1)))
    results = ledger.ledger_results(posterior, factors, 2_000, ["a", "b"], [0, 1])
    [latent] = results["latents"]
    assert (latent["latent"], latent["group"], latent["home"]) == (0, 0, "a")
    [step] = latent["account"]
    assert step["factor"] == "b"
    assert step["information"] > step["alone"] + 0.5  # b tells where between two values of a
    assert step["information"] + latent["rest"] == pytest.approx(latent["foreign_information"], abs=0.02)


def _bands(figure):
    return [band for band in figure.axes[0].collections if isinstance(band, PolyCollection)]


@pytest.mark.parametrize(("groups", "bands"), [([0, 0, 1], 4), ([0, 0, 0], 6)])
def test_figure_stacks_groups_or_latents_of_a_single_group(groups, bands):
    home, foreign = np.full((2, 3), 2.0), np.full((2, 3), 1.0)
    figure = plots.ledger_over_time([1, 5], home, foreign, groups, [8.0, 2.0], [0, 3])
    drawn = _bands(figure)
    assert len(drawn) == bands
    tops = [band.get_paths()[0].get_extents().y1 for band in drawn]
    assert tops == sorted(tops)
    assert tops[-1] == pytest.approx(9)
    assert [bool(band.get_hatch()) for band in drawn] == [False, True] * (bands // 2)


def test_figure_of_many_latents_has_one_band_of_all_others():
    nats = np.ones((1, 40))
    figure = plots.ledger_over_time([1], nats, nats, np.zeros(40), [8.0])
    assert len(_bands(figure)) == 2 * 8


def test_figure_refuses_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="betas"):
        plots.ledger_over_time([1, 2], np.ones((2, 1)), np.ones((2, 1)), [0], [8.0])
    with pytest.raises(ValueError, match="columns of foreign"):
        plots.ledger_over_time([1], np.ones((1, 2)), np.ones((1, 1)), [0, 0], [8.0])
