"""The ledger of information diffusion in a run: logged and summarised, without an effect on the training."""

import numpy as np
import pytest
import runs
import tiny

from deft_jax.evaluation import ledger
from deft_jax.training import session

pytestmark = pytest.mark.usefixtures("shared_programs")


def test_evaluations_have_a_ledger_and_results_its_summary(whole):
    workdir, results = whole
    evaluations = [record for record in runs.records(workdir) if record["kind"] == "eval"]
    assert ledger.with_ledger(runs.records(workdir)) == evaluations
    for record in evaluations:
        assert np.shape(record["latent_factor_information"]) == (4, 3)
        of_record = ledger.ledger_of(record)
        assert record["foreign"] == pytest.approx(of_record.foreign)
        assert record["spread"] == pytest.approx(of_record.spread)
        assert (np.array(record["latent_factor_information"]).max(axis=1) == record["home_information"]).all()
    assert evaluations[0]["home_information"][2:] == [0, 0]  # a group that is not open
    assert results["ledger"]["foreign"] == evaluations[-1]["foreign"]
    assert [row["stage"] for row in results["ledger"]["stages"]] == [0, 1]
    assert results["ledger"]["stages"] == ledger.stage_diffusion(evaluations)


def test_training_without_a_ledger_is_the_same(whole, tmp_path):
    results = session.run(tiny.config(evaluation={"ledger": False}), tmp_path)
    workdir, expected = whole
    assert runs.state_of(tmp_path) == runs.state_of(workdir)
    assert not ledger.with_ledger(runs.records(tmp_path))
    assert results == {name: value for name, value in expected.items() if name != "ledger"}
    assert not (tmp_path / "figures" / "ledger.png").exists()
