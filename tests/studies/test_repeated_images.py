"""Images that a sample repeats do not leak from the training part of a metric into its test part."""

import numpy as np
import pytest
import tiny

from deft_jax import metrics
from deft_jax.evaluation import encoder, scores
from deft_jax.metrics import held_out
from deft_jax.training import session


def _repeated_noise():
    """100 images of noise with independent labels, drawn 1,000 times: (index, codes, labels)."""
    rng = np.random.default_rng(0)
    index = rng.integers(0, 100, 1_000)
    return index, rng.normal(size=(100, 3))[index], rng.integers(0, 3, (100, 2))[index]


@pytest.mark.parametrize(("name", "score", "limit"), [
    ("dci", "informativeness_test", 0.55), ("modularity_explicitness", "explicitness_test", 0.56), ("r2", "r2", 0.0),
])  # fmt: skip
def test_compute_holds_out_images_that_the_sample_repeats(name, score, limit):
    index, codes, labels = _repeated_noise()
    result = metrics.compute(name, codes, labels)
    assert result[score] < limit
    assert result["num_distinct_train"] + result["num_distinct_test"] == len(np.unique(index))
    by_row = metrics.compute(name, codes, labels, groups=np.arange(len(codes)))
    assert by_row[score] > result[score]


@pytest.mark.parametrize("name", ["dci", "dci_es", "sap"])
def test_a_factor_without_a_value_in_the_test_part_is_refused_by_name(name):
    factor = np.random.default_rng(0).integers(0, 4, (400, 1))
    with pytest.raises(ValueError, match="no value of factor 0"):
        metrics.compute(name, factor * 1.0, factor)
    assert metrics.compute(name, factor * 1.0, factor, groups=np.arange(400))  # they are different images


def test_metrics_during_training_are_held_out_by_image(shared_programs, tmp_path, monkeypatch):
    compute, seen = scores.metric, []

    def metric(*args, **options):
        seen.append(options["groups"])
        return compute(*args, **options)

    monkeypatch.setattr(scores, "metric", metric)
    config = tiny.config(periodic_metrics={"sap": {"every": 4}}, evaluation={"num_samples": 20})
    session.run(config, tmp_path / "run")
    drawn = encoder.draw_factors(tiny.squares(), 20, 0)
    assert len(seen) == 3  # the check before the first step, and steps 4 and 8
    for groups in seen:
        np.testing.assert_array_equal(groups, np.ravel_multi_index(tuple(drawn.T), (2, 4, 4)))


def test_the_held_out_check_is_of_classes_only():
    columns = [np.array([0, 0, 1, 1]), np.arange(4.0)]
    train, test = np.array([0, 2]), np.array([1, 3])
    held_out.check_shared_values(columns, [False, True], train, test)
    with pytest.raises(ValueError, match="factor 0"):
        held_out.check_shared_values(columns, [False, True], train[:1], test[1:])
