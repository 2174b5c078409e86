"""The split of metrics that fit predictors: no image is in both parts, and noise scores at the chance level."""

import concurrent.futures
import threading

import numpy as np
import pytest
import toy_codes

from deft_jax import metrics
from deft_jax.metrics import held_out, inputs, progress

# A name and options that keep the fit fast, and the score that measures prediction of the test part.
PREDICTORS = {
    "dci": ({"model": "trees"}, "informativeness_test"),
    "dci_es": ({"num_trees": 20}, "dci_es_informativeness"),
    "modularity_explicitness": ({}, "explicitness_test"),
    "r2": ({}, "r2"),
    "sap": ({}, "sap"),
}


def _noise(num_images, num_rows, num_values=4, num_latents=8):
    """Codes of noise images that are drawn repeatedly, unrelated factors, and the image of each row."""
    rng = np.random.default_rng(0)
    codes, labels = rng.standard_normal((num_images, num_latents)), rng.integers(0, num_values, (num_images, 2))
    image = rng.integers(0, num_images, num_rows)
    return codes[image], labels[image], image


def test_split_of_distinct_rows_is_the_permutation():
    for count in (10, 101):
        rows = np.random.default_rng(3).permutation(count)
        for groups in (None, np.arange(count), np.random.default_rng(0).permutation(count)):
            train, test = held_out.split(count, None, 3, groups)
            np.testing.assert_array_equal(np.concatenate([train, test]), rows)
            assert len(train) == count * 2 // 3


@pytest.mark.parametrize("seed", range(5))
def test_split_keeps_groups_together_and_covers_all_rows(seed):
    groups = np.random.default_rng(seed).integers(0, 30, 400)
    train, test = held_out.split(400, 200, seed, groups)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(400))
    assert not set(groups[train]) & set(groups[test])
    assert 200 <= len(train) < 200 + np.bincount(groups).max()


def test_rows_are_distinct_by_codes_and_factors():
    codes = np.array([[0.0], [0.0], [1.0], [-0.0]])
    groups = inputs.distinct_rows(codes, np.array([[0], [1], [0], [0]]))
    assert len(set(groups)) == 3
    assert groups[0] == groups[3]


@pytest.mark.parametrize("name", PREDICTORS)
def test_no_image_is_in_both_parts(name):
    codes, labels, image = _noise(60, 240)
    options = {"model": "linear"} if name == "dci" else PREDICTORS[name][0]
    scores = metrics.compute(name, codes, labels, **options)
    grouped = metrics.get(name)(codes, labels, groups=image, **options)
    assert scores.keys() == grouped.keys()
    for key, value in scores.items():
        np.testing.assert_array_equal(value, grouped[key], err_msg=key)
    assert scores["num_distinct_train"] + scores["num_distinct_test"] == len(np.unique(image))


@pytest.mark.parametrize("name", ["dci", "dci_es", "modularity_explicitness", "r2"])
def test_noise_is_predicted_from_other_rows_of_an_image_only(name):
    codes, labels, image = _noise(60, 500)
    codes = codes + 1e-3 * np.random.default_rng(1).standard_normal(codes.shape)  # no two rows are equal
    options, key = PREDICTORS[name]
    chance = {"modularity_explicitness": 0.5, "r2": 0.0}.get(name, 1 / 4)
    by_image = metrics.compute(name, codes, labels, groups=image, **options)[key]
    by_row = metrics.compute(name, codes, labels, **options)[key]
    assert by_image < chance + 0.2
    assert by_row > by_image + 0.05


@pytest.mark.parametrize("name", ["dci", "sap"])
def test_progress_is_reported_per_factor_and_changes_no_score(name):
    codes, labels, _ = _noise(60, 90, num_values=2, num_latents=2)
    calls = []
    scores = metrics.compute(name, codes, labels, progress=lambda *call: calls.append(call))
    assert calls == [(0, 2), (1, 2), (2, 2)]
    for key, value in metrics.compute(name, codes, labels).items():
        np.testing.assert_array_equal(scores[key], value)


def test_exception_of_progress_cancels_waiting_work():
    begin, ran = threading.Event(), []

    def task(number):
        if number:
            begin.wait(10)
        ran.append(number)

    def interrupt(done, total):
        raise KeyboardInterrupt

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        futures = [pool.submit(task, number) for number in range(10)]
        with pytest.raises(KeyboardInterrupt):
            progress.report_progress(futures, interrupt)
        begin.set()
    assert len(ran) <= 2


def test_shared_values_are_required_of_classes_only():
    columns, continuous = [np.array([0, 0, 1, 1]), np.arange(4.0)], np.array([False, True])
    held_out.check_shared_values(columns, continuous, np.array([0, 2]), np.array([1, 3]))
    with pytest.raises(ValueError, match="factor 0"):
        held_out.check_shared_values(columns, continuous, np.array([0]), np.array([3]))


@pytest.mark.parametrize("name", PREDICTORS)
def test_factor_that_is_constant_in_a_part_is_refused(name):
    codes, _ = toy_codes.noisy(60)
    train, test = held_out.split(60, None, 0)
    factors = np.arange(60)[:, None] % 2
    factors[train] = 0
    with pytest.raises(ValueError, match="factor 0 is constant in the training part"):
        metrics.get(name)(codes, factors)
    if name in ("modularity_explicitness", "r2"):
        factors = np.arange(60)[:, None] % 2
        factors[test] = 0
        with pytest.raises(ValueError, match="factor 0 is constant in the test part"):
            metrics.get(name)(codes, factors)


@pytest.mark.parametrize("name", ["dci", "dci_es", "sap"])
def test_a_factor_without_a_value_in_the_test_part_is_refused_by_name(name):
    factor = np.random.default_rng(0).integers(0, 4, (400, 1))
    with pytest.raises(ValueError, match="no value of factor 0"):
        metrics.compute(name, factor * 1.0, factor)
    assert metrics.compute(name, factor * 1.0, factor, groups=np.arange(400))  # they are different images


@pytest.mark.parametrize("name", PREDICTORS)
@pytest.mark.parametrize(
    ("options", "field"),
    [({"num_train": n}, "num_train") for n in (0, 60, -1, 3.0)]
    + [({"seed": seed}, "seed") for seed in (-1, 2**32, None, 0.5)]
    + [({"groups": np.arange(59)}, "groups"), ({"groups": np.zeros(60, int)}, "distinct images")],
)
def test_bad_split_is_refused(name, options, field):
    with pytest.raises(ValueError, match=field):
        metrics.get(name)(*toy_codes.noisy(60), **options)
